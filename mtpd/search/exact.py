"""Costs from moments: from those on disk and those still to be measured."""
import hashlib
import json
import logging
import os
import shutil
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Hashable, Iterator, Mapping, Sequence

from filelock import FileLock, Timeout
from mmengine.dist import get_world_size
from mmengine.logging import print_log

from mtpd.order import AdaptationCosts, adaptation_costs, costs_on_own_grids
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan
from mtpd.plan.work_dir import WorkDir
from mtpd.processes import on_main
from mtpd.provenance import versions

from .feature_maps import FeatureMaps
from .found_order import FoundOrder
from .gather import Progress, gather
from .images import Images
from .moment_store import MomentStore, in_first, open_store

FIRST_SAMPLE = 64
"""The number of images over which ``images='auto'`` first solves the costs."""


def measure_exactly(plan: Plan, feature_maps: FeatureMaps,
                    belongs_to: Mapping[str, Any],
                    choose: Callable[[AdaptationCosts, int], FoundOrder],
                    progress: Progress) -> FoundOrder:
    """Measure what the moments on disk lack, solve the costs, and choose.

    With ``images='auto'`` the costs are solved whenever the number of images
    has doubled, until every decision is certain.

    Args:
        plan: The progression.
        feature_maps: Of the student and all teachers.
        belongs_to: What the order depends on, see ``FoundOrder``.
        choose: From costs and the number of their images to the order.
        progress: See ``gather``.

    Raises:
        PlanError: Too little disk space, or another run measures here.
        ValueError: Maps that are not finite, or too few images.
    """
    images, auto = feature_maps.images, plan.costs.images == 'auto'
    samples = growing_samples(images, plan.costs.images)
    wanted = samples[-1]
    _check_disk_space(plan)
    folder = moments_folder(plan.work_dir, belongs_to['data'])
    found = None
    with exclusive_lock(folder):
        store, in_its_order = _open(feature_maps, belongs_to, folder, wanted,
                                    progress)
        for indices in samples:
            gather(in_its_order, store, indices, progress)
            measured = on_main(lambda: len(in_first(store).done))
            if found is not None and found.images == measured:
                continue  # an earlier run has measured these images
            try:
                costs = on_main(lambda: _solve(feature_maps, in_first(store)))
            except ValueError:  # too few images for a coarse level
                if indices is wanted:
                    raise
                continue
            found = choose(costs, measured)
            if auto:
                print_log(found.describe(len(images)), logger='current')
                if not found.uncertain():
                    break
    assert found is not None  # the last sample's costs are solved or raise
    if found.images > len(wanted):
        print_log(f'{folder} holds {found.images} images, more than the '
                  f'{len(wanted)} asked for. All of them were used.',
                  logger='current')
    return found


def growing_samples(images: Images, count: int | str | None
                    ) -> list[list[int]]:
    """The images over which costs are solved: with 'auto' again and again over
    twice as many, else once. The last sample has all wanted images.

    Args:
        images: Of the split.
        count: ``mtpd.costs.images``.
    """
    if count != 'auto':
        return [images.spread(count if isinstance(count, int) else None)]
    indices = images.shuffled()
    samples, size = [], FIRST_SAMPLE
    while size < len(indices):
        samples.append(indices[:size])
        size *= 2
    return [*samples, indices]


def moments_folder(work_dir: str, data: Mapping[str, Any]) -> str:
    """The folder of the moments of these images. Each choice of images has
    its own.

    Args:
        work_dir: Of the progression.
        data: What all sums depend on, ``belongs_to['data']`` of an order. Its
            levels and grids are not part of the folder's name.
    """
    named = {key: data[key] for key in ('split', 'pictures', 'padding',
                                        'folds', 'precision')}
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode())
    return WorkDir(work_dir).moments(digest.hexdigest()[:8])


@contextmanager
def exclusive_lock(folder: str) -> Iterator[None]:
    """Keep other runs from writing to the same moments.

    Raises:
        PlanError: Another run holds the lock.
    """
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


def check_costs(costs: AdaptationCosts) -> None:
    """Refuse costs between maps that do not vary.

    Raises:
        PlanError: With each such detector and its strides.
    """
    problems = []
    for name in costs.names:
        constant = [str(stride) for stride in costs.strides
                    if not costs.variance[costs.at(stride, name)]]
        if constant:
            problems.append(
                f'The maps of {name} do not vary at stride '
                f'{", ".join(constant)}: every channel has one value at all '
                'positions of all images, so costs into and out of it mean '
                'nothing. Check its checkpoint and its config, or set '
                'mtpd.strides without this level.')
    if problems:
        raise PlanError(problems)


def _open(feature_maps: FeatureMaps, belongs_to: Mapping[str, Any],
          folder: str, indices: Sequence[int], progress: Progress
          ) -> tuple[MomentStore | None, FeatureMaps]:
    """The store of all detectors, in the first process, and their maps in its
    order. Products with new detectors are added first."""
    made_on = {key: versions()[key] for key in ('torch', 'device')}
    if made_on['device'] == 'cuda':
        # Moments of versions whose convolutions ran in TF32 have no such
        # entry, so no products of this run are put beside theirs.
        made_on['tf32'] = 'off'
    stores: list[MomentStore | None] = []
    on_main(lambda: stores.extend(open_store(
        folder, belongs_to['data'], belongs_to['detectors'], indices,
        made_on)))
    store, base = stores or (None, None)
    names, known, known_images = on_main(lambda: (
        tuple(in_first(store).detectors), in_first(store).known,
        None if base is None else base.done))
    if set(names) == set(feature_maps.scales):
        # In the store's order, which is that of its channels.
        feature_maps = feature_maps.in_order(names)
    if known_images is not None:
        new = [name for name in names if name not in known]
        if new:
            print_log(f'{", ".join(known)}: measured before; only products '
                      f'with {", ".join(new)} are added.', logger='current')
            gather(feature_maps, store, known_images, progress)
        on_main(lambda: in_first(store).complete_from(in_first(base)))
    return store, feature_maps


def _solve(feature_maps: FeatureMaps, store: MomentStore) -> AdaptationCosts:
    by_grid: dict[Hashable, AdaptationCosts] = {}
    for grid in feature_maps.grids:
        with logged_warnings():
            costs = adaptation_costs(store.moments(grid))
        by_grid[grid] = costs.restricted(feature_maps.scales,
                                         feature_maps.channels)
    return costs_on_own_grids(by_grid, feature_maps.scales)


@contextmanager
def logged_warnings() -> Iterator[None]:
    """Within the block, warnings become lines of the log. Python would print
    them with a file name and a line of code."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for warning in caught:
        print_log(str(warning.message), 'current', logging.WARNING)


def _check_disk_space(plan: Plan) -> None:
    """Refuse a limit of ``sequential`` for which the disk has no room."""
    limit = plan.costs.sequential
    if limit is None:
        return
    folder = WorkDir(plan.work_dir).order_folder
    os.makedirs(folder, exist_ok=True)
    free = shutil.disk_usage(folder).free / 2 ** 30
    if free < limit * get_world_size():
        raise PlanError([
            f'mtpd.costs.sequential is {limit:g} GiB for each process, and '
            f'{folder} has room for {free:.1f}. Set it lower, or choose '
            'another --work-dir.'])
    print_log(f'Detectors run one at a time; meanwhile up to {limit:g} GiB '
              f'of maps per process are in {folder}.', logger='current')
