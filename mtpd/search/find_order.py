"""The order of the teachers: from disk as far as it belongs to it, else
measured."""
import hashlib
import json
import logging
import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any, Callable, Iterator, Mapping, Sequence

from filelock import FileLock, Timeout
from mmdet.models.detectors import BaseDetector
from mmengine.dist import get_world_size
from mmengine.logging import print_log

from mtpd.compat.atomic_files import atomic_write
from mtpd.order.certainty import Decision, decision_margins
from mtpd.order.costs import AdaptationCosts
from mtpd.order.held_out import adaptation_costs, costs_on_own_grids
from mtpd.order.selection import backward_greedy_selection
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan
from mtpd.plan.pool import common_strides, unmeasurable_aps
from mtpd.processes import on_main
from mtpd.provenance import command, differences, versions

from .feature_maps import FINE, FeatureMaps
from .found_order import FoundOrder
from .gather import gather
from .images import FOLDS, Images
from .measure import (check_aps, fingerprint, measured_aps, measured_latencies,
                      weights_hash)
from .moment_store import MomentStore, in_first, open_store

FIRST_LOOK = 64
"""Images after which a search that may stop early looks first."""


def find_order(plan: Plan, pool: Mapping[str, BaseDetector],
               progress: Callable[[int, int], None] = lambda *_: None
               ) -> FoundOrder:
    """Measure APs and adaptation costs, and choose the order.

    A result on disk (``work_dir/order/order.json``) that belongs to the same
    checkpoints, images and settings is used again: only the selection is
    done anew, with the present ``max_teachers``. So are the moments beside it,
    as far as they belong to the same: of a new or another detector, or of
    more images, only what is missing is measured.

    Args:
        plan: With ``order`` None.
        pool: From ``build_pool``.
        progress: Called with images done and images in all.

    Raises:
        PlanError: No shared level, no AP that tells the teachers apart, maps
            that are not finite or that are constant, or another run at work.
    """
    path = os.path.join(plan.work_dir, 'order', 'order.json')
    feature_maps = _pyramids(plan, pool)
    belongs_to = {'data': _data(plan, feature_maps),
                  'detectors': _detectors(plan, pool),
                  **_of_estimator(plan)}
    saved = on_main(lambda: _saved(path, belongs_to))
    aps, student_ap = _aps(plan, pool)
    check_aps(aps)
    if saved and _saved_costs_suffice(plan, aps, saved,
                                      len(feature_maps.images)):
        costs, images = saved.costs, saved.made_with['pictures']
        print_log(f'Costs taken from {path}, of {images} images',
                  logger='current')
    else:
        try:
            costs, images = _exactly(
                plan, feature_maps, belongs_to, aps, progress)
        except PlanError:
            raise
        except ValueError as error:  # maps that are not finite, few images
            raise PlanError([str(error)]) from error
    _refuse_constant(costs)
    found = FoundOrder(
        backward_greedy_selection(costs.cost, 'student', aps,
                                  plan.max_teachers),
        costs, aps, belongs_to, plan.max_teachers, plan.costs.certainty,
        student_ap, made_with={**_made_with(plan), 'pictures': images})
    _write(path, found)
    found = replace(found, latencies=_latencies(plan, pool))
    _write(path, found)
    return found


def _saved(path: str, belongs_to: Mapping[str, Any]) -> FoundOrder | None:
    if not os.path.isfile(path):
        return None
    try:
        with open(path) as file:
            saved = FoundOrder.from_json(json.load(file))
    except (KeyError, TypeError, ValueError) as error:
        print_log(f'{path} cannot be used: {error}', logger='current',
                  level=logging.WARNING)
        return None
    differing = differences(saved.belongs_to, belongs_to)
    if differing:
        print_log(f'{path} belongs to something else, so its costs are not '
                  'used:\n  ' + '\n  '.join(differing), logger='current')
        return None
    return saved


def _saved_costs_suffice(plan: Plan, aps: Mapping[str, float],
                         saved: FoundOrder, there: int) -> bool:
    """Whether saved costs are of as many images as are asked for."""
    images, used = plan.costs.images, saved.made_with.get('pictures', 0)
    if used >= there:
        return True
    if isinstance(images, int):
        return used >= images
    # Not asked for all by name, so for as many as the decisions need.
    return images != 'all' and not _open_questions(plan, aps, saved.costs)


def _write(path: str, found: FoundOrder) -> None:
    on_main(lambda: atomic_write(
        path, json.dumps(found.to_json(), indent=1).encode()))


