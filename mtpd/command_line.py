"""What the tools share: mmdet's own flags, and errors without a traceback."""
import argparse
import logging
import os
import sys
from contextlib import contextmanager
from typing import Iterator

from mmengine.config import Config, DictAction
from mmengine.logging import print_log

import mtpd  # noqa: F401  (registers everything before a config is read)
from mtpd.backbones import fill_in_channels
from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     UnsafeCheckpoint)
from mtpd.compat.processes import leave_processes
from mtpd.distill.branch import NotFinite
from mtpd.distill.detector import CheckpointMismatch
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.plan.detectors import load_config
from mtpd.plan.errors import PlanError
from mtpd.predict import UnusableInput
from mtpd.plan.start_check import amp_problems
from mtpd.progression.prepare import DiskFull
from mtpd.stage.preemption import Preempted


def parser(description: str,
           config_needed: bool = True) -> argparse.ArgumentParser:
    """A parser with the flags of mmdet's ``tools/train.py`` that every tool
    takes.

    Args:
        description: The tool's help.
        config_needed: Whether the tool always needs a config.
    """
    flags = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('config', nargs=None if config_needed else '?',
                       help='config file, or mmdet::family/name.py')
    flags.add_argument('--work-dir', help='where results are written; '
                       'work_dirs/<name of the config> unless set here or in '
                       'the config')
    flags.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='override fields of the config, such as mtpd.max_teachers=1 or '
        'mtpd.order=swin_t,swin_s')
    flags.add_argument('--launcher', default='none',
                       choices=['none', 'pytorch', 'slurm', 'mpi'])
    flags.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return flags


def add_training_flags(flags: argparse.ArgumentParser) -> None:
    """``--resume``, ``--amp``, ``--auto-scale-lr`` as mmdet has them."""
    flags.add_argument('--amp', action='store_true',
                       help='train in automatic mixed precision')
    flags.add_argument('--auto-scale-lr', action='store_true',
                       help='scale the learning rate with the batch size')
    flags.add_argument('--resume', nargs='?', const='auto', metavar='FILE',
                       help='continue with what the work dir holds (a '
                       'progression finds stage and epoch by itself; a plain '
                       'config also takes a checkpoint)')


def read_config(args: argparse.Namespace) -> Config:
    """The config that the flags ask for.

    Raises:
        PlanError: A flag or the backbone cannot be used here.
        FileNotFoundError: There is no such config.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    _warn_of_a_name(args.config)
    use_own_modules()
    cfg = load_config(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
        try:
            fill_in_channels(cfg)  # the backbone may be another now
        except (ImportError, ValueError) as error:
            raise PlanError([f'model.backbone with --cfg-options: {error}']) \
                from error
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        stem = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = os.path.join('work_dirs', stem)
    if hasattr(args, 'amp'):
        _apply_training_flags(cfg, args)
    return cfg


def use_own_modules() -> None:
    """Let a config import what lies where the command is run."""
    sys.path.append(os.getcwd())


def _warn_of_a_name(config: str) -> None:
    """Say what a config named like the package does to scripts beside it."""
    if os.path.basename(config) == 'mtpd.py':
        print_log(f'{config} has the name of the package: in a script beside '
                  "it, 'import mtpd' finds the config and not the package. "
                  'Rename it, for example to progression.py; no other file '
                  'depends on its name.', 'current', logging.WARNING)


def _apply_training_flags(cfg: Config, args: argparse.Namespace) -> None:
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if 'mtpd' not in cfg and not getattr(args, 'dry_run', False):
        problems = amp_problems(cfg)  # a progression looks by itself
        if problems:
            raise PlanError(problems)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise PlanError(['--auto-scale-lr needs '
                             'auto_scale_lr.base_batch_size in the config: '
                             'the total batch that optimizer.lr is meant '
                             'for.'])
        cfg.auto_scale_lr.enable = True


@contextmanager
def plain_errors() -> Iterator[None]:
    """Within the block, an error that the user can mend ends the process with
    its message, without a traceback."""
    try:
        yield
        leave_processes()
    except Preempted as stop:
        if stop.agreed:
            leave_processes()
        raise
    except (PlanError, OtherTeacher, CheckpointMismatch, DiskFull,
            UnsafeCheckpoint, CorruptCheckpoint,
            CheckpointUnavailable, FileNotFoundError, NotFinite,
            UnusableInput) as error:
        sys.exit(f'{type(error).__name__}: {error}')
