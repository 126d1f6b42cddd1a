"""Finds the order of a pool from a config, or another from saved costs."""
import argparse
import json
import os
from typing import Collection, Mapping

from mmengine.dist import is_main_process

from mtpd.command_line import Command, plain_errors, read_config
from mtpd.compat.atomic_files import atomic_write
from mtpd.flags import unwritable
from mtpd.order.baselines import exhaustive
from mtpd.plan.errors import PlanError
from mtpd.progression import order_teachers, prepare
from mtpd.progression.show_order import show_order
from mtpd.search.found_order import FoundOrder, reorder
from mtpd.show.tables import baselines_table

Results = dict[tuple[str, ...], float]
"""Order -> AP of the student that was trained in it."""


def find_order(args: argparse.Namespace) -> None:
    """Write the order and print the table of all rules' orders; errors have
    no traceback.

    Args:
        args: The tool's.
    """
    with plain_errors() as command:
        results = read_results(args.results) if args.results else None
        found, folder = from_saved(args, results) if args.saved \
            else from_config(args, command, results)
        if is_main_process():
            print(baselines_table(found.baselines(results)))
            print(f'Written to {folder}')


def from_config(args: argparse.Namespace, command: Command,
                results: Results | None) -> tuple[FoundOrder, str]:
    """The order of a config's pool, and the folder that it was written to.

    Args:
        args: The flags.
        command: Is told the config.
        results: Those of orders that were trained.

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
    costs = cfg.mtpd.get('costs') or {}
    flags = {key: value for key, value in (
        ('images', images), ('split', args.split),
        ('sequential', args.sequential)) if value is not None}
    # Anything else is for the plan to explain.
    if flags and isinstance(costs, Mapping):
        cfg.mtpd.costs = {**costs, **flags}
    if args.max_teachers is not None:
        cfg.mtpd.max_teachers = args.max_teachers
    plan, pool = prepare(cfg, trains=False)
    if results is not None:
        check_results(results, plan.teachers, plan.max_teachers)
    return order_teachers(plan, pool), plan.paths.order_folder


def from_saved(args: argparse.Namespace,
               results: Results | None) -> tuple[FoundOrder, str]:
    """Another order from saved costs, and the folder that it was written to.

    Args:
        args: The flags.
        results: Those of orders that were trained.

    Raises:
        PlanError: The file or a flag cannot be used.
    """
    problems = unwritable(args.out, '--out ', '--out')
    if problems:
        raise PlanError(problems)
    try:
        with open(args.saved) as file:
            found = reorder(FoundOrder.from_json(json.load(file)),
                            args.teachers, args.student, args.max_teachers,
                            args.strides)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PlanError([
            f'--from: {args.saved} is no JSON ({error}). Name an order.json, '
            'as this tool writes it.']) from error
    except (IsADirectoryError, KeyError, TypeError, ValueError) as error:
        raise PlanError([f'{args.saved}: {error}']) from error
    if results is not None:
        check_results(results, found.aps, found.max_teachers)
    os.makedirs(args.out, exist_ok=True)
    atomic_write(os.path.join(args.out, 'order.json'),
                 json.dumps(found.to_json(), indent=1).encode())
    show_order(found, args.out)
    return found, args.out


def read_results(path: str) -> Results:
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


def check_results(results: Results, teachers: Collection[str],
                  max_teachers: int | None) -> None:
    """Whether results are of orders that could have been chosen.

    Args:
        results: Those of orders that were trained.
        teachers: The pool's names.
        max_teachers: See :func:`exhaustive`.

    Raises:
        PlanError: They are of other teachers, or of no order that fits.
    """
    names = {name for order in results for name in order}
    unknown = sorted(names - set(teachers))
    if unknown:
        raise PlanError([f'--results names {unknown}, and the teachers are '
                         f'{sorted(teachers)}. Correct the names.'])
    try:
        exhaustive(results, max_teachers)
    except ValueError as error:
        raise PlanError([f'--results: {error}']) from error
