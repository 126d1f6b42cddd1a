"""The order of the teachers: taken from the config, from disk, or found."""
import json
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Callable, Mapping, Sequence

from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     UnsafeCheckpoint, fetch_checkpoint,
                                     read_checkpoint)
from mtpd.data.teacher_view import unsupported_steps, with_teacher_view
from mtpd.distill.auto_weight import is_off
from mtpd.distill.detector import (CheckpointMismatch, build_detector,
                                   own_randomness, pyramid_channels)
from mtpd.distill.guidance import make_guidance
from mtpd.distill.preprocessor import DistillDataPreprocessor
from mtpd.distill.teacher import FrozenTeacher
from mtpd.order.adaptation_cost import (POSITIONS_PER_COEFFICIENT,
                                        AdaptationCosts, costs_on_own_grids,
                                        fit_linear_map)
from mtpd.order.certainty import Decision, decision_margins
from mtpd.order.moments import FeatureMoments
from mtpd.order.rivals import OrderRow, compare_orders
from mtpd.order.selection import TeachingOrder, backward_greedy_selection

from .measure import (check_aps, fingerprint, gather_moments, measured_aps,
                      test_pipeline)
from .plan import DetectorSpec, Plan, PlanError, inner_datasets

MOST_PADDING = 256
"""A student's batch may be padded to multiples of so many pixels."""

SCHEMA = 2
"""Version of order.json. 1 had neither folds nor ``max_teachers``; it is read
all the same, and its decisions have no margins."""

FITTING_PICTURES = 1000
"""Over these even P7 (11x7 positions of 1333x800) gives 300 positions for
each of 257 coefficients."""


