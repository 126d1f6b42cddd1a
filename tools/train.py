"""Train a config: a progression if it has an `mtpd` part, else plain mmdet.

    python tools/train.py configs/mtpd_retina.py [--dry-run] [--resume]
"""
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mtpd.command_line import (add_training_flags, parser, plain_errors,
                               read_config)
from mtpd.compat.processes import init_processes
from mtpd.plan.describe import describe_plan
from mtpd.plan.errors import PlanError
from mtpd.plan.start_check import amp_problems
from mtpd.progression import check, run_progression


def main() -> None:
    flags = parser(__doc__)
    add_training_flags(flags)
    flags.add_argument('--dry-run', action='store_true',
                       help='print the plan and everything that would stop it, '
                       'and stop; nothing is downloaded')
    flags.add_argument('--no-probe', action='store_true',
                       help='start without the three trial steps per stage')
    args = flags.parse_args()
    with plain_errors():
        cfg = read_config(args)
        if 'mtpd' not in cfg and args.dry_run:
            print(f'{args.config} has no mtpd part: plain mmdet training to '
                  f'{cfg.work_dir}.')
        elif 'mtpd' not in cfg:
            train_plainly(cfg, args.resume)
        elif args.dry_run:
            dry_run(cfg, args.resume is not None)
        else:
            if args.resume not in (None, 'auto'):
                raise PlanError([
                    f'--resume {args.resume}: a progression finds its stage '
                    'and checkpoint in the work dir. Use --resume without a '
                    'file, and --work-dir.'])
            run_progression(cfg, resume=args.resume is not None,
                            with_probe=not args.no_probe)


def dry_run(cfg: Config, resume: bool) -> None:
    """Print the plan of a progression and everything that would stop it.

    Raises:
        PlanError: With everything that is wrong or missing.
    """
    checked = check(cfg, resume=resume, fetches=False)
    if not checked.of_settings:
        print(describe_plan(checked.plan))
    # The machine that prints a plan need not be the one that trains.
    for note in amp_problems(cfg):
        print(f'On this machine it could not start: {note}')
    if checked.problems:
        raise PlanError(checked.problems)


def train_plainly(cfg: Config, resume: str | None) -> None:
    """Train as mmdet's own tools/train.py does."""
    init_processes(cfg)
    cfg.resume = resume is not None or cfg.get('resume', False)
    if resume is not None:
        cfg.load_from = None if resume == 'auto' else resume
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg \
        else Runner.from_cfg(cfg)
    runner.train()


if __name__ == '__main__':
    main()
