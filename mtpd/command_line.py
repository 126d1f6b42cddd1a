"""What the tools share: mmdet's own flags, and errors without a traceback."""
import argparse
import logging
import os
import sys
from contextlib import contextmanager
from typing import Iterator

from mmengine.config import Config
from mmengine.logging import print_log

import mtpd  # noqa: F401  (registers everything before a config is read)
from mtpd.backbones import fill_in_channels
from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     UnsafeCheckpoint)
from mtpd.compat.processes import leave_processes
from mtpd.distill.branch import NotFinite
from mtpd.distill.detector import CheckpointMismatch
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.flags import missing_config, parser
from mtpd.plan.detectors import load_config
from mtpd.plan.errors import PlanError
from mtpd.predict import UnusableInput
from mtpd.plan.start_check import amp_problems
from mtpd.progression.prepare import DiskFull
from mtpd.stage.preemption import Preempted

__all__ = ['parser', 'plain_errors', 'read_config']


def read_config(args: argparse.Namespace) -> Config:
    """The config that the flags ask for.

    Raises:
        PlanError: A flag or the backbone cannot be used here.
        FileNotFoundError: There is no such config.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    _warn_of_a_name(args.config)
    use_own_modules()
    missing = missing_config(args.config)
    if missing:
        raise PlanError([missing])
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
