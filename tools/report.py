"""Write one page about a progression, finished or not.

    python tools/report.py work_dirs/mtpd_retina

The page is one HTML file that needs no other file and no network. It may be
written while the progression runs; then use --no-measure, or each slows the
other and the latencies are wrong.
"""
import argparse
import os
import sys
from datetime import datetime

from mmengine.registry import init_default_scope

from mtpd.command_line import plain_errors
from mtpd.compat.atomic_files import atomic_write
from mtpd.plan.errors import PlanError
from mtpd.plan.work_dir import WorkDir
from mtpd.progression.history import read_history, read_plan
from mtpd.progression.prepare import unwritable
from mtpd.report.detectors import detector_facts
from mtpd.report.examples import Examples, example_images
from mtpd.report.page import page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dir', help='of the progression')
    parser.add_argument('--out', metavar='FILE', help='where to write the '
                        'page; by default WORK_DIR/report.html')
    parser.add_argument('--config', metavar='FILE', help='the config that the '
                        'progression was run with; by default '
                        'WORK_DIR/config.py')
    parser.add_argument('--control', metavar='FOLDER', help='work dir of the '
                        'student trained on alone for as long; by default '
                        'WORK_DIR/alone, which tools/train.py --control and '
                        'tools/from_scratch.py write')
    parser.add_argument('--no-measure', action='store_true', help='leave out '
                        'latencies and APs that are not measured yet')
    parser.add_argument('--images', '--pictures', type=int, default=4,
                        metavar='N', help='number of example images '
                        '(%(default)s)')
    args = parser.parse_args()
    if args.images < 0:
        parser.error(f'--images is {args.images}; it has to be 0 or more.')
    out = args.out or WorkDir(args.work_dir).report
    # A config may import modules from where the command is run.
    sys.path.append(os.getcwd())
    with plain_errors() as command:
        command.folder = args.work_dir
        plan = read_plan(args.work_dir, args.config)
        problems = unwritable(os.path.dirname(out) or '.', '--out ', '--out')
        if args.control and not os.path.isfile(WorkDir(args.control).record):
            problems.append(f'--control {args.control} holds no progression '
                            '(there is no progression.json). Name the work '
                            'dir of the student trained on alone.')
        if problems:
            raise PlanError(problems)
        init_default_scope(plan.student.config.get('default_scope') or 'mmdet')
        history = read_history(plan, args.control)
        facts = detector_facts(history, measure=not args.no_measure)
        examples = example_images(history, args.images) \
            if args.images else Examples((), ())
        atomic_write(out, page(history, facts, examples,
                               datetime.now()).encode())
    print(out)


if __name__ == '__main__':
    main()
