"""Where a gain comes from: a comparison of two runs of one student.

    python tools/analyze.py WORK_DIR WORK_DIR/alone --out FOLDER

The first run is the distilled progression, the second its baseline: the same
student trained for as long without distillation (tools/from_scratch.py trains
it; or run a progression with mtpd.distill.loss_weight=0). Writes
trajectory.png, landscape.png and analysis.json to FOLDER and prints a verdict.
What is measured and how: docs/analysis.md.
"""
import argparse
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', type=os.path.expanduser,
                        help='work dir of the distilled run')
    parser.add_argument('baseline', type=os.path.expanduser,
                        help='work dir of the run without distillation')
    parser.add_argument('--out', required=True, metavar='FOLDER',
                        type=os.path.expanduser)
    parser.add_argument('--config', help="the student's config, instead of "
                        'student.py in each work dir')
    parser.add_argument('--images', '--pictures', type=int, default=64,
                        metavar='N', help='number of training images '
                        '(%(default)s)')
    parser.add_argument('--grid', type=int, default=11, metavar='N',
                        help='points of the landscape in each direction, odd '
                        '(%(default)s)')
    parser.add_argument('--range', type=float, default=1.0, metavar='R',
                        help='the landscape reaches from -R to R, in filter '
                        'norms (%(default)s)')
    parser.add_argument('--radius', type=float, default=0.1, metavar='R',
                        help='distance at which sharpness is measured, in '
                        'filter norms (%(default)s)')
    parser.add_argument('--directions', type=int, default=10, metavar='N',
                        help='number of random directions that sharpness is '
                        'the mean of (%(default)s)')
    parser.add_argument('--seed', type=int, default=0,
                        help='of images and directions (%(default)s)')
    args = parser.parse_args()
    SHARED.stop_if(SHARED.missing_work_dir(args.run),
                   SHARED.missing_work_dir(args.baseline),
                   SHARED.missing_config(args.config, '--config'))
    from mtpd.commands.analyze import analyze
    analyze(args)


if __name__ == '__main__':
    main()
