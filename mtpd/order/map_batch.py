"""Batches of detectors' feature maps: layout, folds, checks, positions."""
from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# A float32 product of more positions than this loses digits in the summing;
# one of far fewer spends its time on adding blocks up.
_BLOCK = 4096


def fold_of(image_id: str, folds: int) -> int:
    """Fold of an image: the same in every process, run and machine.

    Raises:
        ValueError: ``folds`` is below 1.
    """
    if folds < 1:
        raise ValueError(f'fold_of needs folds >= 1; got {folds}.')
    # Not hash(): Python salts it, so processes would disagree.
    digest = hashlib.sha256(
        image_id.encode(errors='surrogateescape')).digest()
    return int.from_bytes(digest, 'big') % folds


class MapBatch(NamedTuple):
    """A batch of images' maps, the arguments of ``FeatureMoments.add``.

    Attributes:
        maps: Detector's name -> stride -> (N, C, H, W), on one grid per
            stride.
        folds: The N images' folds.
        valid: Stride -> (N, H, W), bool; False marks padding, which is left
            out. None where nothing is padded.
    """

    maps: Mapping[str, Mapping[int, Tensor]]
    folds: Sequence[int]
    valid: Mapping[int, Tensor] | None

    def mask(self, stride: int) -> Tensor | None:
        """(N, H, W), the valid positions; None where nothing is padded."""
        return None if self.valid is None else self.valid[stride]


