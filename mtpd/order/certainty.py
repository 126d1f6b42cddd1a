"""How sure a teaching order is: the margin of each of its decisions."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtpd.statistics import TWO_ERRORS, Difference

from .costs import AdaptationCosts
from .selection import SelectionStep, TeachingOrder

# A margin that so many times the images would have to make certain, if the
# difference stayed as it is, is too small to foretell anything.
_MOST_IMAGES = 20


@dataclass(frozen=True)
class Comparison:
    """The two costs that a decision hung on.

    Attributes:
        target: Into which both costs are.
        cheaper: Whose cost was the smaller, or equal with precedence: the
            chosen teacher; where the selection stopped, the student.
        rival: Of those that lost to it, the one with the smallest margin.
        costs: The two costs, of ``cheaper`` and ``rival``, in squared units of
            the target's features.
        difference: Of these costs, so 0 or negative.
    """

    target: str
    cheaper: str
    runner_up: str
    costs: tuple[float, float]
    difference: Difference


@dataclass(frozen=True)
class Decision:
    """A step of a teaching order, and how sure it is.

    Attributes:
        step: The step.
        student: Its name as a source of costs.
        compared: None where no cost was compared: the final teacher is chosen
            by AP, and an order ends where teachers or their allowed number do.
        level: What counts as certain, see ``mtpd.statistics.t_limit``.
    """

    step: SelectionStep
    student: str
    compared: Comparison | None
    level: float = TWO_ERRORS

    @property
    def margin(self) -> float | None:
        """In standard errors; None if unknown or nothing was compared."""
        return None if self.compared is None \
            else self.compared.difference.margin

    @property
    def certain(self) -> bool | None:
        """Whether the margin is larger than wanted; None as ``margin``."""
        return None if self.compared is None \
            else self.compared.difference.is_certain(self.level)

    def describe(self) -> str:
        """One line, with both costs and the margin."""
        if self.compared is None:
            what = (f'final teacher {self.step.teacher}'
                    if self.step.teacher else 'stop')
            return f'{what}: no cost was compared'
        of = self.compared
        cheaper, runner_up = (
            "the student's" if name == self.student else name
            for name in (of.cheaper, of.runner_up))
        stop = '' if self.step.teacher else 'stop '
        return (f'{stop}before {of.target}: {cheaper} {of.costs[0]:.4g} '
                f'against {runner_up} {of.costs[1]:.4g}: '
                f'{_sureness(of.difference, self.level)}')


def decision_margins(costs: AdaptationCosts, order: TeachingOrder,
                     student: str, ap: Mapping[str, float],
                     max_teachers: int | None = None,
                     level: float = TWO_ERRORS) -> list[Decision]:
    """How sure each step of an order by Backward Greedy Selection is.

    A chosen teacher had to cost less than each remaining one and not more than
    the student; a stop, the student less than each remaining teacher. The
    decision is as sure as the closest of these comparisons, in standard
    errors of each one's own difference, which need not be the one with the
    second smallest cost. It needs no correction for their number: for a wrong
    choice to look certain, it must by chance beat the right one, whatever the
    others do.

    Args:
        costs: Those that the order was chosen from.
        order: With its steps.
        student: Its name as a source of costs.
        ap: Teacher -> AP, the pool.
        max_teachers: As the order was chosen with; it tells an end that was
            asked for from one by costs.
        level: What counts as certain, see ``mtpd.statistics.t_limit``.

    Returns:
        One for each step of the order, in this order.

    Raises:
        ValueError: A cost that is missing, or an order that other costs,
            another pool or another ``max_teachers`` led to.
    """
    decisions: list[Decision] = []
    remaining = sorted(ap, key=lambda name: (-ap[name], name))
    target: str | None = None
    for step in order.steps:
        ended = step.teacher is None and (
            not remaining or step.position - 1 == max_teachers)
        compared = None
        if target is not None and not ended:
            compared = _compared(costs, target, step.teacher, remaining,
                                 student)
        decisions.append(Decision(step, student, compared, level))
        if step.teacher is not None:
            if step.teacher not in remaining:
                raise ValueError(
                    f'The order has {step.teacher} at place {step.position} '
                    f'from its end, where the pool has {remaining} left. Give '
                    'the APs that it was chosen with.')
            remaining.remove(step.teacher)
            target = step.teacher
    return decisions


def _compared(costs: AdaptationCosts, target: str, chosen: str | None,
              remaining: Sequence[str], student: str) -> Comparison:
    cheaper = student if chosen is None else chosen
    baselines = [name for name in (*remaining, student) if name != cheaper]
    differences = {runner_up: costs.difference(cheaper, runner_up, target)
                   for runner_up in baselines}
    dearer = {runner_up: difference.value
              for runner_up, difference in differences.items()
              if difference.value > 0}
    if dearer:
        raise ValueError(
            f'These costs do not lead to this order: {cheaper} -> {target} '
            f'should cost the least and costs more than {sorted(dearer)}. '
            'Give the costs and the max_teachers that it was chosen with.')
    runner_up = min(baselines, key=lambda name: _closeness(differences[name]))
    return Comparison(
        target, cheaper, runner_up,
        (costs.cost(cheaper, target), costs.cost(runner_up, target)),
        differences[runner_up])


def _closeness(difference: Difference) -> float:
    margin = difference.margin
    return abs(difference.value) if margin is None else margin


def _sureness(difference: Difference, level: float) -> str:
    margin, wanted = difference.margin, difference.required_margin(level)
    if margin is None or wanted is None:
        return ('how sure is not known, these costs were saved without their '
                'folds; measure them anew')
    said = f'{margin:.1f} standard errors'
    if margin > wanted:
        return f'{said}, certain'
    # A standard error falls with the root of the number of images.
    more = (wanted / margin)**2 if margin else math.inf
    if more > _MOST_IMAGES:
        return f'{said}, not certain: these images do not tell them apart'
    return (f'{said}, not certain: about {math.ceil(10 * more) / 10:.2g} '
            'times as many images would tell')
