"""Baselines for Backward Greedy Selection: other rules from costs to an order.

All of them end with the teacher with the highest AP, except the best of the
measured orders. Rules that add up or compare costs into different targets
depend on the scale of each detector's maps; Backward Greedy Selection does
not.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .costs import AdaptationCosts
from .selection import (Cost, backward_greedy_selection, check_pool,
                        read_cost)

Edges = Mapping[tuple[str, str], float]
"""(source, target) -> cost; no path uses a pair that is left out."""


def shortest_path(cost: Cost, student: str, ap: Mapping[str, float],
                  max_teachers: int | None = None) -> tuple[str, ...]:
    """The path with the smallest sum of costs, from the student to the last.

    The last is the teacher with the highest AP; any others may come before
    it. Ties go to fewer teachers, then, from the last to the first, to the
    higher AP, then to the name that sorts first. Sums are rounded; sums that
    differ by less than rounding may count as equal.

    Args:
        cost: Read for all pairs but those out of the last teacher.
        student: Its name as a source of costs.
        ap: Teacher -> AP, in any one unit. These are the pool.
        max_teachers: Maximum number on the path; None sets no limit.

    Raises:
        ValueError: As ``backward_greedy_selection``, or a negative cost.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), compare with global
        optimisers and publish no details; the rules are ours.
    """
    check_pool(student, ap, max_teachers)
    return _shortest(_edges(cost, student, ap), student, ap, max_teachers)


def smallest_bottleneck(cost: Cost, student: str, ap: Mapping[str, float],
                        max_teachers: int | None = None) -> tuple[str, ...]:
    """The path whose largest cost is the smallest, from student to the last.

    Ties go to the smaller sum, then as in ``shortest_path``, whose arguments,
    errors and source these are.
    """
    check_pool(student, ap, max_teachers)
    edges = _edges(cost, student, ap)
    for limit in sorted(set(edges.values())):
        path = _shortest({pair: value for pair, value in edges.items()
                          if value <= limit}, student, ap, max_teachers)
        if path:  # at the largest limit at the latest: from student to last
            break
    return path


def ascending_ap(ap: Mapping[str, float], max_teachers: int | None = None
                 ) -> tuple[str, ...]:
    """The strongest ``max_teachers``, all if None, the weakest of them first.

    Of two with equal AP the name that sorts first comes later, so the last
    teacher is the same as in the other orders.

    Raises:
        ValueError: As ``backward_greedy_selection``.
    """
    check_pool('', ap, max_teachers)  # no student takes part
    return tuple(reversed(_strongest_first(ap)[:max_teachers]))


def forward_greedy(cost: Cost, student: str, ap: Mapping[str, float],
                   max_teachers: int | None = None) -> tuple[str, ...]:
    """Always the nearest next: the mirror image of looking back from the end.

    Next comes the remaining teacher with the smallest cost from the present
    detector, at first the student, then the teacher chosen last. It ends when
    that is the teacher with the highest AP; with ``max_teachers`` - 1 others
    chosen, that one comes at any cost. Ties go to the higher AP, so to the end
    where it takes part, then to the name that sorts first.

    Args:
        cost: Read only for pairs that are compared.
        student: Its name as a source of costs.
        ap: Teacher -> AP, in any one unit. These are the pool.
        max_teachers: Maximum number to choose; None sets no limit.

    Raises:
        ValueError: As ``backward_greedy_selection``.

    Source:
        The mirror image of Backward Greedy Selection; the rule is ours.
    """
    check_pool(student, ap, max_teachers)
    remaining = _strongest_first(ap)
    chosen: list[str] = []
    last, present = remaining[0], student
    while len(remaining) > 1 and len(chosen) + 1 != max_teachers:
        costs = {teacher: read_cost(cost, present, teacher)
                 for teacher in remaining}
        # The first, so the ties' rule.
        present = min(remaining, key=costs.__getitem__)
        if present == last:
            break
        chosen.append(present)
        remaining.remove(present)
    return *chosen, last


def exhaustive(result: Mapping[tuple[str, ...], float],
               max_teachers: int | None = None) -> tuple[str, ...]:
    """The order with the best result of those that were trained.

    Ties go to fewer teachers, then to the names that sort first.

    Args:
        result: Order -> AP of the student that was trained in it, in any one
            unit. ``()``, the student without a teacher, is no order.
        max_teachers: Longer orders do not count; None sets no limit.

    Raises:
        ValueError: A result that is missing or not finite, or no order of at
            most ``max_teachers``.
    """
    wrong = {order: value for order, value in result.items()
             if value is None or not math.isfinite(value)}
    if wrong:
        raise ValueError('The best order is chosen by result, so each needs a '
                         f'finite one; got {wrong}.')
    orders = [order for order in result
              if order and (max_teachers is None
                            or len(order) <= max_teachers)]
    if not orders:
        raise ValueError('Expected the result of at least one order'
                         + (f' of at most {max_teachers} teachers'
                            if max_teachers is not None else '')
                         + f'; got those of {list(result)}. Train in one.')
    return min(orders, key=lambda order: (-result[order], len(order), order))


@dataclass(frozen=True)
class OrderRow:
    """One rule, the order that it chose, and its costs.

    Attributes:
        name: Of the rule.
        teachers: First to last.
        total: Sum of costs from the student to the last teacher. Its terms are
            in squared units of different detectors' features.
        bottleneck: The largest of these costs, in squared units of one
            detector's features.
        normalised_total: Sum of the normalised costs along the order; None
            where one of its teachers has no variance to normalise by.
        result: Measured AP of the student trained in this order, None if
            there is none.
    """

    name: str
    teachers: tuple[str, ...]
    total: float
    bottleneck: float
    normalised_total: float | None
    result: float | None


def compare_orders(costs: AdaptationCosts, student: str,
                   ap: Mapping[str, float], max_teachers: int | None = None,
                   results: Mapping[tuple[str, ...], float] | None = None
                   ) -> list[OrderRow]:
    """Backward Greedy Selection and its baselines, all by the published cost.

    Args:
        costs: Between the student and all teachers.
        student: Its name in ``costs``.
        ap: Teacher -> AP, in any one unit. These are the pool.
        max_teachers: Maximum number in an order; None sets no limit.
        results: Order -> AP of the student that was trained in it. With any,
            the last row is the best of them.

    Raises:
        ValueError: As the functions that are compared.
    """
    asked = costs.cost, student, ap, max_teachers
    orders = {
        'backward greedy': backward_greedy_selection(*asked).teachers,
        'shortest path': shortest_path(*asked),
        'smallest bottleneck': smallest_bottleneck(*asked),
        'forward greedy': forward_greedy(*asked),
        'ascending AP': ascending_ap(ap, max_teachers)}
    if results:
        orders['best measured'] = exhaustive(results, max_teachers)
    return [_row(name, teachers, costs, student, results or {})
            for name, teachers in orders.items()]


def _row(name: str, teachers: tuple[str, ...], costs: AdaptationCosts,
         student: str, results: Mapping[tuple[str, ...], float]) -> OrderRow:
    pairs = list(zip((student, *teachers[:-1]), teachers, strict=True))
    values = [costs.cost(*pair) for pair in pairs]
    try:
        normalised = sum(costs.normalised_cost(*pair) for pair in pairs)
    except ValueError:  # a constant target: cost() has found all pairs
        normalised = None
    return OrderRow(name, teachers, sum(values), max(values), normalised,
                    results.get(teachers))


def _strongest_first(ap: Mapping[str, float]) -> list[str]:
    return sorted(ap, key=lambda teacher: (-ap[teacher], teacher))


def _edges(cost: Cost, student: str, ap: Mapping[str, float]) -> Edges:
    """All but those out of the last teacher, where every path ends."""
    last, *others = _strongest_first(ap)
    edges = {}
    for source in (student, *others):
        for target in (last, *others):
            if source != target:
                edges[source, target] = read_cost(cost, source, target)
    negative = {pair: value for pair, value in edges.items() if value < 0}
    if negative:
        raise ValueError('Costs along a path must not be negative; got '
                         f'{negative}. A mean squared error cannot be.')
    return edges


def _shortest(edges: Edges, student: str, ap: Mapping[str, float],
              max_teachers: int | None) -> tuple[str, ...]:
    """Bellman-Ford by number of teachers; () if no path is short enough.

    Costs are not negative, so a walk that visits a teacher twice is never
    shorter than the same walk without the detour, and has more teachers: the
    winner repeats none.
    """
    pool = _strongest_first(ap)
    place = {teacher: i for i, teacher in enumerate(pool)}
    # Detector -> (sum, places of the walk's teachers from its end to its
    # start) of the best walk there with the present number of teachers.
    walks: dict[str, tuple[float, tuple[int, ...]]] = {student: (0., ())}
    arrived = []
    for _ in pool[:max_teachers]:
        longer: dict[str, tuple[float, tuple[int, ...]]] = {}
        for (source, target), value in edges.items():
            if source in walks:
                total, places = walks[source]
                walk = total + value, (place[target], *places)
                longer[target] = min(walk, longer.get(target, walk))
        walks = longer
        if pool[0] in walks:
            arrived.append(walks[pool[0]])
    # The first of equal sums has the fewest teachers.
    _, places = min(arrived, key=lambda walk: walk[0], default=(0., ()))
    return tuple(pool[i] for i in reversed(places))
