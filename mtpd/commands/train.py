"""Trains a progression, its control or a plain config.

The tool imports this last, so that it can say before what is missing.
"""
import argparse
import copy
import logging

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mtpd.backbones import other_normalisation
from mtpd.command_line import plain_errors, read_config
from mtpd.compat.processes import init_processes
from mtpd.plan.describe import describe_plan
from mtpd.plan.errors import PlanError
from mtpd.plan.start_check import amp_problems
from mtpd.progression import check, make_plan, run_progression
from mtpd.progression.control import (control_config, describe_gain,
                                      run_control)
from mtpd.progression.history import read_history
from mtpd.progression.prepare import Checked
from mtpd.progression.start import describe_known_aps


def train(args: argparse.Namespace) -> None:
    """Train a config, or print its plan; errors have no traceback.

    Args:
        args: The tool's.
    """
    with plain_errors() as command:
        cfg = command.config = read_config(args)
        if 'mtpd' in cfg:
            train_in_stages(cfg, args)
        elif args.control or args.scratch:
            flag = '--control' if args.control else '--scratch'
            raise PlanError([f'{flag}: {args.config} has no mtpd part. '
                             'Name the config of a progression.'])
        elif args.dry_run:
            print(f'{args.config} has no mtpd part: plain mmdet training to '
                  f'{cfg.work_dir}.')
            warn_of_normalisation(cfg)
        else:
            train_plainly(cfg, args.resume)


def train_in_stages(cfg: Config, args: argparse.Namespace) -> None:
    """Train a progression or its control, or show what would be trained.

    Raises:
        PlanError: Something is wrong or missing.
    """
    if args.resume not in (None, 'auto'):
        raise PlanError([
            f'--resume {args.resume}: a progression finds its stage and '
            'checkpoint in the work dir. Use --resume without a file, and '
            '--work-dir.'])
    resume = args.resume is not None
    if args.control or args.scratch:
        train_control(cfg, args)
        if args.dry_run or args.scratch:
            return
    elif args.dry_run:
        dry_run(cfg, resume)
        return
    else:
        run_progression(copy.deepcopy(cfg), resume=resume,
                        with_probe=not args.no_probe)
    if is_main_process():
        print(describe_gain(read_history(make_plan(cfg))))


def train_control(cfg: Config, args: argparse.Namespace) -> None:
    """Train the control of a progression, or show what would be trained.

    Raises:
        PlanError: Something is wrong or missing.
    """
    plan = make_plan(cfg)
    if args.control and not plan.distils:
        raise PlanError(['--control: mtpd.distill has weight 0, so this '
                         'progression is its own control. Leave --control '
                         'out.'])
    history = read_history(plan)
    if args.dry_run:
        dry_run(control_config(cfg, history, args.scratch), resume=True)
    else:
        run_control(cfg, history, scratch=args.scratch)


def dry_run(cfg: Config, resume: bool) -> None:
    """Print the plan of a progression and everything that would stop it.

    Raises:
        PlanError: With everything that is wrong or missing.
    """
    init_processes(cfg)
    checked = check(cfg, resume=resume, fetches=False)
    if is_main_process():
        _show(cfg, checked)
    if checked.problems:
        raise PlanError(checked.problems)


def _show(cfg: Config, checked: Checked) -> None:
    if not checked.of_settings:
        print(describe_plan(checked.plan))
        for note in checked.notes:
            print(f'Note: {note}')
        print(describe_known_aps(checked.plan))
    # The machine that prints a plan need not be the one that trains.
    for note in amp_problems(cfg):
        print(f'On this machine it could not start: {note}')


def train_plainly(cfg: Config, resume: str | None) -> None:
    """Train as mmdet's own tools/train.py does."""
    init_processes(cfg)
    warn_of_normalisation(cfg)
    cfg.resume = resume is not None or cfg.get('resume', False)
    if resume is not None:
        cfg.load_from = None if resume == 'auto' else resume
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg \
        else Runner.from_cfg(cfg)
    runner.train()


def warn_of_normalisation(cfg: Config) -> None:
    """Say if pretrained weights get images that they were not trained on."""
    difference = other_normalisation(cfg)
    if difference:
        print_log(difference, 'current', logging.WARNING)
