"""The order of the teachers: taken from the config, from disk, or found."""
import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Callable, Iterator, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.dist import get_world_size, is_main_process
from mmengine.logging import print_log

from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     UnsafeCheckpoint, fetch_checkpoint,
                                     read_checkpoint)
from mtpd.data.teacher_view import unsupported_steps, with_teacher_view
from mtpd.distill.auto_weight import is_off
from mtpd.distill.checkpoint_hook import differences
from mtpd.distill.detector import (CheckpointMismatch, build_detector,
                                   own_randomness, pyramid_channels)
from mtpd.distill.guidance import make_guidance
from mtpd.distill.preprocessor import DistillDataPreprocessor
from mtpd.distill.teacher import FrozenTeacher
from mtpd.order.adaptation_cost import (POSITIONS_PER_COEFFICIENT,
                                        TWO_ERRORS, AdaptationCosts,
                                        adaptation_costs, costs_on_own_grids,
                                        fit_linear_map)
from mtpd.order.certainty import Decision, decision_margins
from mtpd.order.gradient_descent import MapBatch, gradient_descent_costs
from mtpd.order.rivals import OrderRow, compare_orders
from mtpd.order.selection import TeachingOrder, backward_greedy_selection

from .gather import gather
from .measure import (check_aps, fingerprint, measured_aps,
                      measured_latencies)
from .moment_store import MomentStore, open_store
from .pictures import FOLDS, Pictures
from .plan import DetectorSpec, Plan, PlanError, inner_datasets
from .processes import on_main
from .pyramids import FINE, Pyramids
from .provenance import versions

MOST_PADDING = 256
"""A student's batch may be padded to multiples of so many pixels."""

SCHEMA = 3
"""Version of order.json. 1 had neither folds nor ``max_teachers``, so its
decisions have no margins; 2 had no latencies, settings and versions. Both are
read."""

