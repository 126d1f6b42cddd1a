"""Images -> the feature maps of all detectors, side by side on each grid."""
import copy
import logging
import os
import shutil
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Iterable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmengine.device import get_device
from mmengine.dist import get_rank
from mmengine.logging import print_log

from mtpd.distill.adapters import resample
from mtpd.distill.frozen import MapReader
from mtpd.distill.preprocessor import common_divisor
from mtpd.distill.pyramid import Features, grid_of
from mtpd.order import MapBatch
from mtpd.order.precision import full_precision

from .images import ImageBatch, Images

FINE_STRIDE = 4
"""Up to this stride only a share of the positions is taken."""

FINE_SHARE = 0.25
"""This share: at stride 4 are three quarters of all positions, and
neighbouring ones hold much the same."""


class FeatureMaps:
    """All detectors' maps of batches of images.

    Each image goes once through each detector: normalised as the detector
    expects it, at the detector's scale, padded so that all grids line up, in
    full float32 precision. Each map is then resampled to every wanted grid as
    in training (``resample``); detectors of one scale are taken to have equal
    grids. Positions beyond an image's edge are marked, and so are all but a
    drawn share of the positions at strides up to 4.

    The detectors are only read, the student among them: each is in eval mode
    while it runs. Callers that measure many batches set the mode once, by
    ``evaluation_mode``.

    Args:
        detectors: Name -> detector, all with maps at ``strides``.
        images: At the scales of all detectors.
        strides: The levels.
        scales: Name -> size of the detector's images over the student's; 1
            where a name is absent.
        grids: The scales on whose grids maps are wanted; None for those of all
            detectors.
        fine_share: Of the positions at strides up to 4.
        disk_limit: Bytes of maps that may be on disk at a time. The detectors
            then run one after the other over a chunk of images, and only one
            is on the device at a time. None runs all of them on each image.
        folder: Where these maps are written.

    Attributes:
        scales: Name -> size of the detector's images over the student's.
        grids: The scales on whose grids maps are made, ascending.
        divisor: A side of the student's batch is a multiple of this.
    """

    def __init__(self, detectors: Mapping[str, BaseDetector],
                 images: Images, strides: Sequence[int],
                 scales: Mapping[str, Fraction] | None = None,
                 grids: Iterable[Fraction] | None = None,
                 fine_share: float = FINE_SHARE,
                 disk_limit: int | None = None, folder: str = '') -> None:
        self.images = images
        self._readers = {name: MapReader(detector)
                         for name, detector in detectors.items()}
        self.scales = dict.fromkeys(detectors, Fraction(1))
        self.scales.update(scales or {})
        self.grids = tuple(sorted(set(grids or self.scales.values())))
        self._strides = tuple(strides)
        # The padding of training (DistillDataPreprocessor), for all of them.
        self.divisor = common_divisor(1, [
            (detector.data_preprocessor.pad_size_divisor, self.scales[name])
            for name, detector in detectors.items()])
        self._fine_share = fine_share
        self._disk_limit = disk_limit
        self._folder = os.path.join(folder, f'maps_of_process_{get_rank()}')
        self._device = torch.device(get_device())

    @property
    def channels(self) -> dict[int, dict[str, int]]:
        """Stride -> name -> channels."""
        return {stride: {name: reader.channels[stride]
                         for name, reader in self._readers.items()}
                for stride in self._strides}

    def in_order(self, names: Sequence[str]) -> 'FeatureMaps':
        """The same maps with the detectors in this order."""
        other = copy.copy(self)
        other._readers = {name: self._readers[name] for name in names}
        other.scales = {name: self.scales[name] for name in names}
        return other

    def __call__(self, batches: Sequence[list[int]]
                 ) -> Iterator[tuple[list[int], dict[Fraction, MapBatch]]]:
        """The indices of a batch's images, and grid -> their maps."""
        loaded = self.images.load(batches)
        limit = self._disk_limit
        both = self._all_at_once(loaded) if limit is None \
            else self._one_by_one(loaded, limit)
        for batch, maps in both:
            grids = {grid: self._on_grid(grid, maps, batch)
                     for grid in self.grids}
            del maps  # not to be held while the next ones are made
            yield batch.indices, grids
            del grids

    def _all_at_once(self, loaded: Iterable[ImageBatch]
                     ) -> Iterator[tuple[ImageBatch, dict[str, Features]]]:
        for batch in loaded:
            yield batch, {name: self._extract(name, batch)
                          for name in self._readers}

    def _one_by_one(self, loaded: Iterable[ImageBatch], limit: int
                    ) -> Iterator[tuple[ImageBatch, dict[str, Features]]]:
        for chunk in self._chunks(loaded, limit):
            # A killed run has left its maps under the same name.
            shutil.rmtree(self._folder, ignore_errors=True)
            os.makedirs(self._folder)
            try:
                files = self._write_maps(chunk)
                for batch, paths in zip(chunk, files, strict=True):
                    yield batch, {
                        name: torch.load(path, self._device, weights_only=True)
                        for name, path in paths.items()}
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _chunks(self, loaded: Iterable[ImageBatch],
                limit: int) -> Iterator[list[ImageBatch]]:
        """As many batches as have their maps within ``limit`` bytes, but at
        least one. The first batch that exceeds the limit is reported."""
        chunk: list[ImageBatch] = []
        size, warned = 0, False
        for batch in loaded:
            batch_size = self.disk_bytes(batch)
            if batch_size > limit and not warned:
                warned = True
                print_log(
                    f'The maps of one batch of {len(batch.indices)} images '
                    f'are {batch_size / 2**30:.2f} GiB, more than '
                    f'mtpd.costs.sequential allows ({limit / 2**30:.2f}).',
                    logger='current', level=logging.WARNING)
            if chunk and size + batch_size > limit:
                yield chunk
                chunk, size = [], 0
            chunk.append(batch)
            size += batch_size
        if chunk:
            yield chunk

    def disk_bytes(self, batch: ImageBatch) -> int:
        """The size of a batch's maps on disk, with the few bytes that the
        files themselves need."""
        total = 0
        for name, reader in self._readers.items():
            height, width = self._padded(batch, self.scales[name])
            total += 4096
            for stride in self._strides:
                rows, columns = -(-height // stride), -(-width // stride)
                total += 512 + 4 * (len(batch.indices) * rows * columns
                                    * reader.channels[stride])
        return total

    def _padded(self, batch: ImageBatch, scale: Fraction) -> tuple[int, int]:
        """(height, width) of a batch at a scale."""
        height, width = (
            int(-(-side // self.divisor) * self.divisor * scale)
            for side in batch.views[Fraction(1)][0].shape[-2:])
        return height, width

    def _write_maps(self, chunk: Sequence[ImageBatch]
                    ) -> list[dict[str, str]]:
        """Run one detector after the other; name -> file, for each batch."""
        files: list[dict[str, str]] = [{} for _ in chunk]
        for name, reader in self._readers.items():
            for number, batch in enumerate(chunk):
                path = os.path.join(self._folder,
                                    f'{len(files[number])}.{number}.pt')
                torch.save({stride: level.cpu() for stride, level
                            in self._extract(name, batch).items()}, path)
                files[number][name] = path
            reader.detector.cpu()
            if self._device.type == 'cuda':
                torch.cuda.empty_cache()
        return files

    def _extract(self, name: str, batch: ImageBatch) -> Features:
        reader, scale = self._readers[name], self.scales[name]
        preprocessor = reader.detector.data_preprocessor.to(self._device)
        images = [image.to(self._device) for image in batch.views[scale]]
        normalised = preprocessor(
            {'inputs': images, 'data_samples': None})['inputs']
        # Exactly as large as training has it: a scale may round away the last
        # row, for which the student's batch is one divisor higher.
        height, width = self._padded(batch, scale)
        inputs = F.pad(normalised, (0, width - normalised.shape[-1],
                                    0, height - normalised.shape[-2]),
                       value=preprocessor.pad_value)
        with full_precision_forwards(self._device.type):
            return reader(inputs, self._strides)

    def _on_grid(self, grid: Fraction, maps: Mapping[str, Features],
                 batch: ImageBatch) -> MapBatch:
        """All maps resampled to the grid of a scale, and what is valid."""
        native = next(name for name in maps if self.scales[name] == grid)
        sizes = {stride: grid_of(level)
                 for stride, level in maps[native].items()}
        image_height, image_width = grid_of(batch.views[grid][0])
        valid = {}
        for stride, (height, width) in sizes.items():
            # Cells whose centre lies in the image.
            rows = (torch.arange(height) + 0.5) * stride < image_height
            columns = (torch.arange(width) + 0.5) * stride < image_width
            cells = rows[:, None] & columns[None]
            cells = cells.expand(len(batch.indices), *cells.shape)
            if stride <= FINE_STRIDE and self._fine_share < 1:
                cells = cells & torch.stack([
                    self.images.drawn_positions(index, stride, sizes[stride],
                                                self._fine_share)
                    for index in batch.indices])
            valid[stride] = cells.to(self._device)
        resampled = {}
        for name, levels in maps.items():
            resampled[name] = {stride: resample(level, sizes[stride])
                               for stride, level in levels.items()}
        folds = [self.images.fold(index) for index in batch.indices]
        return MapBatch(resampled, folds, valid)


@contextmanager
def full_precision_forwards(device_type: str) -> Iterator[None]:
    """Float32 convolutions and products in float32, without TF32.

    cuDNN uses TF32 by default. The sums over maps of several hundred then
    differ by 1e-2 with the division into batches (seen on an H100).

    torch has two ways to set it, ``cudnn.allow_tf32`` and, from 2.9 on,
    ``fp32_precision`` of each operation, and refuses to read the first after
    the second was used. Setting the first sets both; so both are kept and put
    back, as ``full_precision`` does with products.
    """
    cudnn, operations = torch.backends.cudnn, []
    for backend, name in ((cudnn, 'conv'), (cudnn, 'rnn'),
                          (torch.backends.mkldnn, 'conv')):
        operation: Any = getattr(backend, name, None)
        if hasattr(operation, 'fp32_precision'):
            operations.append((operation, operation.fp32_precision))
    try:
        allow_tf32 = cudnn.allow_tf32
    except RuntimeError:  # only fp32_precision was used
        allow_tf32 = None
    cudnn.allow_tf32 = False
    for operation, _ in operations:
        operation.fp32_precision = 'ieee'
    try:
        with full_precision(device_type):
            yield
    finally:
        if allow_tf32 is not None:
            cudnn.allow_tf32 = allow_tf32
        for operation, precision in operations:
            operation.fp32_precision = precision
