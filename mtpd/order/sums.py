"""Sums over positions of feature maps, for one stride at a time."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .map_batch import position_blocks


class Moments(NamedTuple):
    """Sums over positions of x - shift, x being C concatenated channels.

    All tensors are float64.

    Attributes:
        count: Number of positions, n.
        shift: (C,), subtracted from each position.
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

    def to(self, device: torch.device) -> Moments:
        """The same on ``device``; tensors that are there are not copied."""
        return Moments(self.count, self.shift.to(device),
                       self.total.to(device), self.outer.to(device))

    def about(self, point: Tensor) -> Moments:
        """The sums with ``point`` (C,) as shift."""
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
        """The sums without the positions of ``part``, of the same shift."""
        return Moments(self.count - part.count, self.shift,
                       self.total - part.total, self.outer - part.outer)


class LevelSums:
    """The sums of one stride's maps, fold by fold.

    Args:
        spans: Detector's name -> its part of the C concatenated channels.
        known: Number of the first channels whose products with one another
            are left out.
        shift: (C,), float64, subtracted from each position; None before the
            first batch.

    Attributes:
        in_float32: Whether any product was taken in float32.
        folds: Fold -> its sums. Their ``outer`` is right on and above the
            diagonal; ``over`` mirrors it.
    """

    def __init__(self, spans: Mapping[str, slice], known: int,
                 shift: Tensor | None) -> None:
        self.spans = spans
        self.known = known
        self.shift = shift
        self.in_float32 = False
        self.folds: dict[int, Moments] = {}

    def add(self, levels: Sequence[Tensor], folds: Sequence[int],
            mask: Tensor | None, dtype: torch.dtype) -> None:
        """Add a batch of images.

        Args:
            levels: Each detector's (N, C, H, W), on one grid and device.
            folds: The N images' folds.
            mask: (N, H, W), the valid positions; None for all.
            dtype: Of the products.
        """
        assert self.shift is not None  # set by the first batch
        device = levels[0].device
        shift = self.shift.to(device, dtype)[:, None]
        # Not every accelerator has float64; CUDA devices have.
        sums_device = (device if device.type == 'cuda'
                       else torch.device('cpu'))
        for image, fold in enumerate(folds):
            for block in position_blocks(levels, image, mask, dtype):
                self.in_float32 |= dtype == torch.float32
                sums = self._grown(fold, block.shape[1], sums_device)
                block -= shift
                # Summed in the block's precision, as its products are; a sum
                # in float64 would copy the block first.
                sums.total.add_(block.sum(1).to(sums.total))
                for span in self.spans.values():
                    # Known detectors are multiplied only with new ones.
                    first = max(span.start, self.known)
                    product = block[span] @ block[first:].T
                    sums.outer[span, first:] += product.to(sums_device)

    def check_finite(self, folds: Iterable[int], stride: int) -> None:
        """Refuse squares that overflowed; maps can be finite without them.

        Raises:
            ValueError: Sums of some detector are not finite.
        """
        for fold in self.folds.keys() & set(folds):
            sums = self.folds[fold]
            finite = (sums.total.square() + sums.outer.diagonal()).isfinite()
            if finite.all():
                continue
            names = [name for name, span in self.spans.items()
                     if not finite[span].all()]
            raise ValueError(
                f'{", ".join(names)} at stride {stride}: maps so large that '
                'their squares are not finite. Check the checkpoint: trained '
                'maps are smaller by many orders of magnitude.')

    def merge(self, other: LevelSums) -> None:
        """Add the sums of ``other``, which may have another shift."""
        self.in_float32 |= other.in_float32
        if other.shift is None:
            return
        if self.shift is None:
            self.shift = other.shift
        for fold, new in other.folds.items():
            present = self.folds.get(fold)
            device = (self.shift if present is None else present.total).device
            new = new.to(device).about(self.shift.to(device))
            sums = self._grown(fold, new.count, device)
            sums.total.add_(new.total)
            sums.outer.add_(new.outer)

    def over(self, folds: Sequence[int], index: Tensor | None) -> Moments:
        """The sums over non-empty folds, on the CPU.

        Args:
            folds: At least one, all different.
            index: (C',), the channels that are wanted; None for all.
        """
        assert self.shift is not None  # a fold is not empty
        total = torch.zeros((), dtype=torch.float64)
        for fold in folds:
            total = total + self.folds[fold].total.cpu()
        upper = torch.zeros((len(total), len(total)), dtype=torch.float64)
        for fold in folds:  # one at a time: they may lie on disk
            upper += self.folds[fold].outer.cpu()
        outer = upper.triu_() + upper.triu(1).T
        shift = self.shift
        if index is not None:
            shift, total = shift[index], total[index]
            outer = outer[index][:, index]
        count = sum(self.folds[fold].count for fold in folds)
        return Moments(count, shift, total, outer)

    def reduce(self, fold: int, all_reduce: Callable[[Tensor], None]) -> None:
        """Replace one fold's sums by those of all processes together."""
        held = list(self.folds.values())
        device = held[0].total.device if held else torch.device('cpu')
        sums = self._grown(fold, 0, device)
        counts = torch.tensor([sums.count, self.in_float32],
                              dtype=torch.float64, device=device)
        for tensor in (counts, sums.total, sums.outer):
            all_reduce(tensor)
        self.in_float32 = bool(counts[1] > 0)
        self.folds[fold] = sums._replace(count=round(counts[0].item()))
        if not self.folds[fold].count:
            del self.folds[fold]

    def _grown(self, fold: int, positions: int,
               device: torch.device) -> Moments:
        """A fold's sums on ``device``, zeros if absent, to be added to in
        place; their count includes new ``positions`` already."""
        assert self.shift is not None  # callers have one
        sums = self.folds.get(fold)
        if sums is None:
            size = len(self.shift)
            sums = Moments(0, self.shift, *(
                torch.zeros(shape, dtype=torch.float64, device=device)
                for shape in ((size,), (size, size))))
        sums = sums.to(device)
        self.folds[fold] = sums._replace(count=sums.count + positions)
        return self.folds[fold]