def _latencies(plan: Plan, pool: Mapping[str, BaseDetector]
               ) -> dict[str, float]:
    try:
        return measured_latencies(_specs(plan), pool, plan.student.config,
                                  _memory(plan))
    # Whatever a validation pipeline may raise: the order does not need it.
    except Exception as error:
        print_log(f'Latencies were not measured ({type(error).__name__}: '
                  f'{error}).', logger='current', level=logging.WARNING)
        return {}


def _exactly(plan: Plan, feature_maps: FeatureMaps,
             belongs_to: Mapping[str, Any], aps: Mapping[str, float],
             progress: Callable[[int, int], None]
             ) -> tuple[AdaptationCosts, int]:
    """From moments, those on disk and those that are still missing; and of
    how many images."""
    settings, images = plan.costs, feature_maps.images
    auto = settings.images == 'auto'
    wanted = images.shuffled() if auto else images.spread(
        settings.images if isinstance(settings.images, int) else None)
    _check_room(plan)
    folder = moments_folder(plan.work_dir, belongs_to['data'])
    with exclusive_lock(folder):
        store, ordered = _opened(plan, feature_maps, belongs_to, folder,
                                 wanted, progress)
        costs: AdaptationCosts | None = None
        counted = 0
        for look in _looks(len(wanted)) if auto else [len(wanted)]:
            gather(ordered, store, wanted[:look], progress,
                   'float32')
            count = on_main(lambda: len(in_first(store).done))
            if count == counted and costs:  # seen by an earlier run
                continue
            counted = count
            try:
                costs = on_main(lambda: _solved(feature_maps, in_first(store)))
            except ValueError:  # too few images for a coarse level
                if look == len(wanted):
                    raise
                continue
            if auto and _said_certain(plan, aps, costs, counted,
                                      len(images)):
                break
    if counted > len(wanted):
        print_log(f'{folder} holds {counted} images, more than the '
                  f'{len(wanted)} asked for; all of them were used.',
                  logger='current')
    assert costs is not None  # the last look solves or raises
    return costs, counted


def moments_folder(work_dir: str, data: Mapping[str, Any]) -> str:
    """Where the moments of these images lie; those of others lie beside.

    Args:
        work_dir: Of the progression.
        data: What all sums depend on; which levels and grids has no say.
    """
    plain = {key: data[key] for key in ('split', 'pictures', 'padding',
                                        'folds', 'precision')}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    return os.path.join(work_dir, 'order',
                        f'moments_{digest.hexdigest()[:8]}')


@contextmanager
def exclusive_lock(folder: str) -> Iterator[None]:
    """No other run may write to the same moments."""
    lock = FileLock(f'{folder}.lock', timeout=0)

    def acquire() -> None:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise PlanError([f'Another run is measuring into {folder}. Wait '
                             'for it, or choose another --work-dir.']) \
                from error

    on_main(acquire)
    try:
        yield
    finally:
        lock.release()


def _opened(plan: Plan, feature_maps: FeatureMaps,
            belongs_to: Mapping[str, Any], folder: str, wanted: Sequence[int],
            progress: Callable[[int, int], None]
            ) -> tuple[MomentStore | None, FeatureMaps]:
    """The store with all detectors of the pool, in the first process, and
    their maps in its order."""
    stores: list[MomentStore | None] = []
    on_main(lambda: stores.extend(open_store(
        folder, belongs_to['data'], belongs_to['detectors'], wanted,
        {key: versions()[key] for key in ('torch', 'device')})))
    store, base = stores or (None, None)
    names, known, late = on_main(lambda: (
        tuple(in_first(store).detectors), in_first(store).known,
        None if base is None else base.done))
    if set(names) == set(feature_maps.scales):
        # In the store's order, which is that of its channels.
        feature_maps = feature_maps.in_order(names)
    if late is not None:
        new = [name for name in names if name not in known]
        if new:
            print_log(f'{", ".join(known)}: measured before; only products '
                      f'with {", ".join(new)} are added.', logger='current')
            gather(feature_maps, store, late, progress, 'float32')
        on_main(lambda: in_first(store).complete_from(in_first(base)))
    return store, feature_maps


def _solved(feature_maps: FeatureMaps, store: MomentStore) -> AdaptationCosts:
    return costs_on_own_grids({
        grid: adaptation_costs(store.moments(grid)).restricted(
            feature_maps.scales, feature_maps.channels)
        for grid in feature_maps.grids}, feature_maps.scales)


