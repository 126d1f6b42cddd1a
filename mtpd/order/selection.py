"""The rule by which the order of the teachers is chosen from costs.

``mtpd.search.find_order`` measures the costs and applies the rule, where
``mtpd.order`` is 'bgs'; ``mtpd.plan.plan`` reads an order given by hand.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

Cost = Callable[[str, str], float]
"""(source, target) -> cost, e.g. ``AdaptationCosts.cost``."""


@dataclass(frozen=True)
class SelectionStep:
    """One decision.

    Attributes:
        position: Place in the order, counted from its end; 1 is the final
            teacher.
        teacher: Chosen for this place; None where the selection stopped.
        reason: In words.
    """

    position: int
    teacher: str | None
    reason: str


@dataclass(frozen=True)
class TeachingOrder:
    """Teachers in the order in which they teach, and why.

    Attributes:
        teachers: First to last.
        steps: In the order of decisions, from the last teacher to the first.
    """

    teachers: tuple[str, ...]
    steps: tuple[SelectionStep, ...]

    @property
    def stop_reason(self) -> str:
        """Why no more teachers were chosen; empty if none were selected by a
        rule."""
        if not self.steps or self.steps[-1].teacher is not None:
            return ''
        reason = self.steps[-1].reason
        return reason[:1].upper() + reason[1:]

    def to_json(self) -> dict:
        """Plain values for ``json.dump``; ``from_json`` reads them."""
        return dict(teachers=list(self.teachers),
                    steps=[asdict(step) for step in self.steps])

    @classmethod
    def from_json(cls, order: Mapping) -> TeachingOrder:
        """The order whose ``to_json`` this is.

        Raises:
            ValueError: An entry of ``to_json`` is missing.
        """
        if not {'teachers', 'steps'} <= set(order):
            raise ValueError("Not a teaching order: expected 'teachers' and "
                             f"'steps'; got {sorted(order)}.")
        return cls(tuple(order['teachers']),
                   tuple(SelectionStep(**step) for step in order['steps']))


def backward_greedy_selection(cost: Cost, student: str,
                              ap: Mapping[str, float],
                              max_teachers: int | None = None
                              ) -> TeachingOrder:
    """Order the teachers, so that each prepares the student for the next.

    They are chosen from the last to the first. The last one is the teacher
    with the highest AP. Before each chosen one
    comes the remaining teacher with the smallest cost to it, unless that is
    larger than the student's own cost to it. Ties go to the higher AP, then to
    the name that sorts first; a cost equal to the student's does not stop
    the selection.

    Args:
        cost: Read only for pairs that are compared; only costs into one target
            are compared with one another.
        student: Its name as a source of costs.
        ap: Teacher -> AP, in any one unit. These are the pool.
        max_teachers: Maximum number to choose; None sets no limit.

    Raises:
        ValueError: An empty pool, the student in it, ``max_teachers`` below 1,
            or an AP or a needed cost that is missing or not finite.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), Backward Greedy Selection.
        The rules for ties are ours; none were published.
    """
    check_pool(student, ap, max_teachers)
    remaining = sorted(ap, key=lambda teacher: (-ap[teacher], teacher))
    chosen = [remaining.pop(0)]  # later teachers are put in front
    steps = [SelectionStep(1, chosen[0], f'final teacher {chosen[0]}: '
                                         f'highest AP {ap[chosen[0]]:#.3g}')]
    while remaining and len(chosen) != max_teachers:
        target = chosen[0]
        student_cost = read_cost(cost, student, target)
        costs = {teacher: read_cost(cost, teacher, target)
                 for teacher in remaining}
        # The first of equal costs, as `remaining` is sorted by the rule.
        nearest = min(remaining, key=costs.__getitem__)
        helps = costs[nearest] <= student_cost
        steps.append(SelectionStep(
            len(chosen) + 1, nearest if helps else None,
            _reason(target, nearest, costs, student_cost)))
        if not helps:
            return TeachingOrder(tuple(chosen), tuple(steps))
        chosen.insert(0, nearest)
        remaining.remove(nearest)
    count = len(chosen)
    teachers = '1 teacher was' if count == 1 else f'{count} teachers were'
    steps.append(SelectionStep(
        count + 1, None, f'stop: {teachers} asked for' if remaining
        else 'stop: no teacher is left'))
    return TeachingOrder(tuple(chosen), tuple(steps))


def _reason(target: str, nearest: str, costs: Mapping[str, float],
            student_cost: float) -> str:
    cost, student = _format(costs[nearest]), _format(student_cost)
    if costs[nearest] > student_cost:
        return (f'stop before {target}: the cheapest, {nearest}, costs '
                f"{cost}, more than the student's own {student}")
    others = ', '.join(f'{name} {_format(other)}'
                       for name, other in costs.items() if name != nearest)
    rank = (f'is the smallest of the remaining ({others})' if others
            else 'of the only one remaining')
    return (f'before {target}: {nearest}, cost {cost} {rank} and not larger '
            f"than the student's {student}")


def _format(cost: float) -> str:
    # Costs into quiet maps can be tiny; 0.000 would hide who won.
    return f'{cost:.3f}' if abs(cost) >= .01 else f'{cost:.3g}'


def read_cost(cost: Cost, source: str, target: str) -> float:
    """A cost that must exist and be finite.

    Raises:
        ValueError: It is missing or not finite.
    """
    try:
        value = cost(source, target)
    except KeyError as error:
        raise ValueError(f'The cost {source} -> {target} is needed and '
                         'missing. Measure it.') from error
    if not math.isfinite(value):
        raise ValueError(f'The cost {source} -> {target} must be finite; got '
                         f'{value}.')
    return value


def check_pool(student: str, ap: Mapping[str, float],
               max_teachers: int | None) -> None:
    """Refuse a pool from which no order can be chosen.

    Raises:
        ValueError: An empty pool, the student in it, ``max_teachers`` below 1,
            or an AP that is missing or not finite.
    """
    if not ap:
        raise ValueError('The pool is empty: give the AP of at least one '
                         'teacher.')
    if student in ap:
        raise ValueError(f'The student {student} is in the pool of teachers '
                         f'{list(ap)}. Name them differently.')
    wrong = {teacher: value for teacher, value in ap.items()
             if value is None or not math.isfinite(value)}
    if wrong:
        raise ValueError('The last teacher is chosen by AP, so each needs a '
                         f'finite one; got {wrong}.')
    if max_teachers is not None and max_teachers < 1:
        raise ValueError('max_teachers must be at least 1, or None for no '
                         f'limit; got {max_teachers}.')
