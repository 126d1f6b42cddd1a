"""Second moments of detectors' maps, added up while images go by.

Least squares between maps needs no map, only sums of their products. These
sums add over images, processes and folds, so one pass of each detector over
each image is enough for every pair and for every way of holding out.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple

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
    digest = hashlib.sha256(image_id.encode()).digest()
    return int.from_bytes(digest, 'big') % folds


class Moments(NamedTuple):
    """Sums over positions of x - shift, x being C concatenated channels.

    All tensors are float64.

    Attributes:
        count: Positions n.
        shift: (C,), what was subtracted from each position.
        total: (C,), sum of x - shift.
        outer: (C, C), sum of (x - shift)(x - shift)^T.
    """

    count: int  # type: ignore[assignment]  # a tuple's own count() is hidden
    shift: Tensor
    total: Tensor
    outer: Tensor

    @property
    def mean(self) -> Tensor:
        """(C,), mean of x."""
        return self.shift + self.total / self.count

    def about(self, point: Tensor) -> Moments:
        """The sums that ``point`` (C,) as shift would have given."""
        if torch.equal(point, self.shift):
            return self
        step = self.shift - point
        # Both factors keep their order in each product, so that a symmetric
        # ``outer`` stays symmetric to the last bit.
        cross = torch.outer(self.total, step)
        return Moments(
            self.count, point, self.total + self.count * step,
            self.outer + (cross + cross.T)
            + self.count * torch.outer(step, step))

    def minus(self, part: Moments) -> Moments:
        """Without the positions of ``part``, which has the same shift."""
        return Moments(self.count - part.count, self.shift,
                       self.total - part.total, self.outer - part.outer)


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

    Raises:
        ValueError: No stride or detector, strides that list different
            detectors, a channel count or ``folds`` below 1, another precision,
            or ``known`` detectors that are not the first ones.
    """

    def __init__(self, channels: Mapping[int, Mapping[str, int]],
                 folds: int = 10, precision: str = 'float32',
                 shift: Mapping[int, Tensor] | None = None,
                 known: Sequence[str] = ()) -> None:
        self.channels = {stride: dict(of) for stride, of in channels.items()}
        self.folds = folds
        self.precision = precision
        self.known = tuple(known)
        _check_layout(self.channels, folds)
        if precision not in ('float32', 'float64'):
            raise ValueError("precision is 'float32' or 'float64'; got "
                             f'{precision!r}.')
        if self.known != self.names[:len(self.known)]:
            raise ValueError(f'known {self.known} are not the first of '
                             f'{self.names}.')
        # Where a detector's channels lie among the concatenated ones.
        self._spans = {stride: _spans(of)
                       for stride, of in self.channels.items()}
        self._shift: dict[int, Tensor] = dict(shift or {})
        self._in_float32: dict[int, bool] = dict.fromkeys(self.channels, False)
        self._count: dict[int, dict[int, int]] = {s: {} for s in self.channels}
        self._total: dict[int, dict[int, Tensor]] = {
            s: {} for s in self.channels}
        # Right on and above the diagonal; `over` mirrors it.
        self._outer: dict[int, dict[int, Tensor]] = {
            s: {} for s in self.channels}

    @property
    def names(self) -> tuple[str, ...]:
        """The detectors, in the order of their channels."""
        return tuple(next(iter(self.channels.values())))

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(self.channels)

    @property
    def shift(self) -> dict[int, Tensor]:
        """Stride -> (C,), float64; empty before there is one."""
        return dict(self._shift)

    def count(self, stride: int, fold: int) -> int:
        """Positions added at ``stride`` in ``fold``."""
        return self._count[stride].get(fold, 0)

    def filled_folds(self, stride: int) -> tuple[int, ...]:
        """The folds that hold at least one position at ``stride``."""
        return tuple(sorted(self._count[stride]))

    def in_float32(self, stride: int) -> bool:
        """Whether any product at ``stride`` was taken in float32."""
        return self._in_float32[stride]

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
            keep = None if valid is None or not valid[stride].any() \
                else valid[stride]
            total = levels[0].new_zeros((), dtype=torch.float64)
            count = 0
            for image in range(len(levels[0])):
                for block in _blocks(levels, image, keep, torch.float64):
                    total, count = total + block.sum(1), count + len(block.T)
            # A value that float32 holds, so that maps of either precision
            # have the very same shift subtracted.
            means[stride] = (total / count).float().double().cpu()
        return means

    @torch.no_grad()
    def add(self, maps: Mapping[str, Mapping[int, Tensor]],
            folds: Sequence[int],
            valid: Mapping[int, Tensor] | None = None) -> None:
        """Add a batch of images; all of it or, on an error, nothing.

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
        self.check_batch(maps, folds, valid)
        if not self._shift:
            self._shift = self.mean_of(maps, valid)
        for stride in self.strides:
            levels = [maps[name][stride] for name in self.names]
            keep = None if valid is None else valid[stride]
            with full_precision(levels[0].device.type):
                self._add_level(stride, levels, folds, keep)

    def merge(self, other: FeatureMoments) -> None:
        """Add what ``other`` holds, e.g. another process's images.

        Raises:
            ValueError: ``other`` has other detectors, channels, folds or known
                detectors.
        """
        if (_ordered(other.channels) != _ordered(self.channels)
                or (other.folds, other.known) != (self.folds, self.known)):
            raise ValueError(
                'Only moments of the same detectors, channels and folds can '
                f'be merged: this has {self.channels} in {self.folds} folds, '
                f'the other {other.channels} in {other.folds} folds; known '
                f'are {self.known} and {other.known}.')
        for stride in self.strides:
            self._in_float32[stride] |= other._in_float32[stride]
            if stride not in other._shift:
                continue
            shift = self._shift.setdefault(stride, other._shift[stride])
            for fold, count in other._count[stride].items():
                device = self._total[stride].get(fold, shift).device
                rebased = Moments(
                    count, other._shift[stride].to(device),
                    other._total[stride][fold].to(device),
                    other._outer[stride][fold].to(device),
                ).about(shift.to(device))
                total, outer = self._sums(stride, fold, device)
                self._count[stride][fold] += count
                total += rebased.total
                outer += rebased.outer

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
        index = torch.cat([torch.arange(*self._spans[stride][name])
                           for name in names])
        total = sum((self._total[stride][fold].cpu() for fold in filled),
                    torch.zeros((), dtype=torch.float64))
        upper = torch.zeros((len(total), len(total)), dtype=torch.float64)
        for fold in filled:  # one at a time: they may lie on disk
            upper += self._outer[stride][fold].cpu()
        outer = upper.triu_() + upper.triu(1).T
        if len(index) < len(total) or names != self.names:
            total, outer = total[index], outer[index][:, index]
        return Moments(sum(self.count(stride, fold) for fold in filled),
                       self._shift[stride][index], total, outer)

    def reduce(self, fold: int, all_reduce: Callable[[Tensor], None]) -> None:
        """Make one fold's sums those of all processes together.

        Every process has to call it, also one that has added nothing, and all
        need the same ``shift``.

        Args:
            fold: The only one that may hold positions.
            all_reduce: Replaces a tensor by its sum over the processes.

        Raises:
            ValueError: There is no shift yet.
        """
        if not self._shift:
            raise ValueError('Processes add up sums about one shift; give it '
                             'to the constructor.')
        for stride in self.strides:
            total, outer = self._sums(stride, fold,
                                      self._some_device(stride))
            counts = torch.tensor([self._count[stride][fold],
                                   self._in_float32[stride]],
                                  dtype=torch.float64, device=total.device)
            for tensor in (counts, total, outer):
                all_reduce(tensor)
            self._count[stride][fold] = round(counts[0].item())
            self._in_float32[stride] = bool(counts[1] > 0)
            if not self._count[stride][fold]:
                for sums in (self._count, self._total, self._outer):
                    del sums[stride][fold]

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
                               self._shift)
        for stride in self.strides:
            whole._in_float32[stride] = (self._in_float32[stride]
                                         or base.in_float32(stride))
            counts, others = ([m.count(stride, fold)
                               for fold in range(self.folds)]
                              for m in (self, base))
            if counts != others:
                raise ValueError(
                    f'The sums at stride {stride} are over {counts} positions '
                    f'fold by fold, those to complete them over {others}.')
            for fold in self.filled_folds(stride):
                total = self._total[stride][fold].cpu()
                outer = self._outer[stride][fold].cpu().clone()
                old = base.over(stride, [fold], self.known)
                size = len(old.total)
                outer[:size, :size] = old.about(
                    self._shift[stride][:size]).outer.triu()
                whole._count[stride][fold] = self._count[stride][fold]
                whole._total[stride][fold] = total.clone()
                whole._outer[stride][fold] = outer
        return whole

    def narrowed(self, names: Sequence[str],
                 strides: Sequence[int]) -> FeatureMoments:
        """Of some of the detectors, in this order, and some strides only."""
        narrow = FeatureMoments(
            {s: {name: self.channels[s][name] for name in names}
             for s in strides}, self.folds, self.precision)
        for stride in strides:
            narrow._in_float32[stride] = self._in_float32[stride]
            narrow._shift[stride] = self._shift[stride][torch.cat([
                torch.arange(*self._spans[stride][name]) for name in names])]
            for fold in self.filled_folds(stride):
                sums = self.over(stride, [fold], names)
                narrow._count[stride][fold] = sums.count
                narrow._total[stride][fold] = sums.total
                narrow._outer[stride][fold] = sums.outer
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
        self = cls(first.channels, first.folds, first.precision, first._shift,
                   first.known)
        for part in parts:
            if (_ordered(part.channels) != _ordered(self.channels)
                    or any(not torch.equal(part._shift[s], self._shift[s])
                           for s in part._shift)):
                raise ValueError('Parts are of the same detectors about the '
                                 'same shift; merge() takes others.')
            for stride in self.strides:
                self._in_float32[stride] |= part._in_float32[stride]
                sums: list[tuple[dict[int, Any], dict[int, Any]]] = [
                    (self._count, part._count), (self._total, part._total),
                    (self._outer, part._outer)]
                for own, theirs in sums:
                    twice = own[stride].keys() & theirs[stride].keys()
                    if twice:
                        raise ValueError(f'Fold {min(twice)} is in two parts.')
                    own[stride].update(theirs[stride])
        return self

    def state_dict(self, copy: bool = True) -> dict:
        """All of it as plain values and CPU tensors, for ``torch.save``.

        Args:
            copy: Whether sums are copied that lie on the CPU.
        """
        return dict(
            channels={s: dict(of) for s, of in self.channels.items()},
            folds=self.folds, precision=self.precision, known=self.known,
            in_float32=dict(self._in_float32),
            shift=dict(self._shift),
            count={s: dict(of) for s, of in self._count.items()},
            total=_on_cpu(self._total, copy), outer=_on_cpu(self._outer, copy))

    @classmethod
    def from_state_dict(cls, state: Mapping) -> FeatureMoments:
        """What ``state_dict`` was called on; the tensors are not copied.

        Raises:
            ValueError: An entry of ``state_dict`` is missing.
        """
        entries = {'channels', 'folds', 'precision', 'known', 'in_float32',
                   'shift', 'count', 'total', 'outer'}
        if not entries <= set(state):
            raise ValueError(
                'Not a state_dict of FeatureMoments: it lacks '
                f'{sorted(entries - set(state))}.')
        self = cls(state['channels'], state['folds'], state['precision'],
                   state['shift'], state['known'])
        self._in_float32 = dict(state['in_float32'])
        for own, saved in ((self._count, state['count']),
                           (self._total, state['total']),
                           (self._outer, state['outer'])):
            own.update({stride: dict(of) for stride, of in saved.items()})
        return self

    def _add_level(self, stride: int, levels: Sequence[Tensor],
                   folds: Sequence[int], keep: Tensor | None) -> None:
        double = self.precision == 'float64' or any(
            level.dtype == torch.float64 for level in levels)
        dtype = torch.float64 if double else torch.float32
        device = levels[0].device
        shift = self._shift[stride].to(device, dtype)[:, None]
        # A known detector is multiplied with those after the known ones only.
        known = self._spans[stride][self.known[-1]][1] if self.known else 0
        for image, fold in enumerate(folds):
            for block in _blocks(levels, image, keep, dtype):
                self._in_float32[stride] |= not double
                total, outer = self._sums(stride, fold, _sums_device(device))
                block -= shift
                self._count[stride][fold] += block.shape[1]
                # Of a block in float32, as its products; a sum in float64
                # would copy the block first.
                total += block.sum(1).to(total)
                for start, stop in self._spans[stride].values():
                    first = max(start, known)
                    product = block[start:stop] @ block[first:].T
                    outer[start:stop, first:] += product.to(outer.device)
        self._check_sums(stride, set(folds))

    def _check_sums(self, stride: int, folds: set[int]) -> None:
        """Maps can be finite and their squares not."""
        for fold in folds & self._outer[stride].keys():
            squares = self._total[stride][fold].square() \
                + self._outer[stride][fold].diagonal()
            if squares.isfinite().all():
                continue
            names = [name for name, span in self._spans[stride].items()
                     if not squares[slice(*span)].isfinite().all()]
            raise ValueError(
                f'{", ".join(names)} at stride {stride}: maps so large that '
                'their squares are not finite. Check the checkpoint, or set '
                "mtpd.costs.precision='float64'.")

    def _some_device(self, stride: int) -> torch.device:
        sums = list(self._total[stride].values())
        return sums[0].device if sums else torch.device('cpu')

    def _sums(self, stride: int, fold: int,
              device: torch.device) -> tuple[Tensor, Tensor]:
        """The fold's total and outer on ``device``, made if absent."""
        size = sum(self.channels[stride].values())
        self._count[stride].setdefault(fold, 0)
        for sums, shape in ((self._total, (size,)), (self._outer,
                                                     (size, size))):
            present = sums[stride].get(fold)
            sums[stride][fold] = (
                torch.zeros(shape, dtype=torch.float64, device=device)
                if present is None else present.to(device))
        return self._total[stride][fold], self._outer[stride][fold]

    def check_batch(self, maps: Mapping[str, Mapping[int, Tensor]],
                    folds: Sequence[int],
                    valid: Mapping[int, Tensor] | None) -> None:
        """Raise what ``add`` would."""
        wrong = [fold for fold in folds if not 0 <= fold < self.folds]
        if wrong:
            raise ValueError(f'Folds go from 0 to {self.folds - 1}; got '
                             f'{wrong}. fold_of(image_id, {self.folds}) '
                             'gives them.')
        finite: list[tuple[str, int, Tensor]] = []
        for stride, channels in self.channels.items():
            grid: tuple[int, ...] = ()
            for name, wanted in channels.items():
                level = _level_of(maps, name, stride)
                grid = grid or tuple(level.shape[2:])
                expected = (len(folds), wanted, *grid)
                if level.ndim != 4 or tuple(level.shape) != expected:
                    raise ValueError(
                        f'{name} at stride {stride}: expected a map of shape '
                        f'{expected} (images, channels, and the grid of '
                        f'{self.names[0]}); got {tuple(level.shape)}.')
                if not level.dtype.is_floating_point:
                    raise ValueError(f'{name} at stride {stride}: expected a '
                                     f'floating map; got {level.dtype}.')
            keep = _valid_of(valid, stride, (len(folds), *grid))
            for name in channels:
                # A sum is fast to look at; it may overflow where no value is.
                finite.append((name, stride, _all_valid(
                    maps[name][stride].sum(1).isfinite(), keep)))
        # Read together: on a GPU each reading waits for the device.
        for (name, stride, _), fine in zip(
                finite, torch.stack([fine for *_, fine in finite]).tolist(),
                strict=True):
            keep = None if valid is None else valid[stride]
            if not fine and not _all_valid(
                    maps[name][stride].isfinite().all(1), keep):
                raise ValueError(
                    f'{name} at stride {stride} holds a value that is not '
                    'finite, at a position that is not padding. Check its '
                    'checkpoint; if it ran in float16, run it in float32.')


