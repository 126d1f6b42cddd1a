"""Find the order of the teachers: costs, selection, JSON and charts.

    python tools/bgs_order.py configs/mtpd_retina.py

Writes order.json, adaptation_cost.png and teacher_order.png to
<work-dir>/order; tools/train.py uses the result while it fits the config.
Started again after a stop, or with another teacher in the config, it resumes
from the sums that it has saved there. Another pool, student, choice of levels
or number of teachers needs only the file, and no image:

    python tools/bgs_order.py --from <work-dir>/order/order.json \\
        --teachers swin_t x101 --max-teachers 1 --out another_folder
"""
import argparse
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))
CONFIG_FLAGS = ('images', 'split', 'sequential')
SAVED_FLAGS = ('teachers', 'student', 'strides', 'out')


def main() -> None:
    flags = SHARED.parser(__doc__, config_needed=False)
    flags.add_argument('--max-teachers', type=int, help='maximum number of '
                       "teachers, instead of the config's; with --from, no "
                       'limit by default')
    flags.add_argument('--results', metavar='JSON', type=os.path.expanduser,
                       help='a file {"first > second": AP, ...} of students '
                       'trained in these orders; the table then shows the '
                       'best of them')
    measuring = flags.add_argument_group('with a config')
    measuring.add_argument('--images', metavar='N|all|auto', help='number of '
                           'images to measure on; auto stops when every '
                           'decision is certain')
    measuring.add_argument('--split', choices=['train', 'val', 'unlabelled'],
                           help='the data set of these images')
    measuring.add_argument('--sequential', nargs='?', const=8., type=float,
                           metavar='GIB', help='run detectors that do not fit '
                           'into memory together one at a time, with up to '
                           'GIB of maps on disk (%(const)g without a number)')
    choosing = flags.add_argument_group('instead of a config')
    choosing.add_argument('--from', dest='saved', metavar='ORDER_JSON',
                          type=os.path.expanduser,
                          help='find another order from saved costs')
    choosing.add_argument('--teachers', nargs='+', metavar='NAME',
                          help='the pool; all teachers by default')
    choosing.add_argument('--student', metavar='NAME',
                          help='any of the detectors; by default the same')
    choosing.add_argument('--strides', type=int, nargs='+',
                          help='the levels; all by default')
    choosing.add_argument('--out', metavar='FOLDER', type=os.path.expanduser,
                          help='where to write order.json and the charts')
    args = flags.parse_args()
    SHARED.stop_if(*wrong_flags(args))
    SHARED.stop_if(SHARED.missing_config(args.config),
                   SHARED.missing_file(args.saved, '--from'),
                   SHARED.missing_file(args.results, '--results'))
    from mtpd.commands.bgs_order import find_order
    find_order(args)


def wrong_flags(args: argparse.Namespace) -> list[str]:
    """Flags that contradict each other or would do nothing."""
    if (args.config is None) == (args.saved is None):
        return ['Name a config, or a saved order with --from.']
    if args.saved and args.out is None:
        return ['--from needs --out FOLDER, so that it does not overwrite the '
                'order that training uses.']
    flags: tuple[str, ...] = CONFIG_FLAGS if args.saved else SAVED_FLAGS
    reason = '--from measures nothing' if args.saved else (
        'a config sets this itself (mtpd.teachers, mtpd.strides, --work-dir)')
    return [f'--{name} has no effect here: {reason}. Leave it out.'
            for name in flags if getattr(args, name) is not None]


if __name__ == '__main__':
    main()
