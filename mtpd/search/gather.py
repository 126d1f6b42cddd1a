"""One pass: each image once through each detector; sums are kept, no maps."""
import time
from itertools import chain
from typing import Callable, Mapping, Sequence

from mmengine.dist import (all_reduce, get_rank, get_world_size,
                           is_main_process)
from torch import Tensor

from mtpd.order import FeatureMoments
from mtpd.processes import on_main

from .feature_maps import FeatureMaps
from .images import FOLDS
from .moment_store import MomentStore, in_first

SAVE_SECONDS = 120
"""The time between two saves, roughly."""

PRECISION = 'float32'
"""Of the products of maps; they are added up in float64."""

Progress = Callable[[int, int], None]
"""Called with the number of images done and of all images."""


def gather(feature_maps: FeatureMaps, store: MomentStore | None,
           indices: Sequence[int],
           progress: Progress = lambda *_: None) -> None:
    """Add the images to a store that it does not hold yet.

    Several processes divide the images among them. The batches do not depend
    on the number of processes: with two processes, the second takes every
    other batch. The sums are about one shift, the mean of the first batch, and
    meet by all-reduce.

    Args:
        feature_maps: Of the store's detectors, in the store's order.
        store: In the first process; None in the others.
        indices: Of the images.
        progress: Called before the first image and after each batch.

    Raises:
        ValueError: A map that is not finite, with its detector and stride.
        OSError: The sums could not be saved.
    """
    images, processes = feature_maps.images, get_world_size()
    wanted = set(indices)
    done, shift, known = on_main(lambda: (
        set(in_first(store).done), in_first(store).shift,
        in_first(store).known))
    count, total = len(done & wanted), len(wanted)
    progress(count, total)
    chunk_size = processes
    for fold, missing in images.by_fold(indices, without=done).items():
        batches = images.batches(missing)
        while batches:
            start = time.monotonic()
            chunk, batches = batches[:chunk_size], batches[chunk_size:]
            maps = feature_maps(chunk[get_rank()::processes])
            if shift is None:
                first = [next(maps)] if is_main_process() else []
                shift = on_main(lambda: {
                    grid: _no_sums(feature_maps).mean_of(batch.maps,
                                                         batch.valid)
                    for grid, batch in first[0][1].items()})
                maps = chain(first, maps)
            sums = {grid: _no_sums(feature_maps, shift[grid], known)
                    for grid in feature_maps.grids}
            own_count = 0
            for batch, grids in maps:
                for grid, moments in sums.items():
                    moments.add(*grids.pop(grid))
                own_count += len(batch)
                progress(min(count + own_count * processes, total), total)
            for moments in sums.values():
                moments.reduce(fold, all_reduce)
            added = list(chain.from_iterable(chunk))
            on_main(lambda: in_first(store).add(fold, sums, added))
            count += len(added)
            chunk_size = on_main(lambda: next_chunk_size(
                chunk_size, time.monotonic() - start))
    if processes > 1:  # the others' last batches may be shorter
        progress(count, total)


def next_chunk_size(size: int, seconds: float) -> int:
    """The number of batches for about SAVE_SECONDS.

    Args:
        size: The number of batches between the last two saves.
        seconds: How long these took.

    Returns:
        At most four times ``size``, and the same number for each process.
    """
    wanted = int(size * SAVE_SECONDS / max(seconds, 1e-3))
    processes = get_world_size()
    return max(processes, min(wanted, 4 * size) // processes * processes)


def _no_sums(feature_maps: FeatureMaps,
             shift: Mapping[int, Tensor] | None = None,
             known: Sequence[str] = ()) -> FeatureMoments:
    return FeatureMoments(feature_maps.channels, FOLDS, PRECISION, shift,
                          known)
