"""One pass: every image once through every detector, sums and no maps."""
import time
from itertools import chain
from typing import Callable, Sequence

from mmengine.dist import (all_reduce, get_rank, get_world_size,
                           is_main_process)

from mtpd.order.moments import FeatureMoments
from mtpd.processes import on_main

from .feature_maps import FeatureMaps
from .images import FOLDS
from .moment_store import MomentStore, in_first

SAVE_SECONDS = 120
"""About so often the sums are saved."""


def gather(feature_maps: FeatureMaps, store: MomentStore | None,
           images: Sequence[int],
           progress: Callable[[int, int], None] = lambda *_: None,
           precision: str = 'float32') -> None:
    """Add images to a store, as far as they are not in it.

    Several processes share the images: batches are the same however many
    there are, every second one is the second of two processes', and the sums
    meet by all-reduce about one shift, the mean of the first batch.

    Args:
        pyramids: Of the store's detectors, in the store's order.
        store: In the first process; None in the others.
        images: Which ones.
        progress: Called with images done and images in all, also before
            the first.
        precision: Of the products, 'float32' or 'float64'.

    Raises:
        ValueError: A map that is not finite, with its detector and stride.
        OSError: The sums could not be saved.
    """
    there, shift, known = on_main(lambda: (
        set(in_first(store).done), in_first(store).shift,
        in_first(store).known))
    folds: dict[int, list[int]] = {}
    for index in images:
        if index not in there:
            folds.setdefault(feature_maps.images.fold(index), []).append(index)
    done, total = len(there & set(images)), len(set(images))
    progress(done, total)
    share = get_world_size()  # batches until the next save
    for fold, of_fold in sorted(folds.items()):
        queue = feature_maps.images.batches(of_fold)
        while queue:
            began = time.monotonic()
            batches, queue = queue[:share], queue[share:]
            looks = feature_maps(batches[get_rank()::get_world_size()])
            if shift is None:
                first = [next(looks)] if is_main_process() else []
                shift = on_main(lambda: {
                    grid: _empty(feature_maps, precision).mean_of(
                        batch.maps, batch.valid)
                    for grid, batch in first[0][1].items()})
                looks = chain(first, looks)
            sums = {grid: _empty(feature_maps, precision, shift[grid], known)
                    for grid in feature_maps.grids}
            mine = 0
            for indices, maps in looks:
                for grid in feature_maps.grids:
                    sums[grid].add(*maps.pop(grid))
                mine += len(indices)
                progress(min(done + mine * get_world_size(), total), total)
            for of_grid in sums.values():
                of_grid.reduce(fold, all_reduce)
            new = [index for batch in batches for index in batch]
            on_main(lambda: in_first(store).add(fold, sums, new))
            done += len(new)
            share = on_main(lambda: _next_share(
                share, time.monotonic() - began))
    if get_world_size() > 1:  # the others' last batches may be shorter
        progress(done, total)


def _next_share(share: int, seconds: float) -> int:
    """Batches for about SAVE_SECONDS, from how long the last ones took; the
    same for each process, and no sudden leap."""
    wanted = int(share * SAVE_SECONDS / max(seconds, 1e-3))
    size = get_world_size()
    return max(size, min(wanted, 4 * share) // size * size)


def _empty(feature_maps: FeatureMaps, precision: str,
           shift: dict | None = None,
           known: Sequence[str] = ()) -> FeatureMoments:
    return FeatureMoments(feature_maps.channels, FOLDS, precision, shift,
                          known)