class MapLayout:
    """The maps of interest, and how their channels are concatenated.

    Attributes:
        channels: Stride -> (detector's name -> channels).
        folds: Number of folds into which the images are divided.
        names: The detectors, in the order of their channels.
        strides: The levels.
        spans: Stride -> detector's name -> its part of the concatenated
            channels.

    Raises:
        ValueError: No stride or detector, strides that list different
            detectors or in different orders, or a channel count or ``folds``
            below 1.
    """

    def __init__(self, channels: Mapping[int, Mapping[str, int]],
                 folds: int) -> None:
        if folds < 1:
            raise ValueError(f'Feature moments need folds >= 1; got {folds}.')
        if not channels or not all(channels.values()):
            raise ValueError('Feature moments need at least one stride and '
                             f'one detector at each; got {channels}.')
        orders = {stride: list(widths) for stride, widths in channels.items()}
        names = next(iter(orders.values()))
        if any(order != names for order in orders.values()):
            raise ValueError('Every stride must list the same detectors in '
                             f'the same order; got {orders}.')
        if min(min(widths.values()) for widths in channels.values()) < 1:
            raise ValueError('A detector has at least 1 channel; got '
                             f'{channels}.')
        self.channels = {stride: dict(widths)
                         for stride, widths in channels.items()}
        self.folds = folds
        self.names = tuple(names)
        self.strides = tuple(channels)
        self.spans: dict[int, dict[str, slice]] = {}
        for stride, widths in channels.items():
            start, spans = 0, self.spans.setdefault(stride, {})
            for name, width in widths.items():
                spans[name] = slice(start, start + width)
                start += width

    def matches(self, other: MapLayout) -> bool:
        """Whether folds, detectors, their order and channels are equal."""
        return self.folds == other.folds and self.spans == other.spans

    def indices(self, stride: int, names: Sequence[str]) -> Tensor:
        """(C,), where the channels of some detectors lie, in this order."""
        spans = self.spans[stride]
        return torch.cat([torch.arange(spans[name].start, spans[name].stop)
                          for name in names])

    def check(self, batch: MapBatch) -> None:
        """Refuse a batch that does not have this layout.

        Raises:
            ValueError: A missing detector or stride, a wrong shape, a fold
                that does not exist, or a map that is not finite at a valid
                position.
        """
        wrong = [fold for fold in batch.folds if not 0 <= fold < self.folds]
        if wrong:
            raise ValueError(f'Folds go from 0 to {self.folds - 1}; got '
                             f'{wrong}. fold_of(image_id, {self.folds}) '
                             'gives them.')
        for stride in self.strides:
            self._check_shapes(batch, stride)
        self._check_finite(batch)

    def _check_shapes(self, batch: MapBatch, stride: int) -> None:
        images = len(batch.folds)
        grid: tuple[int, ...] = ()
        for name, width in self.channels[stride].items():
            if name not in batch.maps:
                raise ValueError(f'No maps of {name}; there are those of '
                                 f'{list(batch.maps)}.')
            if stride not in batch.maps[name]:
                raise ValueError(f'{name} has no map with stride {stride}; it '
                                 f'has {tuple(batch.maps[name])}.')
            level = batch.maps[name][stride]
            grid = grid or tuple(level.shape[2:])
            expected = images, width, *grid
            if level.ndim != 4 or tuple(level.shape) != expected:
                raise ValueError(
                    f'{name} at stride {stride}: expected a map of shape '
                    f'{expected} (images, channels, and the grid of '
                    f'{self.names[0]}); got {tuple(level.shape)}.')
            if not level.dtype.is_floating_point:
                raise ValueError(f'{name} at stride {stride}: expected a '
                                 f'floating map; got {level.dtype}.')
        if batch.valid is None:
            return
        if stride not in batch.valid:
            raise ValueError(
                f'valid has no mask with stride {stride}; it has '
                f'{tuple(batch.valid)}. Give one per stride, or None where '
                'nothing is padded.')
        mask = batch.valid[stride]
        if mask.dtype != torch.bool or tuple(mask.shape) != (images, *grid):
            raise ValueError(
                f'valid at stride {stride}: expected bool of shape '
                f'{(images, *grid)} (images and grid); got {mask.dtype} of '
                f'{tuple(mask.shape)}.')

    def _check_finite(self, batch: MapBatch) -> None:
        keys, finite = [], []
        for stride in self.strides:
            for name in self.names:
                keys.append((stride, name))
                # A sum is fast to take; it may overflow where no value does.
                sums = batch.maps[name][stride].sum(1)
                finite.append(_all_valid(sums.isfinite(),
                                         batch.mask(stride)))
        # Read together: on a GPU each reading waits for the device.
        is_finite = torch.stack(finite).tolist()
        for (stride, name), known_finite in zip(keys, is_finite, strict=True):
            if known_finite:
                continue
            values = batch.maps[name][stride].isfinite().all(1)
            if not _all_valid(values, batch.mask(stride)):
                raise ValueError(
                    f'{name} at stride {stride} holds a value that is not '
                    'finite, at a position that is not padding. Check its '
                    'checkpoint; if it ran in float16, run it in float32.')


def position_blocks(levels: Sequence[Tensor], image: int,
                    mask: Tensor | None, dtype: torch.dtype
                    ) -> Iterator[Tensor]:
    """One image's valid positions as columns, in blocks of at most 4096.

    Args:
        levels: Each detector's (N, C, H, W), on one grid.
        image: Its index in the batch.
        mask: (N, H, W), the valid positions; None for all.
        dtype: Of the blocks.

    Yields:
        (C of all detectors, P).
    """
    flat = [level[image].flatten(1) for level in levels]
    # Split before anything is copied: a whole image of many detectors is
    # larger than all sums.
    if mask is None or mask[image].all():
        for parts in zip(*(level.split(_BLOCK, 1) for level in flat),
                         strict=True):
            yield torch.cat([part.to(dtype) for part in parts])
        return
    valid = mask[image].flatten().to(flat[0].device).nonzero()[:, 0]
    for indices in valid.split(_BLOCK):
        if len(indices):
            yield torch.cat([level.index_select(1, indices).to(dtype)
                             for level in flat])


def _all_valid(values: Tensor, mask: Tensor | None) -> Tensor:
    """Whether all of (N, H, W) are true, except where ``mask`` is false."""
    return (values if mask is None else values | ~mask.to(values.device)
            ).all()
