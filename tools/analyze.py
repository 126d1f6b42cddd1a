"""Where a gain comes from: two runs of one student, held beside each other.

    python tools/analyze.py WORK_DIR WORK_DIR/alone --out FOLDER

The first run is the distilled progression, the second the same student
trained on without distillation (tools/from_scratch.py makes it; or a
progression with mtpd.distill.loss_weight=0). Writes trajectory.png,
landscape.png and analysis.json to FOLDER and prints what they say. What is
measured and how: docs/analysis.md.
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
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument('run', help='work dir of the distilled run')
    made.add_argument('beside', help='work dir of the run without')
    made.add_argument('--out', required=True, metavar='FOLDER')
    made.add_argument('--config', help="the student's config, instead of "
                      'student.py in each work dir')
    made.add_argument('--images', '--pictures', type=int, default=64,
                      metavar='N', help='training images (%(default)s)')
    made.add_argument('--grid', type=int, default=11, metavar='N',
                      help='points of the landscape each way, odd '
                      '(%(default)s)')
    made.add_argument('--range', type=float, default=1.0, metavar='R',
                      help='of the landscape, in filter norms (%(default)s)')
    made.add_argument('--radius', type=float, default=0.1, metavar='R',
                      help='at which sharpness is measured, in filter norms '
                      '(%(default)s)')
    made.add_argument('--directions', type=int, default=10, metavar='N',
                      help='that sharpness is the mean of (%(default)s)')
    made.add_argument('--seed', type=int, default=0)
    args = made.parse_args()
    settings = Settings(args.images, args.grid, args.range, args.radius,
                        args.directions, args.seed)
    problems = settings.problems() + unwritable(args.out, '--out ', '--out')
    if problems:
        sys.exit('\n'.join(problems))
    with plain_errors():
        try:
            found = measure(args, settings)
        except NotComparable as error:
            sys.exit(str(error))
    os.makedirs(args.out, exist_ok=True)
    draw_trajectories(found, os.path.join(args.out, 'trajectory.png'))
    draw_landscapes(found, os.path.join(args.out, 'landscape.png'))
    said = verdict(found)
    atomic_write(
        os.path.join(args.out, 'analysis.json'),
        json.dumps({'verdict': said, 'command': command(),
                    'versions': versions(), **found.to_json()},
                   indent=1).encode())
    print('\n'.join(said))
    print(f'Written to {args.out}')


def measure(args: argparse.Namespace, settings: Settings) -> Comparison:
    """Both runs, if they can be compared."""
    first, second = (read_run(folder, args.config)
                     for folder in (args.run, args.beside))
    remarks = check_comparable(first, second)
    scope = first.student.config.get('default_scope') or 'mmdet'
    if DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance('mtpd', scope_name=scope)
    with progress_bar('Loss around two students') as progress:
        return compare_runs(first, second, settings, remarks, progress)


if __name__ == '__main__':
    main()
