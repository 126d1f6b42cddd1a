"""What the tools share: mmdet's own flags and how they change a config."""
import argparse
import os
import sys
from contextlib import contextmanager
from typing import Iterator

from mmengine.config import Config, DictAction
from mmengine.device import (is_cuda_available, is_mlu_available,
                             is_musa_available, is_npu_available)

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
from mtpd.progression.prepare import DiskFull
from mtpd.stage.preemption import Preempted


def parser(description: str,
           config_needed: bool = True) -> argparse.ArgumentParser:
    """With the flags of mmdet's ``tools/train.py`` that every tool takes."""
    made = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument('config', nargs=None if config_needed else '?',
                      help='config file, or mmdet::family/name.py')
    made.add_argument('--work-dir', help='where results are written; '
                      'work_dirs/<name of the config> unless set here or in '
                      'the config')
    made.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='override fields of the config, such as mtpd.max_teachers=1 or '
        'mtpd.order=swin_t,swin_s')
    made.add_argument('--launcher', default='none',
                      choices=['none', 'pytorch', 'slurm', 'mpi'])
    made.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return made


def add_training_flags(made: argparse.ArgumentParser) -> None:
    """``--resume``, ``--amp``, ``--auto-scale-lr`` as mmdet has them."""
    made.add_argument('--amp', action='store_true',
                      help='train in automatic mixed precision')
    made.add_argument('--auto-scale-lr', action='store_true',
                      help='scale the learning rate with the batch size')
    made.add_argument('--resume', nargs='?', const='auto', metavar='FILE',
                      help='go on with what the work dir holds (a progression '
                      'finds stage and epoch by itself; a plain config also '
                      'takes a checkpoint)')


def read_config(args: argparse.Namespace) -> Config:
    """The config that the flags ask for."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    # A config's own classes lie where the command is run.
    sys.path.append(os.getcwd())
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
    if getattr(args, 'amp', False):
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    # A plan may be looked at, and costs be measured, on another machine.
    if hasattr(args, 'amp') and not getattr(args, 'dry_run', False):
        _need_a_device_for_amp(cfg)
    if getattr(args, 'auto_scale_lr', False):
        scaling = cfg.get('auto_scale_lr') or {}
        if 'base_batch_size' not in scaling:
            raise PlanError(['--auto-scale-lr needs '
                             'auto_scale_lr.base_batch_size in the config: '
                             'the total batch that optimizer.lr is meant '
                             'for.'])
        cfg.auto_scale_lr.enable = True
    return cfg


def _need_a_device_for_amp(cfg: Config) -> None:
    # Those that mmengine's AmpOptimWrapper asks for.
    if (cfg.get('optim_wrapper') or {}).get('type') == 'AmpOptimWrapper' \
            and not any(there() for there in (
                is_cuda_available, is_mlu_available, is_musa_available,
                is_npu_available)):
        raise PlanError([
            'optim_wrapper.type is AmpOptimWrapper (--amp sets it), and '
            'mmengine trains in mixed precision on a GPU, NPU, MLU or MUSA '
            'alone; PyTorch sees none of them here. Train where there is '
            "one, or without --amp and with optim_wrapper.type='OptimWrapper'"
            '.'])


@contextmanager
def plain_errors() -> Iterator[None]:
    """What a user can mend ends with its message, not with a traceback."""
    try:
        yield
        leave_processes()
    except Preempted as stop:
        if stop.agreed:
            leave_processes()
        raise
    except (PlanError, OtherTeacher, CheckpointMismatch, DiskFull,
            UnsafeCheckpoint, CorruptCheckpoint,
            CheckpointUnavailable, FileNotFoundError, NotFinite) as error:
        sys.exit(f'{type(error).__name__}: {error}')
