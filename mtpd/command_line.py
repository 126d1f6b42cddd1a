"""What the tools share: mmdet's own flags, and errors without a traceback."""
import argparse
import logging
import os
import sys
import tempfile
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Iterator

from mmengine.config import Config
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log

import mtpd  # noqa: F401  (registers everything before a config is read)
from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     UnsafeCheckpoint)
from mtpd.compat.processes import leave_processes
from mtpd.config_types import dict_of
from mtpd.distill.auto_weight import NoGradient
from mtpd.distill.branch import NotFinite, ReadsBoxes, SingleValue
from mtpd.distill.detector import CheckpointMismatch
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.error_text import in_words, is_lost_connection, summary
from mtpd.flags import missing_config, parser
from mtpd.plan.detectors import fill_in, read_file
from mtpd.plan.errors import PlanError
from mtpd.plan.work_dir import UnreadableHistory
from mtpd.predict import UnusableInput
from mtpd.plan.start_check import amp_problems, unread_options
from mtpd.processes import FirstProcessFailed
from mtpd.progression.prepare import DiskFull
from mtpd.stage.preemption import Preempted

__all__ = ['Command', 'parser', 'plain_errors', 'read_config']

MISTAKES = (PlanError, OtherTeacher, CheckpointMismatch, DiskFull,
            UnsafeCheckpoint, CorruptCheckpoint, CheckpointUnavailable,
            NotFinite, NoGradient, ReadsBoxes, SingleValue,
            UnreadableHistory, UnusableInput)
"""mtpd's own errors, whose messages say all that a traceback could."""


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
    cfg, name = read_file(args.config), args.config
    cfg.launcher = args.launcher
    if args.cfg_options:
        try:
            cfg.merge_from_dict(args.cfg_options)
        except (AssertionError, AttributeError, KeyError, TypeError,
                ValueError) as error:
            raise PlanError([
                '--cfg-options does not go with the config: '
                f'{type(error).__name__}: {error}']) from error
        name += ' with --cfg-options'
        for warning in unread_options(cfg, args.cfg_options):
            print_log(warning, 'current', logging.WARNING)
    fill_in(cfg, name)  # only now: an option may change the backbone
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        stem = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = os.path.join('work_dirs', stem)
    # As the flag is; checkpoints are read with it, and mmengine writes to ~.
    cfg.work_dir = os.path.expanduser(cfg.work_dir)
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
        if not dict_of(cfg, 'optim_wrapper'):
            raise PlanError(['--amp needs optim_wrapper in the config, a '
                             "dict such as dict(type='OptimWrapper', "
                             'optimizer=...).'])
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if 'mtpd' not in cfg and not getattr(args, 'dry_run', False):
        problems = amp_problems(cfg)  # a progression looks by itself
        if problems:
            raise PlanError(problems)
    if args.auto_scale_lr:
        if 'base_batch_size' not in dict_of(cfg, 'auto_scale_lr'):
            raise PlanError(['--auto-scale-lr needs '
                             'auto_scale_lr.base_batch_size in the config: '
                             'the total batch that optimizer.lr is meant '
                             'for.'])
        cfg.auto_scale_lr.enable = True


@dataclass
class Command:
    """What is known of a command when it fails.

    Attributes:
        config: What it was given, once it is read.
        folder: Where it writes; None for the config's ``work_dir``.
    """
    config: Config | None = None
    folder: str | None = None

    def message(self, error: Exception) -> str | int:
        """What to print about an error; the exit code alone for nothing."""
        process = '' if get_world_size() == 1 else f'Process {get_rank()}: '
        if isinstance(error.__cause__, FirstProcessFailed):
            return 1
        if isinstance(error, MISTAKES):
            return f'{process}{type(error).__name__}: {error}'
        if process and is_lost_connection(error):
            return f'{process}another process of this job has ended.'
        words = in_words(error, self.config)
        where = self.save_traceback(error)
        if words is None:
            return (f'{process}Unexpected error. {where}\n'
                    f'{process}{summary(error)}')
        return f'{process}{words}\n{where}'

    def save_traceback(self, error: Exception) -> str:
        """Write a file for whoever has to look further; where it is.

        It lies in the command's folder if that exists already, or else among
        the temporary files.
        """
        folder = self.folder or (self.config or {}).get('work_dir', '')
        for place in (folder if os.path.isdir(folder) else None, None):
            with suppress(OSError):
                number, path = tempfile.mkstemp('.txt', 'error_', place)
                with open(number, 'w', errors='backslashreplace') as file:
                    print(*sys.argv, file=file)
                    traceback.print_exception(error, file=file)
                return f'The traceback is in {path}.'
        return 'Its traceback could not be saved.'


@contextmanager
def plain_errors() -> Iterator[Command]:
    """Within the block, an error ends the process with its message, what to do
    and exit code 1, without a traceback.

    The traceback of an error that is not mtpd's own goes to a file, which the
    message names. Where another process of the job has failed, this one ends
    without a message of its own, or with a line if it cannot know that.
    Ctrl-C ends it with one line.

    Yields:
        What the command does; it tells where a wrong setting stands, and
        where the file goes.
    """
    command = Command()
    shows = logging.raiseExceptions
    # A full disk would show a traceback for every line of the log.
    logging.raiseExceptions = False
    try:
        yield command
        leave_processes()
    except Preempted as stop:
        if stop.agreed:
            leave_processes()
        raise
    except KeyboardInterrupt:
        # Not by sys.exit: the process then ends by the signal, and with it a
        # loop in the shell.
        sys.excepthook = lambda *_: print('Interrupted.', file=sys.stderr)
        raise
    except Exception as error:
        sys.exit(command.message(error))
    finally:
        logging.raiseExceptions = shows
