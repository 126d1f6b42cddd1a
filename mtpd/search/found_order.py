"""An order and everything that led to it, as it lies in order.json."""
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Mapping, Sequence

from mtpd.order.baselines import OrderRow, compare_orders
from mtpd.order.certainty import Decision, decision_margins
from mtpd.order.costs import AdaptationCosts
from mtpd.order.selection import TeachingOrder, backward_greedy_selection
from mtpd.statistics import TWO_ERRORS

SCHEMA = 3
"""Version of order.json. 1 had neither folds nor ``max_teachers``, so its
decisions have no margins; 2 had no latencies, settings and versions. Both are
read."""


@dataclass(frozen=True)
class FoundOrder:
    """An order with everything that led to it.

    Attributes:
        order: The teachers and the reason of each step.
        costs: The cost matrix that it was chosen from.
        aps: Box AP of each teacher, in percent, as declared or measured.
        belongs_to: Hashes of what was measured.
        max_teachers: How many were asked for at most; None for no limit.
        certainty: What counts as certain, see ``mtpd.statistics.t_limit``.
        student_ap: Box AP of the student in percent, None if unknown.
        latencies: Detector -> seconds of a prediction; empty if unknown.
        made_with: Command, files, settings, number of images and versions,
            to make it again.
    """
    order: TeachingOrder
    costs: AdaptationCosts
    aps: Mapping[str, float]
    belongs_to: Mapping[str, Any]
    max_teachers: int | None = None
    certainty: float = TWO_ERRORS
    student_ap: float | None = None
    latencies: Mapping[str, float] = field(default_factory=dict)
    made_with: Mapping[str, Any] = field(default_factory=dict)

    @property
    def student(self) -> str:
        """Its name among the costs."""
        return next(n for n in self.costs.names if n not in self.aps)

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        return tuple(decision_margins(
            self.costs, self.order, self.student, self.aps,
            self.max_teachers, self.certainty))

    def decisions(self) -> tuple[Decision, ...]:
        """How sure each step of the order is; computed once."""
        return self._decisions

    def baselines(self, results: Mapping[tuple[str, ...], float] | None = None
                  ) -> list[OrderRow]:
        """What other rules would choose.

        Args:
            results: Order -> AP of the student that was trained in it.
        """
        return compare_orders(self.costs, self.student, self.aps,
                              self.max_teachers, results)

    def to_json(self) -> dict[str, Any]:
        """Plain values, see :data:`SCHEMA`."""
        return {'schema': SCHEMA, 'belongs_to': dict(self.belongs_to),
                'made_with': dict(self.made_with),
                'aps': dict(self.aps), 'student_ap': self.student_ap,
                'latencies': dict(self.latencies),
                'max_teachers': self.max_teachers,
                'certainty': self.certainty,
                'order': self.order.to_json(),
                'decisions': [d.describe() for d in self.decisions()],
                'costs': self.costs.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> 'FoundOrder':
        """The other way round.

        Raises:
            ValueError: It was written by a newer version, or is no order.
        """
        if not isinstance(content, Mapping) or not isinstance(
                content.get('schema'), int):
            raise ValueError('no order.json: it has no schema.')
        if not 1 <= content['schema'] <= SCHEMA:
            raise ValueError(
                f'an order.json of schema {content["schema"]!r}; this '
                f'version reads 1 to {SCHEMA}. Measure anew, or update mtpd.')
        return cls(TeachingOrder.from_json(content['order']),
                   AdaptationCosts.from_json(content['costs']),
                   content['aps'], content['belongs_to'],
                   content.get('max_teachers'),
                   content.get('certainty', TWO_ERRORS),
                   content.get('student_ap'), content.get('latencies', {}),
                   content.get('made_with', {}))


def reorder(found: FoundOrder, teachers: Sequence[str] | None = None,
            student: str | None = None, max_teachers: int | None = None,
            strides: Sequence[int] | None = None) -> FoundOrder:
    """Another order from the same costs; no image is looked at.

    Args:
        found: What was measured.
        teachers: The pool; None keeps all but the student.
        student: Any detector of the costs; None keeps it.
        max_teachers: Of the new order; None sets no limit.
        strides: The levels; None keeps all.

    Raises:
        ValueError: A detector or a level that was not measured, a name twice,
            or ``max_teachers`` beyond the pool.
    """
    student = student or found.student
    known = dict(found.aps)
    if found.student_ap is not None:
        known[found.student] = found.student_ap
    if teachers is None:
        teachers = [n for n in found.aps if n != student]
    names = [student, *teachers]
    if len(set(names)) < len(names):
        raise ValueError(f'Of student {student} and teachers '
                         f'{list(teachers)} one is named twice.')
    unknown = [n for n in teachers if n not in known]
    if unknown:
        raise ValueError(f'No AP of {unknown} was measured, so they cannot '
                         f'teach; there are those of {list(known)}.')
    costs = found.costs.restricted(names, strides)
    aps = {name: known[name] for name in teachers}
    if max_teachers is not None and max_teachers > len(aps):
        raise ValueError(f'{max_teachers} teachers were asked for, and the '
                         f'pool has {len(aps)}: {list(aps)}.')
    order = backward_greedy_selection(costs.cost, student, aps, max_teachers)
    return replace(
        found, order=order, costs=costs, aps=aps, max_teachers=max_teachers,
        student_ap=known.get(student),
        # It is no longer what a config's pool and levels lead to.
        belongs_to={**found.belongs_to, 'chosen_anew': True},
        made_with={**found.made_with, 'strides': list(costs.strides),
                   'max_teachers': max_teachers})
