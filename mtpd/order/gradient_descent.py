"""The costs as the paper takes them: linear maps trained by gradient descent.

For comparison only: training stops short of the minimum that
``adaptation_costs`` solves for. How far depends on the learning rate, the
epochs and each source's condition, so a cost tells partly how slowly a
source's maps are learned from. And every epoch reads all maps again.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import permutations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .costs import AdaptationCosts, HeldOutFolds
from .map_batch import MapBatch, MapLayout
from .precision import full_precision

# A loss may rise in passing; one that ends this many times above its first
# epoch's has diverged.
_GROWN = 10


def gradient_descent_costs(
        fitting: Callable[[int], Iterable[MapBatch]],
        held_out: Callable[[], Iterable[MapBatch]],
        channels: Mapping[int, Mapping[str, int]],
        folds: int = 10, epochs: int = 12, lr: float = 0.01,
        momentum: float = 0.9, seed: int = 0,
        after_epoch: Callable[[int, AdaptationCosts], None] | None = None
        ) -> AdaptationCosts:
    """Costs of all ordered pairs of detectors, by gradient descent.

    Per pair and stride a 1x1 convolution with bias is trained to take the
    source's maps to the target's: the loss is the squared error's mean over a
    batch's valid positions and the target's channels, SGD with momentum makes
    one step per batch, and in epoch e, from 0 on, the learning rate is
    ``lr * (1 - e / epochs)``. All are trained at once, from the same maps, and
    none depends on the others: those of one shape start from the same weights,
    drawn as ``nn.Conv2d`` draws them. In float32 throughout; errors and
    variances are added up in float64.

    Limits. Of a source direction with mean square v a share of about
    exp(-v * lr * steps / (C_target * (1 - momentum))) stays unlearned. Its
    error grows while v exceeds (1 + momentum) * C_target / rate. Where that
    does not reach infinity before the rate has fallen enough, a loss that ends
    ten times above its start is refused. One rate may suit no pool: on the
    trained detectors of docs/order.md .003 diverged and .001 ended 68% above
    the minimum.

    Args:
        fitting: Epoch, from 0 on -> the images to train on. Their folds
            are ignored.
        held_out: Gives the images to score, in at least two folds.
        channels: Stride -> (detector's name -> channels); every stride lists
            the same detectors in the same order.
        folds: Number of folds into which the images are divided.
        epochs: How often ``fitting`` is called.
        lr: Learning rate of the first epoch, of a mean over channels: a
            target with twice as many channels is learned half as fast.
        momentum: Of SGD, undamped.
        seed: Of the initial weights.
        after_epoch: Called with each epoch, from 0 on, and the costs after
            it. Without it the maps are scored once, at the end.

    Raises:
        ValueError: Fewer than two detectors, ``epochs`` below 1, a batch or
            ``channels`` that ``MapLayout`` refuses, no position to train
            on or fewer than two folds with positions to score at a stride, or
            a map that diverges.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), section 3.2. How the maps
        are trained is not published: optimiser, rate, epochs, batches, initial
        weights and schedule are ours, the last after the linear fall of the
        paper's order search.
    """
    layout = MapLayout(channels, folds)
    if len(layout.names) < 2 or epochs < 1:
        raise ValueError(
            'Costs by gradient descent need two detectors and one epoch at '
            f'least; got {list(layout.names)} and epochs={epochs}.')
    fits = {(stride, name): _LinearMaps(name, widths, seed)
            for stride, widths in layout.channels.items() for name in widths}
    history: list[np.ndarray] = []
    for epoch in range(epochs):
        when = f'epoch {epoch + 1} of {epochs}'
        losses = _train(fits, fitting(epoch), layout,
                        lr * (1 - epoch / epochs), momentum, when)
        _check_finite(layout, losses, f'loss in {when}', lr)
        history.append(losses)
        if after_epoch or epoch == epochs - 1:
            costs = _score(fits, held_out(), layout)
            _check_finite(layout, costs.mse, f'held-out error after {when}',
                          lr)
            if after_epoch:
                after_epoch(epoch, costs)
    for name, place in _maps(layout):
        first, last = history[0][place], history[-1][place]
        if last > _GROWN * first:
            raise ValueError(
                f'{name} diverged without reaching infinity: its loss is '
                f'{last:.3g} in the last epoch, {first:.3g} in the first. '
                f'Lower lr (it is {lr:g}).')
    return costs


class _LinearMaps:
    """From one source to all other detectors at one stride.

    They lie side by side in one matrix: the columns of a linear map are
    independent of one another.
    """

    def __init__(self, source: str, channels: Mapping[str, int], seed: int):
        self.source = source
        self.targets = [name for name in channels if name != source]
        self.widths = [channels[name] for name in self.targets]
        bound = channels[source] ** -.5
        drawn = []
        for width in self.widths:
            # A new one for each pair, so that pairs do not affect each other.
            generator = torch.Generator().manual_seed(seed)
            weight, bias = (torch.empty(width, inputs).uniform_(
                -bound, bound, generator=generator)
                for inputs in (channels[source], 1))
            drawn.append(torch.cat([weight, bias], 1))
        # (C_source + 1, C of all targets); the last row is the bias.
        self.weight = torch.cat(drawn).T.contiguous()
        self.velocity = torch.zeros_like(self.weight)

    def step(self, rows: Mapping[str, Tensor], lr: float,
             momentum: float) -> Tensor:
        """One step of SGD; returns the losses before it, (targets,)."""
        device = rows[self.source].device
        self.weight = self.weight.to(device)
        self.velocity = self.velocity.to(device)
        with full_precision(device.type):
            design, residual = self._residual(rows)
            losses = []
            for part in residual.split(self.widths, 1):
                losses.append(part.square().mean())
                part *= 2 / part.numel()  # now the gradient of its loss
            self.velocity.mul_(momentum).add_(design.T @ residual)
        self.weight.sub_(lr * self.velocity)
        return torch.stack(losses)

    def errors(self, rows: Mapping[str, Tensor]) -> Tensor:
        """(targets, P), float64: squared errors, mean over channels."""
        with full_precision(self.weight.device.type):
            _, residual = self._residual(rows)
        return torch.stack([part.double().square().mean(1)
                            for part in residual.split(self.widths, 1)])

    def _residual(self, rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(P, C_source + 1) and (P, C of all targets)."""
        source = rows[self.source]
        design = torch.cat([source, torch.ones_like(source[:, :1])], 1)
        target = torch.cat([rows[name] for name in self.targets], 1)
        return design, design @ self.weight - target