def _check_layout(channels: Mapping[int, Mapping[str, int]],
                  folds: int) -> None:
    if folds < 1:
        raise ValueError(f'FeatureMoments needs folds >= 1; got {folds}.')
    if not channels or not all(channels.values()):
        raise ValueError('FeatureMoments needs at least one stride and one '
                         f'detector at each; got {channels}.')
    orders = {stride: list(of) for stride, of in channels.items()}
    first, *others = orders.values()
    if any(other != first for other in others):
        raise ValueError('Every stride must list the same detectors in the '
                         f'same order; got {orders}.')
    if min(count for of in channels.values() for count in of.values()) < 1:
        raise ValueError(f'A detector has at least 1 channel; got {channels}.')


def _level_of(maps: Mapping[str, Mapping[int, Tensor]], name: str,
              stride: int) -> Tensor:
    if name not in maps:
        raise ValueError(f'No maps of {name}; there are those of '
                         f'{list(maps)}.')
    if stride not in maps[name]:
        raise ValueError(f'{name} has no map with stride {stride}; it has '
                         f'{tuple(maps[name])}.')
    return maps[name][stride]


def _valid_of(valid: Mapping[int, Tensor] | None, stride: int,
              expected: tuple[int, ...]) -> Tensor | None:
    if valid is None:
        return None
    if stride not in valid:
        raise ValueError(f'valid has no mask with stride {stride}; it has '
                         f'{tuple(valid)}. Give one per stride, or None where '
                         'nothing is padded.')
    keep = valid[stride]
    if keep.dtype != torch.bool or tuple(keep.shape) != expected:
        raise ValueError(
            f'valid at stride {stride}: expected bool of shape {expected} '
            f'(images and grid); got {keep.dtype} of {tuple(keep.shape)}.')
    return keep


