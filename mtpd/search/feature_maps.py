"""Images -> the maps of all detectors, side by side on each grid."""
import copy
import logging
import os
import shutil
from contextlib import contextmanager
from fractions import Fraction
from typing import Iterable, Iterator, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.device import get_device
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.model.utils import stack_batch
from torch import Tensor

from mtpd.distill.adapters import resample
from mtpd.distill.frozen import MapReader
from mtpd.distill.preprocessor import common_divisor
from mtpd.distill.pyramid import Features, grid_of
from mtpd.order.map_batch import MapBatch

from .images import Images

FINE = 4
"""Up to this stride only a share of the positions is taken."""

Loaded = tuple[list[int], dict[str, list[Tensor]]]
"""Indices and raw images of a batch, see ``Images.load``."""


class FeatureMaps:
    """All detectors' maps of batches of images.

    Each image goes once through each detector, normalised as this detector
    wants it, at its own scale, and padded so that all grids line up. A map is
    then brought to each wanted grid as in training (``resample``). What lies
    beyond an image's edge is marked, and so is all but a drawn share of the
    positions at strides up to 4.

    Args:
        detectors: Name -> detector, all with maps at ``strides``.
        images: With the scales of all detectors.
        strides: The levels.
        scales: Name -> size of a detector's images over the student's; 1
            where a name is absent.
        grids: The scales on whose grids maps are wanted; None for those of all
            detectors.
        share: Of the positions at strides up to 4.
        most_on_disk: Bytes of maps that may lie on disk: detectors then run
            one after the other, each over a chunk of images, and only one
            is on the device at a time. None runs all of them on each image.
        folder: Where these maps lie for a while.

    Attributes:
        channels: Stride -> name -> channels.
        scales: Name -> size of its images over the student's.
        divisor: A side of the student's batch is a multiple of this.
    """

    def __init__(self, detectors: Mapping[str, BaseDetector],
                 images: Images, strides: Sequence[int],
                 scales: Mapping[str, Fraction] | None = None,
                 grids: Iterable[Fraction] | None = None, share: float = 1.,
                 most_on_disk: int | None = None,
                 folder: str | None = None) -> None:
        self.images = images
        self._views = {name: MapReader(detector)
                       for name, detector in detectors.items()}
        self.scales = {name: (scales or {}).get(name, Fraction(1))
                       for name in detectors}
        self.grids = tuple(sorted(set(grids or self.scales.values())))
        self._strides = tuple(strides)
        self.channels = {
            s: {name: view.channels[s] for name, view in self._views.items()}
            for s in strides}
        # The padding of training (DistillDataPreprocessor), for all of them.
        self.divisor = common_divisor(1, [
            (d.data_preprocessor.pad_size_divisor, self.scales[name])
            for name, d in detectors.items()])
        self._share = share
        self._most_on_disk = most_on_disk
        self._folder = folder or ''
        self._device = torch.device(get_device())

    def in_order(self, names: Sequence[str]) -> 'FeatureMaps':
        """The same with the detectors in this order."""
        other = copy.copy(self)
        other._views = {name: self._views[name] for name in names}
        other.scales = {name: self.scales[name] for name in names}
        other.channels = {s: {name: of[name] for name in names}
                          for s, of in self.channels.items()}
        return other

    def of_images(self, images: Images) -> 'FeatureMaps':
        """The same detectors' maps of other images, of the same scales."""
        other = copy.copy(self)
        other.images = images
        return other

    def __call__(self, batches: Sequence[list[int]]
                 ) -> Iterator[tuple[list[int], dict[Fraction, MapBatch]]]:
        """The indices of a batch's images, and grid -> their maps."""
        loaded = self.images.load(batches)
        most = self._most_on_disk
        looks = self._together(loaded) if most is None \
            else self._one_by_one(loaded, most)
        for (indices, views), maps in looks:
            folds = [self.images.fold(i) for i in indices]
            grids = {grid: self._on(grid, maps, indices, views, folds)
                     for grid in self.grids}
            del maps  # not to be held while the next ones are made
            yield indices, grids
            del grids

    def _together(self, loaded: Iterable[Loaded]
                  ) -> Iterator[tuple[Loaded, dict[str, Features]]]:
        for batch in loaded:
            yield batch, {name: self._look(name, batch)
                          for name in self._views}

    def _one_by_one(self, loaded: Iterable[Loaded], most: int
                    ) -> Iterator[tuple[Loaded, dict[str, Features]]]:
        for chunk in self._chunks(loaded, most):
            with self._disk() as folder:
                def path(name: str, batch: int) -> str:
                    return os.path.join(
                        folder, f'{list(self._views).index(name)}.{batch}.pt')

                for name, view in self._views.items():
                    for i, batch in enumerate(chunk):
                        torch.save({s: m.cpu() for s, m in self._look(
                            name, batch).items()}, path(name, i))
                    view.detector.cpu()
                    if self._device.type == 'cuda':
                        torch.cuda.empty_cache()
                for i, batch in enumerate(chunk):
                    yield batch, {name: torch.load(
                        path(name, i), self._device, weights_only=True)
                        for name in self._views}

    @contextmanager
    def _disk(self) -> Iterator[str]:
        # One name for each process: a killed run's maps are found by the next.
        folder = os.path.join(self._folder, f'maps_of_process_{get_rank()}')
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _chunks(self, loaded: Iterable[Loaded],
                most: int) -> Iterator[list[Loaded]]:
        """As many batches as have their maps within ``most`` bytes; at least
        one, which is said."""
        chunk: list[Loaded] = []
        size, said = 0, False
        for batch in loaded:
            more = self._bytes(batch)
            if more > most and not said:
                said = True
                print_log(
                    f'The maps of {len(batch[0])} images alone are '
                    f'{more / 2**30:.2f} GiB, more than mtpd.costs.sequential '
                    f'allows ({most / 2**30:.2f}).',
                    logger='current', level=logging.WARNING)
            if chunk and size + more > most:
                yield chunk
                chunk, size = [], 0
            chunk.append(batch)
            size += more
        if chunk:
            yield chunk

    def _bytes(self, batch: Loaded) -> int:
        """Of a batch's maps on disk; an archive's own few bytes are added."""
        total = 0
        for name in self._views:
            height, width = (
                -(-side // self.divisor) * self.divisor * self.scales[name]
                for side in batch[1]['1'][0].shape[-2:])
            total += 4096 + sum(
                512 + 4 * len(batch[0]) * self.channels[s][name]
                * int(-(-height // s)) * int(-(-width // s))
                for s in self._strides)
        return total

    def _look(self, name: str, batch: Loaded) -> Features:
        view, scale = self._views[name], self.scales[name]
        preprocessor = view.detector.data_preprocessor
        images = [p.to(self._device) for p in batch[1][str(scale)]]
        normalised = preprocessor.to(self._device)(
            {'inputs': images, 'data_samples': None})['inputs']
        return view(stack_batch(list(normalised), int(self.divisor * scale),
                                preprocessor.pad_value), self._strides)

    def _on(self, grid: Fraction, maps: Mapping[str, Features],
            indices: Sequence[int], views: Mapping[str, list[Tensor]],
            folds: Sequence[int]) -> MapBatch:
        own = next(name for name in maps if self.scales[name] == grid)
        sizes = {s: grid_of(m) for s, m in maps[own].items()}
        inside = _inside(grid_of(views[str(grid)][0]), sizes)
        valid = {}
        for s, cells in inside.items():
            cells = cells.expand(len(indices), *cells.shape)
            if s <= FINE and self._share < 1:
                cells = cells & torch.stack([self.images.drawn_share(
                    i, s, sizes[s], self._share) for i in indices])
            valid[s] = cells.to(self._device)
        return MapBatch({name: {s: resample(m, sizes[s])
                                for s, m in own.items()}
                         for name, own in maps.items()}, folds, valid)


def _inside(size: tuple[int, int], grids: Mapping[int, tuple[int, int]]
            ) -> dict[int, Tensor]:
    """stride -> bool (H, W): cells whose centre lies in an image of
    ``size``."""
    inside = {}
    for s, (height, width) in grids.items():
        rows = (torch.arange(height) + 0.5) * s < size[0]
        columns = (torch.arange(width) + 0.5) * s < size[1]
        inside[s] = rows[:, None] & columns[None]
    return inside