_Fits = Mapping[tuple[int, str], _LinearMaps]  # (stride, source) -> maps


def _train(fits: _Fits, batches: Iterable[MapBatch], layout: MapLayout,
           lr: float, momentum: float, when: str) -> np.ndarray:
    """One epoch; (levels, sources, targets), the sums of its losses."""
    losses: dict[tuple[int, str], Tensor] = {}
    for stride, _, rows in _levels(batches, layout):
        for name in layout.names:
            # Read at the epoch's end: on a GPU each reading waits.
            loss = fits[stride, name].step(rows, lr, momentum)
            losses[stride, name] = losses.get((stride, name), 0) + loss
    missing = set(layout.strides) - {stride for stride, _ in losses}
    if missing:
        raise ValueError(
            'The images to train on have no valid position at strides '
            f'{sorted(missing)} in {when}. `fitting` must return its batches '
            'again for each epoch; if it does, leave these strides out of '
            '`channels`.')
    return _by_pair(fits, layout, losses)


def _score(fits: _Fits, batches: Iterable[MapBatch],
           layout: MapLayout) -> AdaptationCosts:
    counts = {stride: torch.zeros(layout.folds, dtype=torch.int64)
              for stride in layout.strides}
    errors: dict[tuple[int, str], Tensor] = {}   # (targets, folds)
    shifts: dict[tuple[int, str], Tensor] = {}   # (C,)
    scatter: dict[tuple[int, str], Tensor] = {}  # (2, C): sums, of squares
    for stride, folds, rows in _levels(batches, layout):
        in_fold = one_hot(folds, layout.folds)
        counts[stride] += in_fold.sum(0).cpu()
        for name, values in rows.items():
            key = stride, name
            # A product, because index_add_ on a GPU adds in any order.
            scored = fits[key].errors(rows) @ in_fold.double()
            errors[key] = errors.get(key, 0) + scored
            values = values.double()
            # Squares of unshifted values would lose a quiet channel's digits.
            values = values - shifts.setdefault(key, values[0].clone())
            sums = torch.stack([values.sum(0), values.square().sum(0)])
            scatter[key] = scatter.get(key, 0) + sums
    for stride, count in counts.items():
        filled = int((count > 0).sum())
        if filled < 2:
            raise ValueError(
                'The held-out images have valid positions at stride '
                f'{stride} in {filled} of {layout.folds} folds; a cost and '
                'its error need two. Hold out more images, or leave the '
                'stride out of `channels`.')
    fold_errors = _by_pair(fits, layout, errors)
    fold_positions = np.stack([count.numpy() for count in counts.values()])
    positions = fold_positions.sum(1)
    mse = np.full(fold_errors.shape[:3], np.nan)
    for _, place in _maps(layout):
        # Not numpy's sum, which adds in another order.
        mse[place] = sum(fold_errors[place].tolist()) / positions[place[0]]
    variance = np.empty(mse.shape[:2])
    for level, stride in enumerate(layout.strides):
        for i, name in enumerate(layout.names):
            mean, square = scatter[stride, name] / int(positions[level])
            variance[level, i] = (square - mean.square()).mean().item()
    fold_positions = np.repeat(fold_positions[:, None], len(layout.names), 1)
    return AdaptationCosts(
        layout.names, layout.strides, mse, variance, positions,
        HeldOutFolds(fold_errors, fold_positions), np.full_like(mse, np.nan))


