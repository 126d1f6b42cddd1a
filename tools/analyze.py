"""Where a gain comes from: a comparison of two runs of one student.

    python tools/analyze.py WORK_DIR WORK_DIR/alone --out FOLDER

The first run is the distilled progression, the second its baseline: the same
student trained for as long without distillation (tools/from_scratch.py trains
it; or run a progression with mtpd.distill.loss_weight=0). Writes
trajectory.png, landscape.png and analysis.json to FOLDER and prints a verdict.
What is measured and how: docs/analysis.md.
"""
import argparse
import json
import os
import sys

from mmengine.registry import DefaultScope

from mtpd.analysis.comparison import Comparison, Settings, compare_runs
from mtpd.analysis.runs import NotComparable, check_comparable, read_run
from mtpd.command_line import plain_errors
from mtpd.compat.atomic_files import atomic_write
from mtpd.progression.prepare import unwritable
from mtpd.provenance import command, versions
from mtpd.report.landscape import draw_landscapes, draw_trajectories
from mtpd.report.verdict import verdict
from mtpd.show.progress_bar import progress_bar


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', help='work dir of the distilled run')
    parser.add_argument('baseline', help='work dir of the run without '
                        'distillation')
    parser.add_argument('--out', required=True, metavar='FOLDER')
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
    settings = Settings(args.images, args.grid, args.range, args.radius,
                        args.directions, args.seed)
    problems = settings.problems() + unwritable(args.out, '--out ', '--out')
    if problems:
        sys.exit('\n'.join(problems))
    with plain_errors():
        try:
            comparison = measure(args, settings)
        except NotComparable as error:
            sys.exit(str(error))
        os.makedirs(args.out, exist_ok=True)
        draw_trajectories(comparison,
                          os.path.join(args.out, 'trajectory.png'))
        draw_landscapes(comparison, os.path.join(args.out, 'landscape.png'))
        lines = verdict(comparison)
        content = {'verdict': lines, 'command': command(),
                   'versions': versions(), **comparison.to_json()}
        atomic_write(os.path.join(args.out, 'analysis.json'),
                     json.dumps(content, indent=1).encode())
        print('\n'.join(lines))
        print(f'Written to {args.out}')


def measure(args: argparse.Namespace, settings: Settings) -> Comparison:
    """The comparison of both runs.

    Raises:
        NotComparable: They cannot be compared.
    """
    first = read_run(args.run, args.config)
    second = read_run(args.baseline, args.config)
    remarks = check_comparable(first, second)
    scope = first.student.config.get('default_scope') or 'mmdet'
    if DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance('mtpd', scope_name=scope)
    with progress_bar('Loss around two students') as progress:
        return compare_runs(first, second, settings, remarks, progress)


if __name__ == '__main__':
    main()
