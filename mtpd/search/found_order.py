"""An order and everything that led to it, as order.json holds it."""
import json
import logging
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Mapping, Sequence

from mmengine.logging import print_log

from mtpd.compat.atomic_files import atomic_write
from mtpd.order import (AdaptationCosts, Decision, OrderRow, TeachingOrder,
                        backward_greedy_selection, compare_orders,
                        decision_margins)
from mtpd.plan.settings import is_number
from mtpd.provenance import differences
from mtpd.statistics import TWO_ERRORS

SCHEMA = 3
"""Version of order.json. Version 1 has neither folds nor ``max_teachers``, so
its decisions have no margins; version 2 has no latencies, settings and
versions. Both can be read."""


@dataclass(frozen=True)
class FoundOrder:
    """An order with everything that led to it.

    Attributes:
        order: The teachers and the reason of each step.
        costs: The cost matrix that it was chosen from.
        aps: Box AP of each teacher, in percent, as declared or measured.
        belongs_to: Hashes of what was measured, and how.
        max_teachers: The maximum number of teachers; None for no limit.
        certainty: What counts as certain, see ``mtpd.statistics.t_limit``.
        student_ap: Box AP of the student in percent, None if unknown.
        latencies: Detector -> seconds of a prediction; empty if unknown.
        made_with: Command, files, settings, number of images and versions,
            with which it can be repeated.
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
        return next(name for name in self.costs.names
                    if name not in self.aps)

    @property
    def images(self) -> int:
        """The number of images that the costs are of; 0 if unknown."""
        return self.made_with.get('pictures', 0)

    def ap_of(self, name: str, checkpoint: str | None) -> float | None:
        """Box AP in percent of a detector; None if unknown, or if that was
        of other weights.

        Args:
            name: Of the student or a teacher.
            checkpoint: The hash of its weights.
        """
        detectors = self.belongs_to.get('detectors', {})
        if detectors.get(name, {}).get('checkpoint') != checkpoint:
            return None
        return self.student_ap if name == self.student else self.aps.get(name)

    def decisions(self) -> list[Decision]:
        """How sure each step of the order is."""
        return self._decisions

    def uncertain(self) -> list[Decision]:
        """The decisions that more images could change."""
        return [decision for decision in self._decisions
                if decision.certain is False]

    def has_enough_images(self, count: int | str | None, total: int) -> bool:
        """Whether the costs are of as many images as are asked for.

        Args:
            count: ``mtpd.costs.images``.
            total: The number of images that there are.
        """
        if self.images >= total:
            return True
        if isinstance(count, int):
            return self.images >= count
        # 'auto' or not set: as many as the decisions need.
        return bool(self.images) and count != 'all' and not self.uncertain()

    def describe(self, total: int) -> str:
        """One line: images, teachers, and the decisions that are not certain.

        Args:
            total: The number of images that there are.
        """
        uncertain = self.uncertain()
        if uncertain:
            state = 'not certain: ' + '; '.join(
                decision.describe() for decision in uncertain)
            if self.images == total:
                state += '; there are no more images'
        else:
            state = 'every decision certain; no more images are needed'
        return (f'After {self.images} of {total} images: '
                f'{" > ".join(self.order.teachers)}, {state}')

    @cached_property
    def _decisions(self) -> list[Decision]:
        return decision_margins(self.costs, self.order, self.student,
                                self.aps, self.max_teachers, self.certainty)

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
        content: dict[str, Any] = {'schema': SCHEMA}
        for name in ('belongs_to', 'made_with', 'aps', 'latencies'):
            content[name] = dict(getattr(self, name))
        for name in ('student_ap', 'max_teachers', 'certainty'):
            content[name] = getattr(self, name)
        content['order'] = self.order.to_json()
        content['decisions'] = [decision.describe()
                                for decision in self.decisions()]
        content['costs'] = self.costs.to_json()
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> 'FoundOrder':
        """What ``to_json`` was called on.

        Raises:
            KeyError, TypeError, ValueError: It is no order, or a newer version
                wrote it.
        """
        if not isinstance(content, Mapping) or not isinstance(
                content.get('schema'), int):
            raise ValueError('this is no order.json: it has no schema.')
        if not 1 <= content['schema'] <= SCHEMA:
            raise ValueError(
                f'this order.json has schema {content["schema"]!r}; this '
                f'version reads 1 to {SCHEMA}. Measure again, or update mtpd.')
        order = TeachingOrder.from_json(content['order'])
        try:
            costs = AdaptationCosts.from_json(content['costs'])
        except (AttributeError, IndexError, StopIteration) as error:
            raise ValueError(f'its costs are damaged ({error}).') from error
        # Entries that an earlier version did not write have their defaults.
        later = {name: content[name] for name in (
            'max_teachers', 'certainty', 'student_ap', 'latencies',
            'made_with') if name in content}
        _check_numbers(**later)
        return cls(order, costs, content['aps'], content['belongs_to'],
                   **later)

    @classmethod
    def read(cls, path: str) -> 'FoundOrder':
        """The order in a file.

        Raises:
            KeyError, TypeError, ValueError: See ``from_json``.
        """
        with open(path) as file:
            return cls.from_json(json.load(file))

    def write(self, path: str) -> None:
        """Write a file that ``read`` reads."""
        atomic_write(path, json.dumps(self.to_json(), indent=1).encode())


def _check_numbers(certainty: Any = .5, student_ap: Any = None,
                   latencies: Any = MappingProxyType({}),
                   **others: Any) -> None:
    """Refuse what is no number where ``FoundOrder`` has one.

    Raises:
        ValueError: There is such a value.
    """
    if not is_number(certainty) or not 0 < certainty < 1:
        raise ValueError(f'certainty is {certainty!r}; it has to be a number '
                         'between 0 and 1.')
    if student_ap is not None and not is_number(student_ap):
        raise ValueError(f'student_ap is {student_ap!r}, which is no number.')
    if not isinstance(latencies, Mapping) \
            or not all(map(is_number, latencies.values())):
        raise ValueError(f'latencies are {latencies!r}; they have to be '
                         'numbers by name.')


def saved_order(path: str, belongs_to: Mapping[str, Any]
                ) -> FoundOrder | None:
    """The order in a file; None if there is none that belongs to the same.

    Args:
        path: Of the file.
        belongs_to: What the costs have to depend on.
    """
    if not os.path.isfile(path):
        return None
    try:
        saved = FoundOrder.read(path)
    except (KeyError, TypeError, ValueError) as error:
        print_log(f'{path} cannot be used: {error}', logger='current',
                  level=logging.WARNING)
        return None
    lines = differences(saved.belongs_to, belongs_to)
    if lines:
        print_log(f'{path} belongs to something else, so its costs are not '
                  'used:\n  ' + '\n  '.join(lines), logger='current')
        return None
    return saved


def reorder(found: FoundOrder, teachers: Sequence[str] | None = None,
            student: str | None = None, max_teachers: int | None = None,
            strides: Sequence[int] | None = None) -> FoundOrder:
    """Another order from the same costs, without a pass over images.

    Args:
        found: What was measured.
        teachers: The pool; None keeps all but the student.
        student: Any detector of the costs; None keeps it.
        max_teachers: Of the new order; None sets no limit.
        strides: The levels; None keeps all.

    Raises:
        ValueError: A detector or a level that was not measured, a name that
            occurs twice, or ``max_teachers`` beyond the pool.
    """
    student = student or found.student
    known = dict(found.aps)
    if found.student_ap is not None:
        known[found.student] = found.student_ap
    if teachers is None:
        teachers = [name for name in found.aps if name != student]
    names = [student, *teachers]
    if len(set(names)) < len(names):
        raise ValueError(f'Student {student} and teachers {list(teachers)}: '
                         'a name occurs twice. Name each detector once.')
    unknown = sorted(set(teachers) - set(known))
    if unknown:
        raise ValueError(f'No AP of {unknown} was measured, so they cannot '
                         f'teach; those of {list(known)} were.')
    costs = found.costs.restricted(names, strides)
    aps = {name: known[name] for name in teachers}
    if max_teachers is not None and max_teachers > len(aps):
        raise ValueError(f'{max_teachers} teachers were asked for, and the '
                         f'pool has {len(aps)}: {list(aps)}.')
    order = backward_greedy_selection(costs.cost, student, aps, max_teachers)
    return replace(
        found, order=order, costs=costs, aps=aps, max_teachers=max_teachers,
        student_ap=known.get(student),
        # It no longer follows from a config's pool and levels.
        belongs_to={**found.belongs_to, 'chosen_anew': True},
        made_with={**found.made_with, 'strides': list(costs.strides),
                   'max_teachers': max_teachers})
