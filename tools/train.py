"""Train a config: a progression if it has an `mtpd` part, else plain mmdet.

    python tools/train.py configs/mtpd_retina.py [--dry-run] [--resume]

What distillation gained is the difference to the control, the student trained
on alone for as long. The same command with --control trains it:

    python tools/train.py configs/mtpd_retina.py --control
"""
import runpy
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))


def main() -> None:
    flags = SHARED.parser(__doc__)
    SHARED.add_training_flags(flags)
    flags.add_argument('--dry-run', action='store_true',
                       help='print the plan and everything that would stop '
                       'it, and stop; nothing is downloaded')
    flags.add_argument('--no-probe', action='store_true',
                       help='start without the three trial steps per stage')
    controls = flags.add_mutually_exclusive_group()
    controls.add_argument('--control', action='store_true',
                          help='train the student on alone for as long as the '
                          'progression, in WORK_DIR/alone; started again '
                          'after a stop, it resumes')
    controls.add_argument('--scratch', action='store_true',
                          help='the same without its checkpoint, from the '
                          'first weights of its model, in WORK_DIR/scratch')
    args = flags.parse_args()
    resumed = None if args.resume == 'auto' else args.resume
    SHARED.stop_if(
        SHARED.missing_config(args.config),
        # Some runners of mmengine resume from a folder.
        SHARED.missing_file(resumed, '--resume', or_folder=True))
    from mtpd.commands.train import train
    train(args)


if __name__ == '__main__':
    main()
