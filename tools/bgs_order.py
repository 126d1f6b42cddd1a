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
import json
import os

from mmengine.dist import is_main_process

from mtpd.command_line import Command, parser, plain_errors, read_config
from mtpd.compat.atomic_files import atomic_write
from mtpd.order.baselines import OrderRow
from mtpd.plan.errors import PlanError
from mtpd.progression import order_teachers, prepare
from mtpd.progression.prepare import unwritable
from mtpd.progression.show_order import show_order
from mtpd.search.found_order import FoundOrder, reorder
from mtpd.show.tables import baselines_table

CONFIG_FLAGS = ('images', 'split', 'sequential')
SAVED_FLAGS = ('teachers', 'student', 'strides', 'out')


def main() -> None:
    flags = parser(__doc__, config_needed=False)
    flags.add_argument('--max-teachers', type=int, help='maximum number of '
                       "teachers, instead of the config's; with --from, no "
                       'limit by default')
    flags.add_argument('--results', metavar='JSON', help='a file {"first > '
                       'second": AP, ...} of students trained in these '
                       'orders; the table then shows the best of them')
    measuring = flags.add_argument_group('with a config')
    measuring.add_argument('--images', metavar='N|all|auto', help='number of '
                           'images to measure on; auto stops when every '
                           'decision is certain')
    measuring.add_argument('--split', choices=['train', 'val'],
                           help='the data set of these images')
    measuring.add_argument('--sequential', nargs='?', const=8., type=float,
                           metavar='GIB', help='run detectors that do not fit '
                           'into memory together one at a time, with up to '
                           'GIB of maps on disk (%(const)g without a number)')
    choosing = flags.add_argument_group('instead of a config')
    choosing.add_argument('--from', dest='saved', metavar='ORDER_JSON',
                          help='find another order from saved costs')
    choosing.add_argument('--teachers', nargs='+', metavar='NAME',
                          help='the pool; all teachers by default')
    choosing.add_argument('--student', metavar='NAME',
                          help='any of the detectors; by default the same')
    choosing.add_argument('--strides', type=int, nargs='+',
                          help='the levels; all by default')
    choosing.add_argument('--out', metavar='FOLDER',
                          help='where to write order.json and the charts')
    args = flags.parse_args()
    with plain_errors() as command:
        problems = wrong_flags(args)
        if problems:
            raise PlanError(problems)
        results = read_results(args.results) if args.results else None
        found, folder = from_saved(args) if args.saved \
            else from_config(args, command)
        if is_main_process():
            print(baselines_table(with_results(found, results)))
            print(f'Written to {folder}')


def wrong_flags(args: argparse.Namespace) -> list[str]:
    """Flags that contradict each other or would do nothing."""
    if (args.config is None) == (args.saved is None):
        return ['Name a config, or a saved order with --from.']
    flags: tuple[str, ...] = CONFIG_FLAGS if args.saved else SAVED_FLAGS
    reason = '--from measures nothing' if args.saved else (
        'a config sets this itself (mtpd.teachers, mtpd.strides, --work-dir)')
    return [f'--{name} has no effect here: {reason}. Leave it out.'
            for name in flags if getattr(args, name) is not None]


def from_config(args: argparse.Namespace,
                command: Command) -> tuple[FoundOrder, str]:
    """The order of a config's pool, and the folder that it was written to.

    Args:
        args: The flags.
        command: Is told the config.

    Raises:
        PlanError: The config cannot be used.
    """
    cfg = command.config = read_config(args)
    if 'mtpd' not in cfg:
        raise PlanError([f'{args.config} has no mtpd part, so there is no '
                         'pool to order.'])
    cfg.mtpd.order = 'bgs'  # also where training has an order by hand
    images = args.images and (int(args.images) if args.images.isdigit()
                              else args.images)
    costs = dict(cfg.mtpd.get('costs') or {})
    for key, value in (('images', images), ('split', args.split),
                       ('sequential', args.sequential)):
        if value is not None:
            costs[key] = value
    if costs:
        cfg.mtpd.costs = costs
    if args.max_teachers is not None:
        cfg.mtpd.max_teachers = args.max_teachers
    plan, pool = prepare(cfg, trains=False)
    return order_teachers(plan, pool), plan.paths.order_folder


def from_saved(args: argparse.Namespace) -> tuple[FoundOrder, str]:
    """Another order from saved costs, and the folder that it was written to.

    Raises:
        PlanError: The file or a flag cannot be used.
    """
    if args.out is None:
        raise PlanError(['--from needs --out FOLDER, so that it does not '
                         'overwrite the order that training uses.'])
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
    """Order -> AP from ``{"first > second": AP}``.

    Raises:
        PlanError: The file has another form.
    """
    results = {}
    try:
        with open(path) as file:
            for order, ap in json.load(file).items():
                names = tuple(name.strip() for name in order.split('>'))
                results[names] = float(ap)
    except (AttributeError, TypeError, ValueError) as error:
        raise PlanError([f'--results {path}: {error}. Expected '
                         '{"first > second": AP, ...}.']) from error
    return results


def with_results(found: FoundOrder,
                 results: dict[tuple[str, ...], float] | None
                 ) -> list[OrderRow]:
    """The orders of all rules, and the best order of ``results``.

    Raises:
        PlanError: ``results`` are of other teachers, or of no order that fits.
    """
    names = {name for order in results or () for name in order}
    unknown = sorted(names - set(found.aps))
    if unknown:
        raise PlanError([f'--results names {unknown}, and the teachers are '
                         f'{sorted(found.aps)}. Correct the names.'])
    try:
        return found.baselines(results)
    except ValueError as error:
        raise PlanError([f'--results: {error}']) from error


if __name__ == '__main__':
    main()