def _looks(images: int) -> list[int]:
    """Whenever the number of images has doubled, and at the end."""
    looks = [FIRST_LOOK]
    while looks[-1] < images:
        looks.append(2 * looks[-1])
    return [*looks[:-1], images]


def _said_certain(plan: Plan, aps: Mapping[str, float],
                  costs: AdaptationCosts, images: int, there: int) -> bool:
    """Whether no decision would change with more images, as far as these
    can tell; says so."""
    decisions = _open_questions(plan, aps, costs)
    order = backward_greedy_selection(costs.cost, 'student', aps,
                                      plan.max_teachers)
    print_log(
        f'After {images} of {there} images: ' + ' > '.join(order.teachers)
        + (', every decision certain; no more images are needed'
           if not decisions else ', not certain: '
           + '; '.join(d.describe() for d in decisions)
           + ('; there are no more images' if images == there else '')),
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
        'positions of all images, so costs into and out of it say nothing. '
        'Check its checkpoint and its config, or set mtpd.strides without '
        'this level.' for name in costs.names if (strides := [
            s for s in costs.strides
            if not costs.variance[costs.at(s, name)]])]
    if problems:
        raise PlanError(problems)


def _pyramids(plan: Plan, pool: Mapping[str, BaseDetector]) -> FeatureMaps:
    """All maps of the pool, in the pool's order."""
    scales = {name: Fraction(1) if name == 'student'
              else plan.teachers[name].scale for name in pool}
    most = plan.costs.sequential
    return FeatureMaps(
        pool, Images(plan.student.config, plan.costs.split,
                     [s for s in sorted(set(scales.values())) if s != 1]),
        common_strides(plan, pool), scales, None, 0.25,
        None if most is None else int(most * 2 ** 30),
        os.path.join(plan.work_dir, 'order'))


def _check_room(plan: Plan) -> None:
    """Say how much of the disk maps will take; refuse where it is not there.

    Raises:
        PlanError: There is not so much room.
    """
    most = plan.costs.sequential
    if most is None:
        return
    folder = os.path.join(plan.work_dir, 'order')
    os.makedirs(folder, exist_ok=True)
    free = shutil.disk_usage(folder).free / 2 ** 30
    if free < most * get_world_size():
        raise PlanError([
            f'mtpd.costs.sequential is {most:g} GiB for each process, and '
            f'{folder} has room for {free:.1f}. Set it lower, or choose '
            'another --work-dir.'])
    print_log(f'Detectors run one at a time; meanwhile at most {most:g} GiB '
              f'of maps per process lie in {folder}.', logger='current')


def _aps(plan: Plan, pool: Mapping[str, BaseDetector]
         ) -> tuple[dict[str, float], float | None]:
    """Teachers' APs, and the student's where it was measured with them;
    refused where the student's data cannot tell."""
    declared = {n: t.ap for n, t in plan.teachers.items() if t.ap is not None}
    if declared:
        return declared, None
    problems = unmeasurable_aps(plan)
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


def _data(plan: Plan, feature_maps: FeatureMaps) -> dict[str, Any]:
    """What every sum depends on."""
    strides = list(feature_maps.channels)
    return {
        'split': plan.costs.split,
        'pictures': feature_maps.images.fingerprint(),
        'padding': feature_maps.divisor, 'folds': FOLDS,
        'precision': 'float32',
        'stride4_share': 0.25
        if min(strides) <= FINE else None,
        'strides': strides,
        'grids': [str(grid) for grid in feature_maps.grids]}


def _of_estimator(plan: Plan) -> dict[str, Any]:
    return {'estimator': 'exact'}


def _detectors(plan: Plan, pool: Mapping[str, BaseDetector]
               ) -> dict[str, Any]:
    """What each detector's maps depend on; a head has no say."""
    specs = _specs(plan)
    return {name: {
        'checkpoint': specs[name].hash() or weights_hash(pool[name]),
        'maps': fingerprint({
            part: specs[name].model.get(part)
            for part in ('type', 'backbone', 'neck', 'data_preprocessor')}),
        'scale': str(specs[name].scale)} for name in pool}


def _made_with(plan: Plan) -> dict[str, Any]:
    """Enough to make it again."""
    return {
        'command': command(),
        'detectors': {name: {'config': spec.config.filename,
                             'checkpoint': spec.checkpoint}
                      for name, spec in _specs(plan).items()},
        'costs': plan.costs.to_json(), 'strides': plan.strides,
        'max_teachers': plan.max_teachers, 'versions': versions()}
