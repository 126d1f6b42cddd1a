"""Find the order of the teachers: costs, selection, JSON and charts.

    python tools/bgs_order.py configs/mtpd_retina.py

Writes order.json, adaptation_cost.png and teacher_order.png to
<work-dir>/order; tools/train.py uses the result while it fits. Stopped and
started again, it goes on from the sums that it has saved there; so it does
with another teacher in the config. Other pools, students, levels and numbers
of teachers follow from the file, without a look at an image:

    python tools/bgs_order.py --from <work-dir>/order/order.json \\
        --teachers swin_t x101 --max-teachers 1 --out another_folder
"""
import argparse
import json
import os

from mmengine.dist import is_main_process

from mtpd.command_line import parser, plain_errors, read_config
from mtpd.compat.atomic_files import atomic_write
from mtpd.order.baselines import OrderRow
from mtpd.plan.errors import PlanError
from mtpd.progression import order_teachers, prepare
from mtpd.progression.prepare import unwritable
from mtpd.progression.teacher_order import show_order
from mtpd.search.found_order import FoundOrder, reorder
from mtpd.show.tables import baselines_table


OF_CONFIG = ('images', 'split', 'sequential')
OF_SAVED = ('teachers', 'student', 'strides', 'out')


def main() -> None:
    made = parser(__doc__, config_needed=False)
    made.add_argument('--max-teachers', type=int, help='instead of the '
                      "config's; with --from no limit if left out")
    made.add_argument('--results', metavar='JSON', help='a file {"first > '
                      'second": AP, ...} of students trained in these orders; '
                      'the best of them stands beside the other rules')
    measuring = made.add_argument_group('with a config')
    measuring.add_argument('--images', metavar='N|all|auto', help='on how '
                           'many images to measure; auto stops when every '
                           'decision is certain')
    measuring.add_argument('--split', choices=['train', 'val'],
                           help='whose images')
    measuring.add_argument('--sequential', nargs='?', const=8., type=float,
                           metavar='GIB', help='run detectors that do not fit '
                           'together one at a time, with so many GiB of maps '
                           'on disk (%(const)g without a number)')
    choosing = made.add_argument_group('instead of a config')
    choosing.add_argument('--from', dest='saved', metavar='ORDER_JSON',
                          help='choose anew from saved costs')
    choosing.add_argument('--teachers', nargs='+', metavar='NAME',
                          help='the pool; all if left out')
    choosing.add_argument('--student', metavar='NAME',
                          help='any of the detectors')
    choosing.add_argument('--strides', type=int, nargs='+',
                          help='the levels; all if left out')
    choosing.add_argument('--out', metavar='FOLDER',
                          help='where to write order.json and the charts')
    args = made.parse_args()
    with plain_errors():
        problems = wrong_flags(args)
        if problems:
            raise PlanError(problems)
        results = read_results(args.results) if args.results else None
        found, folder = from_saved(args) if args.saved else from_config(args)
        if is_main_process():
            print(baselines_table(with_results(found, results)))
            print(f'Written to {folder}')


def wrong_flags(args: argparse.Namespace) -> list[str]:
    """Flags that would do nothing."""
    if (args.config is None) == (args.saved is None):
        return ['Name a config, or a saved order with --from.']
    other, what = (OF_CONFIG, '--from measures nothing') if args.saved else (
        OF_SAVED, 'a config says this itself (mtpd.teachers, mtpd.strides, '
        '--work-dir)')
    return [f'--{name} has no place here: {what}.' for name in other
            if getattr(args, name) is not None]


def from_config(args: argparse.Namespace) -> tuple[FoundOrder, str]:
    """Measure what is not measured yet."""
    cfg = read_config(args)
    if 'mtpd' not in cfg:
        raise PlanError([f'{args.config} has no mtpd part, so there is no '
                         'pool to order.'])
    # What is asked for here is the search, whatever training would use.
    cfg.mtpd.order = 'bgs'
    images = args.images and (int(args.images) if args.images.isdigit()
                              else args.images)
    asked = {key: value for key, value in (
        ('images', images), ('split', args.split),
        ('sequential', args.sequential)) if value is not None}
    if asked:
        cfg.mtpd.costs = {**(cfg.mtpd.get('costs') or {}), **asked}
    if args.max_teachers is not None:
        cfg.mtpd.max_teachers = args.max_teachers
    plan = prepare(cfg)
    return order_teachers(plan), os.path.join(plan.work_dir, 'order')


def from_saved(args: argparse.Namespace) -> tuple[FoundOrder, str]:
    """Only choose."""
    if args.out is None:
        raise PlanError(['--from needs --out, so that nothing is written over '
                         'what training uses.'])
    problems = unwritable(args.out, '--out ', '--out')
    if problems:
        raise PlanError(problems)
    try:
        with open(args.saved) as file:
            found = reorder(FoundOrder.from_json(json.load(file)),
                            args.teachers, args.student, args.max_teachers,
                            args.strides)
    except (IsADirectoryError, KeyError, TypeError, ValueError) as error:
        raise PlanError([f'{args.saved}: {error}']) from error
    os.makedirs(args.out, exist_ok=True)
    atomic_write(os.path.join(args.out, 'order.json'),
                 json.dumps(found.to_json(), indent=1).encode())
    show_order(found, args.out)
    return found, args.out


def read_results(path: str) -> dict[tuple[str, ...], float]:
    """Order -> AP from ``{"first > second": AP}``."""
    try:
        with open(path) as file:
            return {tuple(name.strip() for name in order.split('>')):
                    float(ap) for order, ap in json.load(file).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise PlanError([f'--results {path}: {error}. Expected '
                         '{"first > second": AP, ...}.']) from error


def with_results(found: FoundOrder,
                 results: dict[tuple[str, ...], float] | None
                 ) -> list[OrderRow]:
    """The rules' orders, and the best of those that were trained in."""
    unknown = {name for order in results or () for name in order
               } - set(found.aps)
    if unknown:
        raise PlanError([f'--results names {sorted(unknown)}, who are not '
                         f'among the teachers {sorted(found.aps)}.'])
    try:
        return found.baselines(results)
    except ValueError as error:
        raise PlanError([f'--results: {error}']) from error


if __name__ == '__main__':
    main()
