"""Find the order of the teachers: costs, selection, JSON and pictures.

    python tools/bgs_order.py configs/mtpd_retina.py

Writes order.json, adaptation_cost.png and teacher_order.png to
<work-dir>/order; tools/train.py uses the result while it fits. Stopped and
started again, it goes on from the sums that it has saved there; so it does
with another teacher in the config. Other pools, students, levels and numbers
of teachers follow from the file, without a look at a picture:

    python tools/bgs_order.py --from <work-dir>/order/order.json \\
        --teachers swin_t x101 --max-teachers 1 --out another_folder
"""
import argparse
import json
import os

from mmengine.dist import is_main_process

from mtpd.compat.atomic_files import atomic_write
from mtpd.progression import order_teachers, prepare
from mtpd.progression.command_line import parser, plain_errors, read_config
from mtpd.progression.plan import PlanError
from mtpd.progression.run import show_order, unwritable
from mtpd.progression.search import FoundOrder, reorder
from mtpd.report.tables import rivals_table


def main() -> None:
    made = parser(__doc__, config_needed=False)
    made.add_argument('--from', dest='saved', metavar='ORDER_JSON',
                      help='choose anew from saved costs, instead of a config')
    made.add_argument('--teachers', nargs='+', metavar='NAME',
                      help='with --from: the pool; all if left out')
    made.add_argument('--student', metavar='NAME',
                      help='with --from: any of the detectors')
    made.add_argument('--max-teachers', type=int,
                      help='with --from: no limit if left out')
    made.add_argument('--strides', type=int, nargs='+',
                      help='with --from: the levels; all if left out')
    made.add_argument('--out', metavar='FOLDER', help='with --from: where to '
                      'write order.json and the pictures')
    made.add_argument('--images', metavar='N|all|auto', help='on how many '
                      'pictures to measure; auto stops when every decision is '
                      'certain')
    made.add_argument('--split', choices=['train', 'val'],
                      help='whose pictures')
    made.add_argument('--sequential', nargs='?', const=8., type=float,
                      metavar='GIB', help='run detectors that do not fit '
                      'together one at a time, with so many GiB of maps on '
                      'disk (%(const)g without a number)')
    made.add_argument('--results', metavar='JSON', help='a file {"first > '
                      'second": AP, ...} of students trained in these orders; '
                      'the best of them stands beside the other rules')
    args = made.parse_args()
    with plain_errors():
        if (args.config is None) == (args.saved is None):
            raise PlanError(['Name a config, or a saved order with --from.'])
        found, folder = from_saved(args) if args.saved else from_config(args)
        results = read_results(args.results) if args.results else None
        if is_main_process():
            print(rivals_table(found.rivals(results)))
            print(f'Written to {folder}')


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
    for key, value in (('images', images), ('split', args.split),
                       ('sequential', args.sequential)):
        if value is not None:
            cfg.merge_from_dict({f'mtpd.costs.{key}': value})
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
    except (KeyError, ValueError) as error:
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


if __name__ == '__main__':
    main()