FIRST_LOOK = 64
"""Pictures after which a search that may stop early looks first."""

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
        certainty: What counts as certain, see ``CostDifference.wanted``.
        student_ap: Box AP of the student in percent, None if unknown.
        latencies: Detector -> seconds of a prediction; empty if unknown.
        made_with: Files, settings and versions, to make it again.
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

    def decisions(self) -> list[Decision]:
        """How sure each step of the order is."""
        return decision_margins(self.costs, self.order, self.student,
                                self.aps, self.max_teachers, self.certainty)

    def rivals(self, results: Mapping[tuple[str, ...], float] | None = None
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
        if not 1 <= content.get('schema', 0) <= SCHEMA:
            raise ValueError(
                f'an order.json of schema {content.get("schema")!r}; this '
                f'version reads 1 to {SCHEMA}. Measure anew, or update mtpd.')
        return cls(TeachingOrder.from_json(content['order']),
                   AdaptationCosts.from_json(content['costs']),
                   content['aps'], content['belongs_to'],
                   content.get('max_teachers'),
                   content.get('certainty', TWO_ERRORS),
                   content.get('student_ap'), content.get('latencies', {}),
                   content.get('made_with', {}))


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
    checkpoints, pictures and settings is used again: only the selection is
    done anew, with the present ``max_teachers``. So are the moments beside it,
    as far as they belong to the same: of a new or another detector, or of
    more pictures, only what is missing is measured.

    Args:
        plan: With ``order`` None.
        pool: From :func:`build_pool`.
        progress: Called with pictures done and pictures in all.

    Raises:
        PlanError: No shared level, no AP that tells the teachers apart, maps
            that are not finite or that are constant.
    """
    path = os.path.join(plan.work_dir, 'order', 'order.json')
    pyramids = _pyramids(plan, pool)
    belongs_to = {'data': _data(plan, pyramids),
                  'detectors': _detectors(plan, pool),
                  'images': plan.costs.images,
                  'estimator': plan.costs.estimator}
    saved = on_main(lambda: _saved(path, belongs_to))
    aps, student_ap = _aps(plan, pool)
    check_aps(aps)
    if saved and (plan.costs.images != 'auto'
                  or not _open_questions(plan, aps, saved.costs)):
        print_log(f'Costs taken from {path}', logger='current')
        costs = saved.costs
    else:
        try:
            costs = _by_gradient_descent(plan, pool, pyramids, progress) \
                if plan.costs.estimator == 'sgd' else _exactly(
                    plan, pool, pyramids, belongs_to, aps, progress)
        except ValueError as error:  # maps that are not finite, few pictures
            raise PlanError([str(error)]) from error
    _refuse_constant(costs)
    found = FoundOrder(
        backward_greedy_selection(costs.cost, 'student', aps,
                                  plan.max_teachers),
        costs, aps, belongs_to, plan.max_teachers, plan.costs.certainty,
        student_ap, measured_latencies(
            _specs(plan), pool, plan.student.config, _memory(plan)),
        _made_with(plan))
    if is_main_process():
        atomic_write(path, json.dumps(found.to_json(), indent=1).encode())
    return found


def _saved(path: str, belongs_to: Mapping[str, Any]) -> FoundOrder | None:
    if not os.path.isfile(path):
        return None
    try:
        with open(path) as file:
            saved = FoundOrder.from_json(json.load(file))
    except (KeyError, ValueError) as error:
        print_log(f'{path} cannot be used: {error}', logger='current',
                  level=logging.WARNING)
        return None
    differing = differences(saved.belongs_to, belongs_to)
    if differing:
        print_log(f'{path} belongs to something else, so its costs are not '
                  'used:\n  ' + '\n  '.join(differing), logger='current')
        return None
    return saved


def _exactly(plan: Plan, pool: Mapping[str, BaseDetector], pyramids: Pyramids,
             belongs_to: Mapping[str, Any], aps: Mapping[str, float],
             progress: Callable[[int, int], None]) -> AdaptationCosts:
    """From moments, those on disk and those that are still missing."""
    settings, pictures = plan.costs, pyramids.pictures
    auto = settings.images == 'auto'
    wanted = pictures.shuffled() if auto else pictures.spread(
        None if settings.images == 'all' else settings.images)
    folder = os.path.join(plan.work_dir, 'order', 'moments')
    store, base = open_store(
        folder, belongs_to['data'], belongs_to['detectors'],
        lambda done: set(done) >= set(wanted)) \
        if is_main_process() else (None, None)
    names, known, late = on_main(lambda: (
        tuple(store.detectors), store.known, base and base.done))
    if set(names) == set(pool):
        # In the store's order, which is that of its channels.
        pyramids = _pyramids(plan, {name: pool[name] for name in names},
                             pictures)
    if late is not None:
        new = [name for name in names if name not in known]
        if new:
            print_log(f'{", ".join(known)}: measured before; only products '
                      f'with {", ".join(new)} are added.', logger='current')
            gather(pyramids, store, late, progress, settings.precision)
        on_main(lambda: store.complete_from(base))
    costs, counted = None, 0
    for look in _looks(len(wanted)) if auto else [len(wanted)]:
        gather(pyramids, store, wanted[:look], progress, settings.precision)
        count = on_main(lambda: len(store.done))
        if count == counted:  # seen by an earlier run
            continue
        counted = count
        try:
            costs = on_main(lambda: _solved(plan, pool, pyramids, store))
        except ValueError:  # too few pictures for a coarse level
            if look == len(wanted):
                raise
            continue
        if auto and _said_certain(plan, aps, costs, counted, len(pictures)):
            break
    if counted > len(wanted):
        print_log(f'{folder} holds {counted} pictures, more than the '
                  f'{len(wanted)} asked for; all of them were used.',
                  logger='current')
    return costs


def _solved(plan: Plan, pool: Mapping[str, BaseDetector], pyramids: Pyramids,
            store: MomentStore) -> AdaptationCosts:
    scales = _scales(plan, pool)
    strides = tuple(pyramids.channels)
    return costs_on_own_grids({
        grid: adaptation_costs(store.moments(grid)).restricted(pool, strides)
        for grid in set(scales.values())}, scales)


def _looks(pictures: int) -> list[int]:
    """Whenever the number of pictures has doubled, and at the end."""
    looks = [FIRST_LOOK]
    while looks[-1] < pictures:
        looks.append(2 * looks[-1])
    return [*looks[:-1], pictures]


def _by_gradient_descent(plan: Plan, pool: Mapping[str, BaseDetector],
                         pyramids: Pyramids,
                         progress: Callable[[int, int], None]
                         ) -> AdaptationCosts:
    """The paper's way: fitted on the training, scored on the validation
    pictures; nothing of it is saved on the way."""
    if get_world_size() > 1:
        raise PlanError(["mtpd.costs.estimator 'sgd' runs in one process. "
                         'Leave out --launcher.'])
    settings, images = plan.costs, plan.costs.images
    chosen = pyramids.pictures.spread(None if images == 'all' else images)
    validation = _pyramids(plan, pool, Pictures(
        plan.student.config, 'val', pyramids.pictures.scales))
    scored = validation.pictures.spread(None)
    done, total = 0, len(pyramids.grids) * (
        settings.epochs * len(chosen) + len(scored))
    progress(done, total)

    def maps(of: Pyramids, grid: Fraction,
             indices: Sequence[int]) -> Iterator[MapBatch]:
        nonlocal done
        for seen, batches in of(of.pictures.batches(indices)):
            yield batches[grid]
            done += len(seen)
            progress(done, total)

    def shuffled(epoch: int) -> list[int]:
        return [chosen[i] for i in torch.randperm(
            len(chosen), generator=torch.Generator().manual_seed(epoch))]

    return costs_on_own_grids({
        grid: gradient_descent_costs(
            lambda epoch: maps(pyramids, grid, shuffled(epoch)),
            lambda: maps(validation, grid, scored), pyramids.channels, FOLDS,
            settings.epochs, settings.lr)
        for grid in pyramids.grids}, pyramids.scales)


def _said_certain(plan: Plan, aps: Mapping[str, float],
                  costs: AdaptationCosts, pictures: int, there: int) -> bool:
    """Whether no decision would change with more pictures, as far as these
    can tell; says so."""
    decisions = _open_questions(plan, aps, costs)
    order = backward_greedy_selection(costs.cost, 'student', aps,
                                      plan.max_teachers)
    print_log(
        f'After {pictures} of {there} pictures: ' + ' > '.join(order.teachers)
        + (', every decision certain; no more pictures are needed'
           if not decisions else ', not certain: '
           + '; '.join(d.describe() for d in decisions)
           + ('; there are no more pictures' if pictures == there else '')),
        logger='current')
    return not decisions


def _open_questions(plan: Plan, aps: Mapping[str, float],
                    costs: AdaptationCosts) -> list[Decision]:
    order = backward_greedy_selection(costs.cost, 'student', aps,
                                      plan.max_teachers)
    return [d for d in decision_margins(
        costs, order, 'student', aps, plan.max_teachers, plan.costs.certainty)
        if d.certain is False]


def _refuse_constant(costs: AdaptationCosts) -> None:
    problems = [
        f'The maps of {name} do not vary at stride '
        f'{", ".join(map(str, strides))}: every channel has one value at all '
        'positions of all pictures, so costs into and out of it say nothing. '
        'Check its checkpoint and its config, or set mtpd.strides without '
        'this level.' for name in costs.names if (strides := [
            s for s, variance in costs.variance[name].items()
            if not variance])]
    if problems:
        raise PlanError(problems)


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
        ValueError: A detector or a level that was not measured, or
            ``max_teachers`` beyond the pool.
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
    if max_teachers is not None and max_teachers > len(aps):
        raise ValueError(f'{max_teachers} teachers were asked for, and the '
                         f'pool has {len(aps)}: {list(aps)}.')
    order = backward_greedy_selection(costs.cost, student, aps, max_teachers)
    return replace(
        found, order=order, costs=costs, aps=aps, max_teachers=max_teachers,
        student_ap=found.student_ap if student == found.student
        else found.aps[student])


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
        pictures = Pictures(plan.student.config, 'train',
                            [spec.scale] if spec.scale != 1 else [])
        pyramids = Pyramids(
            {'student': student, name: teacher.detector}, pictures, strides,
            {name: spec.scale}, [spec.scale], plan.costs.stride4_share)
        maps[name] = _fitted(pyramids, name, pictures.spread(FITTING_PICTURES),
                             own, spec.field)
    return maps


def _fitted(pyramids: Pyramids, name: str, pictures: Sequence[int],
            own: Mapping[int, int], field: str) -> dict[int, dict]:
    """Stride -> weight and bias; only the first process has them."""
    grid, strides = pyramids.grids[0], tuple(pyramids.channels)
    with tempfile.TemporaryDirectory() as folder:
        store = MomentStore(folder, {}, dict.fromkeys(
            ('student', name))) if is_main_process() else None
        gather(pyramids, store, pictures)
        if store is None:
            return {}
        moments = store.moments(grid)
        enough = [s for s in strides if sum(
            moments.count(s, fold) for fold in moments.filled_folds(s))
            >= POSITIONS_PER_COEFFICIENT * (own[s] + 1)]
        if len(enough) < len(strides):
            print_log(
                f'{field}: the adapters at strides '
                f'{sorted(set(strides) - set(enough))} do not start fitted: '
                'the training pictures have fewer than '
                f'{POSITIONS_PER_COEFFICIENT} positions for each coefficient '
                'there, and a map fitted to them would not hold on others.',
                logger='current')
        return {s: {key: value.float() for key, value in fit_linear_map(
            moments, s, 'student', name)._asdict().items()} for s in enough}


def _pyramids(plan: Plan, pool: Mapping[str, BaseDetector],
              pictures: Pictures | None = None) -> Pyramids:
    """All maps of the pool, in the pool's order."""
    scales = _scales(plan, pool)
    return Pyramids(
        pool, pictures or Pictures(
            plan.student.config, plan.costs.split,
            [s for s in sorted(set(scales.values())) if s != 1]),
        common_strides(plan, pool), scales, None, plan.costs.stride4_share,
        *_room_for_maps(plan))


def _scales(plan: Plan, pool: Mapping[str, BaseDetector]
            ) -> dict[str, Fraction]:
    return {name: Fraction(1) if name == 'student'
            else plan.teachers[name].scale for name in pool}


def _room_for_maps(plan: Plan) -> tuple[int | None, str | None]:
    """Most bytes of maps on disk, and where.

    Raises:
        PlanError: There is not so much room.
    """
    if plan.costs.sequential is None:
        return None, None
    folder = os.path.join(plan.work_dir, 'order')
    os.makedirs(folder, exist_ok=True)
    most = int(plan.costs.sequential * 2 ** 30)
    free = shutil.disk_usage(folder).free
    if free < most * get_world_size():
        raise PlanError([
            f'mtpd.costs.sequential is {plan.costs.sequential:g} GiB for each '
            f'process, and {folder} has room for {free / 2 ** 30:.1f}. Set it '
            'lower, or choose another --work-dir.'])
    print_log('Detectors run one at a time; meanwhile at most '
              f'{plan.costs.sequential:g} GiB of maps per process lie in '
              f'{folder}.', logger='current')
    return most, folder


def _aps(plan: Plan, pool: Mapping[str, BaseDetector]
         ) -> tuple[dict[str, float], float | None]:
    """Teachers' APs, and the student's where it was measured with them;
    refused where the student's data cannot tell."""
    declared = {n: t.ap for n, t in plan.teachers.items() if t.ap is not None}
    if declared:
        return declared, None
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
    aps = measured_aps(
        _specs(plan), {n: d for n, d in pool.items() if n != 'student'
                       or plan.student.checkpoint is not None},
        plan.student.config, _memory(plan))
    student_ap = aps.pop('student', None)
    return aps, student_ap


def _specs(plan: Plan) -> dict[str, DetectorSpec]:
    return {'student': plan.student, **plan.teachers}


def _memory(plan: Plan) -> str:
    return os.path.join(plan.work_dir, 'measured.json')


def _data(plan: Plan, pyramids: Pyramids) -> dict[str, Any]:
    """What every sum depends on."""
    strides = list(pyramids.channels)
    return {
        'split': plan.costs.split,
        'pictures': fingerprint(pyramids.pictures.config),
        'padding': pyramids.divisor, 'folds': FOLDS,
        'precision': plan.costs.precision,
        'stride4_share': plan.costs.stride4_share
        if min(strides) <= FINE else None,
        'strides': strides, 'grids': [str(grid) for grid in pyramids.grids]}


def _detectors(plan: Plan, pool: Mapping[str, BaseDetector]
               ) -> dict[str, Any]:
    """What each detector's maps depend on; a head has no say."""
    specs = _specs(plan)
    return {name: {
        'checkpoint': specs[name].hash(), 'maps': fingerprint({
            part: specs[name].model.get(part)
            for part in ('type', 'backbone', 'neck', 'data_preprocessor')}),
        'scale': str(specs[name].scale)} for name in pool}


def _made_with(plan: Plan) -> dict[str, Any]:
    """Enough to make it again."""
    return {
        'config': plan.student.config.filename,
        'detectors': {name: {'config': spec.config.filename,
                             'checkpoint': spec.checkpoint}
                      for name, spec in _specs(plan).items()},
        'costs': plan.costs.to_json(), 'strides': plan.strides,
        'max_teachers': plan.max_teachers, 'versions': versions()}


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