def _levels(batches: Iterable[MapBatch], layout: MapLayout
            ) -> Iterator[tuple[int, Tensor, dict[str, Tensor]]]:
    """Stride, (P,) folds of the valid positions, name -> (P, C) values."""
    for batch in batches:
        layout.check(batch)
        for stride in layout.strides:
            levels = {name: batch.maps[name][stride].detach()
                      for name in layout.names}
            some = levels[layout.names[0]]
            folds = torch.as_tensor(batch.folds, dtype=torch.int64,
                                    device=some.device)
            folds = folds[:, None, None].expand(-1, *some.shape[2:])
            mask = batch.mask(stride)
            keep = (torch.ones_like(folds, dtype=torch.bool) if mask is None
                    else mask.to(some.device))
            if keep.any():
                yield stride, folds[keep], {
                    name: level.movedim(1, -1)[keep].float()
                    for name, level in levels.items()}


def _by_pair(fits: _Fits, layout: MapLayout,
             by_source: Mapping[tuple[int, str], Tensor]) -> np.ndarray:
    """(levels, sources, targets, ...) of values by stride and source, each
    (targets, ...); nan on the diagonal."""
    some = next(iter(by_source.values()))
    size = len(layout.names)
    pairs = np.full((len(layout.strides), size, size, *some.shape[1:]), np.nan)
    for (stride, source), values in by_source.items():
        level = layout.strides.index(stride)
        targets = [layout.names.index(name)
                   for name in fits[stride, source].targets]
        pairs[level, layout.names.index(source), targets] = values.tolist()
    return pairs


def _maps(layout: MapLayout
          ) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Each linear map in words, and its index (level, source, target)."""
    for source, target in permutations(range(len(layout.names)), 2):
        for level, stride in enumerate(layout.strides):
            yield (f'The map from {layout.names[source]} to '
                   f'{layout.names[target]} at stride {stride}',
                   (level, source, target))


def _check_finite(layout: MapLayout, values: np.ndarray, what: str,
                  lr: float) -> None:
    for name, place in _maps(layout):
        if not math.isfinite(values[place]):
            raise ValueError(f'{name} diverged: its {what} is '
                             f'{values[place]}. Lower lr (it is {lr:g}).')
