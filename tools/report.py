"""Write one page about a progression, finished or not.

    python tools/report.py work_dirs/mtpd_retina

The page is one HTML file that needs no other file and no network. It may be
written while the progression runs; then use --no-measure, or each slows the
other and the latencies are wrong.
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
    parser.add_argument('work_dir', type=os.path.expanduser,
                        help='of the progression')
    parser.add_argument('--out', metavar='FILE', type=os.path.expanduser,
                        help='where to write the '
                        'page; by default WORK_DIR/report.html')
    parser.add_argument('--config', metavar='FILE', type=os.path.expanduser,
                        help='the config that the progression was run with; '
                        'by default WORK_DIR/config.py')
    parser.add_argument('--control', metavar='FOLDER',
                        type=os.path.expanduser, help='work dir of the '
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
    SHARED.stop_if(SHARED.missing_work_dir(args.work_dir),
                   SHARED.missing_config(args.config, '--config'),
                   SHARED.missing_work_dir(args.control, '--control'),
                   *SHARED.unwritable_file(args.out, '--out'))
    from mtpd.commands.report import report
    report(args)


if __name__ == '__main__':
    main()