@dataclass(frozen=True)
class FoundOrder:
    """An order with everything that led to it.

    Attributes:
        order: The teachers and the reason of each step.
        costs: The cost matrix that it was chosen from.
        aps: Box AP of each teacher, in percent, as declared or measured.
        belongs_to: Hashes of what was measured.
        max_teachers: How many were asked for at most; None for no limit.
    """
    order: TeachingOrder
    costs: AdaptationCosts
    aps: Mapping[str, float]
    belongs_to: Mapping[str, Any]
    max_teachers: int | None = None

    @property
    def student(self) -> str:
        """Its name among the costs."""
        return next(n for n in self.costs.names if n not in self.aps)

    def decisions(self) -> list[Decision]:
        """How sure each step of the order is."""
        return decision_margins(self.costs, self.order, self.student,
                                self.aps, self.max_teachers)

    def rivals(self) -> list[OrderRow]:
        """What other rules would choose."""
        return compare_orders(self.costs, self.student, self.aps,
                              self.max_teachers)

    def to_json(self) -> dict[str, Any]:
        """Plain values, see :data:`SCHEMA`."""
        return {'schema': SCHEMA, 'belongs_to': dict(self.belongs_to),
                'aps': dict(self.aps), 'max_teachers': self.max_teachers,
                'order': self.order.to_json(),
                'decisions': [d.describe() for d in self.decisions()],
                'costs': self.costs.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> 'FoundOrder':
        """The other way round.

        Raises:
            ValueError: It was written by a newer version, or is no order.
        """
        if not 1 <= content.get('schema', 0) <= SCHEMA:
            raise ValueError(
                f'an order.json of schema {content.get("schema")!r}; this '
                f'version reads 1 to {SCHEMA}. Measure anew, or update mtpd.')
        return cls(TeachingOrder.from_json(content['order']),
                   AdaptationCosts.from_json(content['costs']),
                   content['aps'], content['belongs_to'],
                   content.get('max_teachers'))


def build_pool(plan: Plan) -> dict[str, BaseDetector]:
    """Student and teachers, built and strictly loaded; the student first.

    Each pair's levels and classes are looked at too, so that the last stage's
    mistake is found before the first.

    Raises:
        PlanError: With all mismatches.
    """
    specs = [plan.student, *(plan.teachers[n] for n in plan.used)]
    pool, problems = {}, []
    with own_randomness(0):
        for spec in specs:
            try:
                pool[spec.name] = build_detector(
                    spec.model, spec.checkpoint, f'{spec.field}.checkpoint')
            except (CheckpointMismatch, CheckpointUnavailable,
                    CorruptCheckpoint, UnsafeCheckpoint, TypeError,
                    FileNotFoundError) as error:
                problems.append(str(error))
        if 'student' in pool:
            for spec in specs[1:]:
                if spec.name in pool:
                    problems += _unpairable(plan, pool, spec)
    if problems:
        # A wrong mechanism is the same problem with every teacher.
        raise PlanError(list(dict.fromkeys(problems)))
    _say_other_classes(plan, specs)
    return pool


def _unpairable(plan: Plan, pool: Mapping[str, BaseDetector],
                teacher: DetectorSpec) -> list[str]:
    """Why a teacher cannot teach this student: levels, heads, mechanism,
    preprocessing, pipeline."""
    if is_off(plan.distill):
        return []
    problems = []
    student = pool['student']
    try:
        guidance = make_guidance(
            student, FrozenTeacher(pool[teacher.name]), teacher.name,
            plan.distill, plan.strides, plan.adapter,
            None if plan.init_adapters == 'fitted' else plan.init_adapters)
        if guidance.mechanism.uses_scores:
            problems += _other_classes(plan.student, teacher)
    except ValueError as error:
        problems.append(str(error))
    try:
        padding = DistillDataPreprocessor(
            student.data_preprocessor,
            {teacher.name: teacher.model.data_preprocessor},
            {teacher.name: teacher.scale}).divisor
        if padding > MOST_PADDING:
            problems.append(
                f'{teacher.field}.scale is {teacher.scale}: for grids to line '
                "up, the student's batches would be padded to multiples of "
                f'{padding} pixels. Choose a fraction of small numbers, such '
                'as 2, 3/2 or 4/3.')
        if teacher.scale != 1:
            dataset = plan.student.config.train_dataloader.dataset
            with_teacher_view(dataset, [str(teacher.scale)])
            for _, inner in inner_datasets(dataset, ''):
                problems += unsupported_steps(inner.pipeline)
            problems += [
                f'custom_hooks has a {hook["type"]}, which puts another '
                'pipeline in the place of the one that makes pictures of '
                f"{teacher.field}'s scale {teacher.scale}. Remove the hook or "
                'the scale.' for hook in
                plan.student.config.get('custom_hooks') or []
                if 'switch_pipeline' in hook]
    except (TypeError, ValueError) as error:
        problems.append(str(error))
    return problems


def common_strides(plan: Plan,
                   pool: Mapping[str, BaseDetector]) -> tuple[int, ...]:
    """The strides that student and every teacher share, ascending.

    Raises:
        PlanError: There is none.
    """
    pyramids = {name: pyramid_channels(d) for name, d in pool.items()}
    shared = set.intersection(*(set(p) for p in pyramids.values()))
    if plan.strides is not None:
        shared &= set(plan.strides)
    if not shared:
        raise PlanError(['The pool has no stride in common: ' + '; '.join(
            f'{name} {sorted(p)}' for name, p in pyramids.items()) +
            '. Costs of one order are compared on one set of levels: take out '
            'the teacher that does not fit, or set mtpd.order by hand.'])
    return tuple(sorted(shared))


def find_order(plan: Plan, pool: Mapping[str, BaseDetector],
               progress: Callable[[int, int], None] = lambda *_: None
               ) -> FoundOrder:
    """Measure APs and adaptation costs, and choose the order.

    A result on disk (``work_dir/order/order.json``) that belongs to the same
    checkpoints, pictures and levels is used again: only the selection is done
    anew, with the present ``max_teachers``.

    Args:
        plan: With ``order`` None.
        pool: From :func:`build_pool`.
        progress: Called with pictures done and pictures in all.
    """
    folder = os.path.join(plan.work_dir, 'order')
    path = os.path.join(folder, 'order.json')
    strides = common_strides(plan, pool)
    belongs_to = _belongs_to(plan, strides)
    saved = None
    if os.path.isfile(path):
        saved = FoundOrder.from_json(json.load(open(path)))
        if saved.belongs_to != belongs_to:
            print_log(f'{path} belongs to other checkpoints, pictures or '
                      'levels; measuring anew.', logger='current')
            saved = None
    aps = {n: t.ap for n, t in plan.teachers.items() if t.ap is not None} \
        or _measured(plan, pool)
    check_aps(aps)
    if saved:
        costs = saved.costs
        print_log(f'Costs taken from {path}', logger='current')
    else:
        scales = {name: plan.teachers[name].scale for name in pool
                  if name != 'student'}
        grids = {'student': Fraction(1), **scales}

        def certain(moments: dict[Fraction, FeatureMoments]) -> bool:
            try:
                costs = costs_on_own_grids(moments, grids)
            except ValueError:  # too few pictures for a coarse level
                return False
            return _certain(plan, aps, costs)

        costs = costs_on_own_grids(gather_moments(
            pool, plan.student.config, strides, progress, scales,
            plan.images if isinstance(plan.images, int) else None,
            enough=certain if plan.images == 'auto' else None), grids)
    order = backward_greedy_selection(costs.cost, 'student', aps,
                                      plan.max_teachers)
    found = FoundOrder(order, costs, aps, belongs_to, plan.max_teachers)
    if is_main_process():
        os.makedirs(folder, exist_ok=True)
        atomic_write(path, json.dumps(found.to_json(), indent=1).encode())
    return found


def _certain(plan: Plan, aps: Mapping[str, float],
             costs: AdaptationCosts) -> bool:
    """Whether no decision would change with more pictures, as far as these
    can tell; says so."""
    order = backward_greedy_selection(costs.cost, 'student', aps,
                                      plan.max_teachers)
    open_questions = [d for d in decision_margins(
        costs, order, 'student', aps, plan.max_teachers)
        if d.certain is False]
    positions = costs.positions[costs.strides[0]]
    print_log(
        f'After {positions} positions at stride {costs.strides[0]}: '
        + ' > '.join(order.teachers) + (
            ', every decision certain; no more pictures are needed'
            if not open_questions else ', not certain: '
            + '; '.join(d.describe() for d in open_questions)),
        logger='current')
    return not open_questions


def reorder(found: FoundOrder, teachers: Sequence[str] | None = None,
            student: str | None = None, max_teachers: int | None = None,
            strides: Sequence[int] | None = None) -> FoundOrder:
    """Another order from the same costs; no picture is looked at.

    Args:
        found: What was measured.
        teachers: The pool; None keeps all but the student.
        student: Any detector of the costs; None keeps it.
        max_teachers: Of the new order; None sets no limit.
        strides: The levels; None keeps all.

    Raises:
        ValueError: A detector or a level that was not measured.
    """
    student = student or found.student
    if teachers is None:
        teachers = [n for n in found.aps if n != student]
    unknown = [n for n in teachers if n not in found.aps]
    if unknown:
        raise ValueError(f'No AP of {unknown} was measured, so they cannot '
                         f'teach; there are those of {list(found.aps)}.')
    costs = found.costs.restricted([student, *teachers], strides)
    aps = {name: found.aps[name] for name in teachers}
    order = backward_greedy_selection(costs.cost, student, aps, max_teachers)
    return FoundOrder(order, costs, aps, found.belongs_to, max_teachers)


def fitted_maps(plan: Plan, student: BaseDetector,
                names: tuple[str, ...]) -> dict[str, dict[int, dict]]:
    """The best linear maps from a student to teachers, as adapters start.

    Measured on :data:`FITTING_PICTURES` training pictures, as costs are; a
    later stage's student is not the one that the costs are of.

    Args:
        plan: The progression.
        student: As it is now.
        names: The teachers.

    Returns:
        Name -> stride -> ``weight`` (C_teacher, C_student), ``bias``
        (C_teacher), float32. Levels with too few positions to fit a map that
        holds on other pictures are left out and said.
    """
    maps: dict[str, dict[int, dict]] = {}
    own = pyramid_channels(student)
    for name in names:
        spec = plan.teachers[name]
        teacher = FrozenTeacher.build(spec.model, spec.checkpoint,
                                      f'{spec.field}.checkpoint')
        strides = make_guidance(
            student, teacher, name, plan.distill, plan.strides,
            plan.adapter).adapter.convolved_strides
        if not strides:
            maps[name] = {}
            continue
        moments = gather_moments(
            {'student': student, name: teacher.detector}, plan.student.config,
            strides, scales={name: spec.scale}, limit=FITTING_PICTURES,
            grids=[spec.scale])[spec.scale]
        enough = [s for s in strides if sum(
            moments.count(s, fold) for fold in moments.filled_folds(s))
            >= POSITIONS_PER_COEFFICIENT * (own[s] + 1)]
        if len(enough) < len(strides):
            print_log(
                f'{spec.field}: the adapters at strides '
                f'{sorted(set(strides) - set(enough))} do not start fitted: '
                'the training pictures have fewer than '
                f'{POSITIONS_PER_COEFFICIENT} positions for each coefficient '
                'there, and a map fitted to them would not hold on others.',
                logger='current')
        maps[name] = {s: {
            key: value.float() for key, value in
            fit_linear_map(moments, s, 'student', name)._asdict().items()}
            for s in enough}
    return maps


def _measured(plan: Plan, pool: Mapping[str, BaseDetector]
              ) -> dict[str, float]:
    """Teachers' APs; refused where the student's data cannot tell."""
    own = len(_classes(plan.student)) \
        or _head_classes(plan.student.config.model)
    other = {n: _head_classes(t.config.model)
             for n, t in plan.teachers.items()}
    problems = [
        f'mtpd.teachers.{n}.ap is not known and cannot be measured: it '
        f'predicts {count} classes, the validation set has {own}. Declare ap '
        'for every teacher.' for n, count in other.items()
        if own and count not in (None, own)]
    if problems:
        raise PlanError(problems)
    return measured_aps(plan.teachers,
                        {n: d for n, d in pool.items() if n != 'student'},
                        plan.student.config,
                        os.path.join(plan.work_dir, 'ap.json'))


def _belongs_to(plan: Plan, strides: tuple[int, ...]) -> dict[str, Any]:
    cfg: Config = plan.student.config
    specs = [plan.student, *plan.teachers.values()]
    return {
        'checkpoints': {s.name: s.hash() for s in specs},
        'models': {s.name: fingerprint(s.model) for s in specs},
        'scales': {t.name: str(t.scale) for t in plan.teachers.values()},
        'strides': list(strides), 'images': plan.images,
        'pictures': fingerprint(cfg.train_dataloader.dataset),
        'pipeline': fingerprint(test_pipeline(cfg))}


def _classes(spec: DetectorSpec) -> tuple[str, ...]:
    """Classes by config, else by checkpoint, else unknown (empty)."""
    metainfo = spec.config.get('val_dataloader', {}).get(
        'dataset', {}).get('metainfo') or {}
    classes = metainfo.get('classes')
    if classes is None and spec.checkpoint is not None:
        meta = read_checkpoint(fetch_checkpoint(spec.checkpoint)).get(
            'meta', {})
        dataset_meta = meta.get('dataset_meta') or {}
        classes = dataset_meta.get('classes', dataset_meta.get(
            'CLASSES', meta.get('CLASSES')))
    return tuple(classes or ())


def _head_classes(model: Mapping[str, Any]) -> int | None:
    """``num_classes`` of a detector's box head, None where it has none."""
    head = model.get('bbox_head') or (model.get('roi_head') or {}).get(
        'bbox_head') or {}
    if isinstance(head, (list, tuple)):  # cascades have one head per step
        head = head[-1]
    return head.get('num_classes')


def _other_classes(student: DetectorSpec,
                   teacher: DetectorSpec) -> list[str]:
    own, theirs = _classes(student), _classes(teacher)
    if not own or not theirs or own == theirs:
        return []
    return [f'mtpd.distill compares classification maps, and {teacher.field} '
            f"was trained on other classes than the student's ({len(theirs)}, "
            f'not {len(own)}, or in another order). Choose a mechanism on '
            'feature maps, or another teacher.']


def _say_other_classes(plan: Plan, specs: list[DetectorSpec]) -> None:
    for spec in specs[1:]:
        own, theirs = _classes(plan.student), _classes(spec)
        if _other_classes(plan.student, spec):
            print_log(
                f'{spec.field} was trained on other classes than the '
                f"student's ({len(theirs)}, not {len(own)}, or in another "
                'order). Its maps are matched all the same: no head takes '
                'part.', logger='current')