def _blocks(levels: Sequence[Tensor], image: int, keep: Tensor | None,
            dtype: torch.dtype) -> Iterator[Tensor]:
    """One image's valid positions as columns, in blocks: (C of all, P)."""
    flat = [level[image].flatten(1) for level in levels]
    # Cut before anything is copied: a whole image of many detectors is
    # larger than all sums.
    if keep is None or keep[image].all():
        for parts in zip(*(level.split(_BLOCK, 1) for level in flat),
                         strict=True):
            yield torch.cat([part.to(dtype) for part in parts])
        return
    chosen = keep[image].flatten().to(flat[0].device).nonzero()[:, 0]
    for part in chosen.split(_BLOCK):
        if len(part):
            yield torch.cat([level.index_select(1, part).to(dtype)
                             for level in flat])


def _all_valid(fine: Tensor, keep: Tensor | None) -> Tensor:
    """Whether all of (N, H, W) are true, but where ``keep`` is false."""
    return (fine if keep is None else fine | ~keep.to(fine.device)).all()


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Float32 products in float32, whatever the surroundings ask for.

    torch has two ways to ask for less, `set_float32_matmul_precision` and,
    from 2.9 on, `fp32_precision` per backend, and refuses to read the first
    after the second was used. Setting the first sets both; so both are kept
    and put back.
    """
    matmuls = [backend.matmul
               for backend in (torch.backends.cuda, torch.backends.mkldnn)
               if hasattr(backend, 'matmul')
               and hasattr(backend.matmul, 'fp32_precision')]
    by_backend = [matmul.fp32_precision for matmul in matmuls]
    try:
        overall = torch.get_float32_matmul_precision()
    except RuntimeError:  # only fp32_precision was used
        overall = None
    torch.set_float32_matmul_precision('highest')
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        if overall is not None:
            torch.set_float32_matmul_precision(overall)
        for matmul, precision in zip(matmuls, by_backend, strict=True):
            matmul.fp32_precision = precision


def _spans(channels: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    stops = list(accumulate(channels.values()))
    return {name: (stop - channels[name], stop)
            for name, stop in zip(channels, stops, strict=True)}


def _sums_device(device: torch.device) -> torch.device:
    # Not every accelerator has float64; CUDA devices have.
    return device if device.type == 'cuda' else torch.device('cpu')


def _ordered(channels: Mapping[int, Mapping[str, int]]) -> dict:
    # Dicts compare equal in any order; the order is that of the channels.
    return {stride: list(of.items()) for stride, of in channels.items()}


def _on_cpu(sums: Mapping[int, Mapping[int, Tensor]], copy: bool) -> dict:
    return {stride: {fold: tensor.to('cpu', copy=copy)
                     for fold, tensor in of.items()}
            for stride, of in sums.items()}
