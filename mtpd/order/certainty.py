"""How certain a teaching order is: the margin of each of its decisions."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtpd.statistics import TWO_ERRORS, Difference

from .costs import AdaptationCosts
from .selection import SelectionStep, TeachingOrder

# If the difference stayed the same, this many times as many images would make
# it certain. Beyond that a margin is too small to predict anything.
_MAX_TIMES_IMAGES = 20


@dataclass(frozen=True)
class Comparison:
    """The two costs that decided a step.

    Attributes:
        target: Both are costs into this detector.
        cheaper: The source with the smaller cost, or with precedence if both
            are equal: the chosen teacher; where the selection stopped, the
            student.
        runner_up: Of all other sources, the one with the smallest margin.
        costs: Those of ``cheaper`` and ``runner_up``, in squared units of the
            target's features.
        difference: Between these costs, so 0 or negative.
    """

    target: str
    cheaper: str
    runner_up: str
    costs: tuple[float, float]
    difference: Difference


@dataclass(frozen=True)
class Decision:
    """A step of a teaching order, and how certain it is.

    Attributes:
        step: The step.
        student: Its name as a source of costs.
        compared: None where no cost was compared: the final teacher is chosen
            by AP, and an order ends when no teacher is left or their maximum
            number is reached.
        level: Confidence level at which a step counts as certain, see
            ``mtpd.statistics.t_limit``.
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
        """Whether the margin is large enough; None as ``margin``."""
        return None if self.compared is None \
            else self.compared.difference.is_certain(self.level)

    def describe(self) -> str:
        """One line, with both costs and the margin."""
        if self.compared is None:
            what = (f'final teacher {self.step.teacher}'
                    if self.step.teacher else 'stop')
            return f'{what}: no cost was compared'
        compared = self.compared
        cheaper, runner_up = (
            "the student's" if name == self.student else name
            for name in (compared.cheaper, compared.runner_up))
        cost, other = compared.costs
        stop = '' if self.step.teacher else 'stop '
        return (f'{stop}before {compared.target}: {cheaper} {cost:.4g} '
                f'against {runner_up} {other:.4g}: '
                f'{_describe_margin(compared.difference, self.level)}')


def decision_margins(costs: AdaptationCosts, order: TeachingOrder,
                     student: str, ap: Mapping[str, float],
                     max_teachers: int | None = None,
                     level: float = TWO_ERRORS) -> list[Decision]:
    """How certain each step of an order by Backward Greedy Selection is.

    A chosen teacher costs less than each remaining one and not more than the
    student; where the selection stopped, the student costs less than each
    remaining teacher. A step is as certain as the closest of these
    comparisons, in standard errors of each one's own difference; that need not
    be the one with the second smallest cost. The number of comparisons needs
    no correction: to look certain, a wrong choice must beat the right one by
    chance, whatever the others do.

    Args:
        costs: Those that the order was chosen from.
        order: With its steps.
        student: Its name as a source of costs.
        ap: Teacher -> AP, the pool.
        max_teachers: As for the selection; distinguishes an end at this number
            from an end by costs.
        level: Confidence level, see ``mtpd.statistics.t_limit``.

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

    def closeness(name: str) -> float:
        margin = differences[name].margin
        return abs(differences[name].value) if margin is None else margin

    runner_up = min(baselines, key=closeness)
    return Comparison(
        target, cheaper, runner_up,
        (costs.cost(cheaper, target), costs.cost(runner_up, target)),
        differences[runner_up])


def _describe_margin(difference: Difference, level: float) -> str:
    margin, required = difference.margin, difference.required_margin(level)
    if margin is None or required is None:
        return ('certainty unknown, these costs were saved without their '
                'folds; measure them again')
    errors = f'{margin:.1f} standard errors'
    if margin > required:
        return f'{errors}, certain'
    # A standard error falls with the root of the number of images.
    times = (required / margin)**2 if margin else math.inf
    if times > _MAX_TIMES_IMAGES:
        return f'{errors}, not certain: these images cannot distinguish them'
    return (f'{errors}, not certain: about {math.ceil(10 * times) / 10:.2g} '
            'times as many images would be enough')
