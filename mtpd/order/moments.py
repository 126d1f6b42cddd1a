"""Second moments of detectors' maps, added up image by image.

Least squares between maps needs no map, only sums of their products. These
sums add over images, processes and folds, so one pass of each detector over
each image is enough for every pair and for every way of holding out.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from .map_batch import MapBatch, MapLayout, position_blocks
from .precision import full_precision
from .sums import LevelSums, Moments


class FeatureMoments:
    """Second moments of several detectors' concatenated maps, per stride.

    Products are taken in float32 (in float64 where a map is float64 or
    ``precision`` asks for it) of blocks of at most 4096 positions of one
    image, from which one saved shift was subtracted, and added up in
    float64: unshifted float32 products lose the digits that the residual of a
    fit consists of. Autocast and TF32 do not apply here. The sums take 8 C^2
    bytes per stride and non-empty fold, C being the channels of all detectors
    together; they lie on the maps' device where it is a CUDA device, else on
    the CPU.

    Args:
        channels: Stride -> (detector's name -> channels); every stride lists
            the same detectors in the same order.
        folds: Number of folds into which the images are divided.
        precision: Of the products, 'float32' or 'float64'.
        shift: Stride -> (C,), what is subtracted from each position; None for
            ``mean_of`` the first batch that is added.
        known: The first detectors of the order, whose products with one
            another are left out: ``completed`` takes them from elsewhere.

    Attributes:
        names: The detectors, in the order of their channels.
        strides: The levels.

    Raises:
        ValueError: ``channels`` or ``folds`` that ``MapLayout`` refuses,
            another precision, or ``known`` detectors that are not the first
            ones.
    """

    def __init__(self, channels: Mapping[int, Mapping[str, int]],
                 folds: int = 10, precision: str = 'float32',
                 shift: Mapping[int, Tensor] | None = None,
                 known: Sequence[str] = ()) -> None:
        self.layout = MapLayout(channels, folds)
        self.channels, self.folds = self.layout.channels, folds
        self.names, self.strides = self.layout.names, self.layout.strides
        self.precision = precision
        self.known = tuple(known)
        if precision not in ('float32', 'float64'):
            raise ValueError("precision is 'float32' or 'float64'; got "
                             f'{precision!r}.')
        if self.known != self.names[:len(self.known)]:
            raise ValueError(f'known {self.known} are not the first of '
                             f'{self.names}.')
        shift = shift or {}
        self._levels: dict[int, LevelSums] = {}
        for stride, spans in self.layout.spans.items():
            known_channels = spans[self.known[-1]].stop if self.known else 0
            self._levels[stride] = LevelSums(spans, known_channels,
                                             shift.get(stride))

    @property
    def shift(self) -> dict[int, Tensor]:
        """Stride -> (C,), float64; empty before the first batch."""
        return {stride: level.shift for stride, level in self._levels.items()
                if level.shift is not None}

    def count(self, stride: int, fold: int) -> int:
        """Positions added at ``stride`` in ``fold``."""
        sums = self._levels[stride].folds.get(fold)
        return 0 if sums is None else sums.count

    def counts(self, stride: int) -> list[int]:
        """Positions added at ``stride``, fold by fold."""
        return [self.count(stride, fold) for fold in range(self.folds)]

    def filled_folds(self, stride: int) -> tuple[int, ...]:
        """The folds that hold at least one position at ``stride``."""
        return tuple(sorted(self._levels[stride].folds))

    def in_float32(self, stride: int) -> bool:
        """Whether any product at ``stride`` was taken in float32."""
        return self._levels[stride].in_float32

    @torch.no_grad()
    def mean_of(self, maps: Mapping[str, Mapping[int, Tensor]],
                valid: Mapping[int, Tensor] | None = None
                ) -> dict[int, Tensor]:
        """Stride -> (C,), float64, the mean over a batch, as ``shift``.

        Over all positions where none is valid: any shift near the features
        will do, and all processes need one for every stride.

        Args:
            maps: As ``add``.
            valid: As ``add``.
        """
        means = {}
        for stride in self.strides:
            levels = [maps[name][stride] for name in self.names]
            mask = None if valid is None else valid[stride]
            if mask is not None and not mask.any():
                mask = None
            total = levels[0].new_zeros((), dtype=torch.float64)
            count = 0
            for image in range(len(levels[0])):
                for block in position_blocks(levels, image, mask,
                                             torch.float64):
                    total, count = total + block.sum(1), count + len(block.T)
            # A value that float32 holds, so that maps of either precision
            # have the very same shift subtracted.
            means[stride] = (total / count).float().double().cpu()
        return means

    @torch.no_grad()
    def add(self, maps: Mapping[str, Mapping[int, Tensor]],
            folds: Sequence[int],
            valid: Mapping[int, Tensor] | None = None) -> None:
        """Add a batch of images. After an error the sums are of no use.

        Args:
            maps: Detector's name -> stride -> (N, C, H, W): the same images
                for all, and at one stride the same grid. Strides and detectors
                not asked for in the constructor are left out.
            folds: The N images' folds, each from 0 on.
            valid: Stride -> (N, H, W), bool; False marks padding, which is
                left out. None where nothing is padded.

        Raises:
            ValueError: A missing detector or stride, a wrong shape, a fold
                that does not exist, or a map that is not finite at a valid
                position.
        """
        batch = MapBatch(maps, folds, valid)
        self.layout.check(batch)
        if not self.shift:
            for stride, shift in self.mean_of(maps, valid).items():
                self._levels[stride].shift = shift
        for stride, sums in self._levels.items():
            levels = [maps[name][stride] for name in self.names]
            double = self.precision == 'float64' or any(
                level.dtype == torch.float64 for level in levels)
            dtype = torch.float64 if double else torch.float32
            with full_precision(levels[0].device.type):
                sums.add(levels, folds, batch.mask(stride), dtype)
            sums.check_finite(folds, stride)

    def merge(self, other: FeatureMoments) -> None:
        """Add the sums of ``other``, e.g. another process's images.

        Raises:
            ValueError: ``other`` has other detectors, channels, folds or known
                detectors.
        """
        if not (self.layout.matches(other.layout)
                and self.known == other.known):
            raise ValueError(
                'Only moments of the same detectors, channels and folds can '
                f'be merged: this has {self.channels} in {self.folds} folds, '
                f'the other {other.channels} in {other.folds} folds; known '
                f'are {self.known} and {other.known}.')
        for stride, level in self._levels.items():
            level.merge(other._levels[stride])

    def over(self, stride: int, folds: Iterable[int],
             names: Sequence[str] | None = None) -> Moments:
        """Moments at ``stride`` over a union of folds, on the CPU.

        Args:
            stride: One of ``strides``.
            folds: Different folds; empty ones add nothing.
            names: The detectors whose channels are wanted, in this order; all
                of them if None.

        Raises:
            ValueError: A stride or detector that is not here, or no position
                in these folds.
        """
        if stride not in self.channels:
            raise ValueError(f'No moments at stride {stride!r}; there are '
                             f'those of {self.strides}.')
        names = self.names if names is None else tuple(names)
        absent = [name for name in names if name not in self.names]
        if absent:
            raise ValueError(f'No moments of {absent}; there are those of '
                             f'{list(self.names)}.')
        if set(names) & set(self.known):
            raise ValueError(f'The products among {list(self.known)} are not '
                             'here; see completed().')
        folds = tuple(folds)
        filled = [fold for fold in folds if self.count(stride, fold)]
        if not filled:
            raise ValueError(
                f'No position of folds {folds} at stride {stride}; those with '
                f'positions are {self.filled_folds(stride)}.')
        index = (None if names == self.names
                 else self.layout.indices(stride, names))
        return self._levels[stride].over(filled, index)

    def reduce(self, fold: int, all_reduce: Callable[[Tensor], None]) -> None:
        """Replace one fold's sums by those of all processes together.

        Every process has to call it, also one that has added nothing, and all
        need the same ``shift``.

        Args:
            fold: The only one that may hold positions.
            all_reduce: Replaces a tensor by its sum over the processes.

        Raises:
            ValueError: There is no shift yet.
        """
        if not self.shift:
            raise ValueError('Processes add up sums about one shift; give it '
                             'to the constructor.')
        for level in self._levels.values():
            level.reduce(fold, all_reduce)

    def completed(self, base: FeatureMoments) -> FeatureMoments:
        """With the products among the ``known`` detectors, from ``base``.

        Args:
            base: Moments of the same positions; it may hold more detectors,
                in any order, and have another shift.

        Raises:
            ValueError: ``base`` lacks a known detector or has other positions
                in some fold.
        """
        whole = FeatureMoments(self.channels, self.folds, self.precision,
                               self.shift)
        for stride, level in self._levels.items():
            counts, base_counts = self.counts(stride), base.counts(stride)
            if counts != base_counts:
                raise ValueError(
                    f'The sums at stride {stride} are over {counts} positions '
                    'fold by fold, those to complete them over '
                    f'{base_counts}.')
            whole_level = whole._levels[stride]
            whole_level.in_float32 = (level.in_float32
                                      or base.in_float32(stride))
            for fold in self.filled_folds(stride):
                sums = level.folds[fold].to(torch.device('cpu'))
                outer = sums.outer.clone()
                old = base.over(stride, [fold], self.known)
                size = len(old.total)
                old = old.about(sums.shift[:size])
                outer[:size, :size] = old.outer.triu()
                whole_level.folds[fold] = sums._replace(
                    total=sums.total.clone(), outer=outer)
        return whole

    def narrowed(self, names: Sequence[str],
                 strides: Sequence[int]) -> FeatureMoments:
        """Some of the detectors, in this order, at some strides."""
        channels, shift = {}, {}
        for stride in strides:
            widths = self.channels[stride]
            channels[stride] = {name: widths[name] for name in names}
            index = self.layout.indices(stride, names)
            shift[stride] = self.shift[stride][index]
        narrow = FeatureMoments(channels, self.folds, self.precision, shift)
        for stride, level in narrow._levels.items():
            level.in_float32 = self.in_float32(stride)
            for fold in self.filled_folds(stride):
                level.folds[fold] = self.over(stride, [fold], names)
        return narrow

    @classmethod
    def of_parts(cls, parts: Sequence[FeatureMoments]) -> FeatureMoments:
        """Moments of different folds as one, without copying any sum.

        Raises:
            ValueError: No part, parts of other detectors or shifts, or a fold
                in more than one.
        """
        if not parts:
            raise ValueError('Expected at least one part.')
        first = parts[0]
        whole = cls(first.channels, first.folds, first.precision, first.shift,
                    first.known)
        for part in parts:
            same_shift = all(torch.equal(shift, whole.shift[stride])
                             for stride, shift in part.shift.items())
            if not (part.layout.matches(whole.layout) and same_shift):
                raise ValueError('Parts are of the same detectors about the '
                                 'same shift; merge() takes others.')
            for stride, level in whole._levels.items():
                new = part._levels[stride]
                level.in_float32 |= new.in_float32
                twice = level.folds.keys() & new.folds.keys()
                if twice:
                    raise ValueError(f'Fold {min(twice)} is in two parts.')
                level.folds.update(new.folds)
        return whole

    def state_dict(self, copy: bool = True) -> dict:
        """All of it as plain values and CPU tensors, for ``torch.save``.

        Args:
            copy: Whether sums are copied that lie on the CPU.
        """
        state: dict = dict(
            channels={s: dict(widths) for s, widths in self.channels.items()},
            folds=self.folds, precision=self.precision, known=self.known,
            in_float32={s: level.in_float32
                        for s, level in self._levels.items()},
            shift=self.shift, count={}, total={}, outer={})
        for stride, level in self._levels.items():
            count, total, outer = (state[key].setdefault(stride, {})
                                   for key in ('count', 'total', 'outer'))
            for fold, sums in level.folds.items():
                count[fold] = sums.count
                total[fold] = sums.total.to('cpu', copy=copy)
                outer[fold] = sums.outer.to('cpu', copy=copy)
        return state

    @classmethod
    def from_state_dict(cls, state: Mapping) -> FeatureMoments:
        """The moments whose ``state_dict`` this is; no tensor is copied.

        Raises:
            ValueError: An entry of ``state_dict`` is missing.
        """
        entries = {'channels', 'folds', 'precision', 'known', 'in_float32',
                   'shift', 'count', 'total', 'outer'}
        if not entries <= set(state):
            raise ValueError(
                'Not a state_dict of FeatureMoments: it lacks '
                f'{sorted(entries - set(state))}.')
        moments = cls(state['channels'], state['folds'], state['precision'],
                      state['shift'], state['known'])
        for stride, level in moments._levels.items():
            level.in_float32 = state['in_float32'][stride]
            for fold, count in state['count'][stride].items():
                level.folds[fold] = Moments(count, state['shift'][stride],
                                            state['total'][stride][fold],
                                            state['outer'][stride][fold])
        return moments
