"""The costs as the paper takes them: linear maps trained by gradient descent.

For comparison, not the default: it stops short of the minimum that
``adaptation_costs`` solves for. By how much depends on the learning rate, the
epochs and each source's condition, so a cost says partly how slowly a source's
maps are learned from. And every epoch reads all maps again.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .costs import AdaptationCosts, HeldOutFolds
from .moments import FeatureMoments, MapBatch, full_precision


_Losses = Mapping[tuple[str, str], Mapping[int, float]]  # pair -> stride

# A loss may rise in passing; what ends so many times above its start diverged.
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
    none depends on which others there are: those of one shape start from the
    same weights, drawn as ``nn.Conv2d`` draws them. In float32 throughout;
    errors and variances are added up in float64.

    Limits. What a target takes from a source direction with mean square v is
    learned but for about exp(-v * lr * steps / (C_target * (1 - momentum)));
    it grows while v exceeds (1 + momentum) * C_target / rate; where that
    does not reach infinity before the rate has fallen enough, a loss is
    refused that ends ten times above its start. One rate may suit no pool: on
    the trained detectors of docs/order.md .003 diverged and .001 ended 68%
    above the minimum.

    Args:
        fitting: Epoch, from 0 on -> the images to train on. Their folds
            have no say.
        held_out: Gives the images to score, in at least two folds.
        channels: Stride -> (detector's name -> channels); every stride lists
            the same detectors in the same order.
        folds: Number of folds into which the images are divided.
        epochs: How often ``fitting`` is called.
        lr: Of the first epoch, per mean over channels: a target of twice as
            many channels is learned half as fast.
        momentum: Of SGD, undamped.
        seed: Of the initial weights.
        after_epoch: Called with each epoch, from 0 on, and the costs after
            it. Without it they are scored once, at the end.

    Raises:
        ValueError: Fewer than two detectors, ``epochs`` below 1, a batch or
            ``channels`` that ``FeatureMoments`` refuses, no position to train
            on or fewer than two folds with positions to score at a stride, or
            a map that diverges.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), section 3.2. How the maps
        are trained is not published: optimiser, rate, epochs, batches, initial
        weights and schedule are ours, the last after the linear fall of the
        paper's order search.
    """
    layout = FeatureMoments(channels, folds)  # checks; nothing is added to it
    if len(layout.names) < 2 or epochs < 1:
        raise ValueError(
            'Costs by gradient descent need two detectors and one epoch at '
            f'least; got {list(layout.names)} and epochs={epochs}.')
    fits = {(stride, name): _LinearMaps(name, of, seed)
            for stride, of in layout.channels.items() for name in of}
    first: _Losses = {}
    for epoch in range(epochs):
        when = f'epoch {epoch + 1} of {epochs}'
        losses = _train(fits, fitting(epoch), layout,
                        lr * (1 - epoch / epochs), momentum, when)
        _check_finite(losses, f'loss in {when}', lr)
        first = first or losses
        if after_epoch or epoch == epochs - 1:
            costs = _score(fits, held_out(), layout)
            _check_finite(costs.mse, f'held-out error after {when}', lr)
            if after_epoch:
                after_epoch(epoch, costs)
    _refuse_grown(first, losses, lr)
    return costs


def _refuse_grown(first: _Losses, last: _Losses, lr: float) -> None:
    for (source, target), levels in last.items():
        for stride, loss in levels.items():
            if loss > _GROWN * first[source, target][stride]:
                begun = first[source, target][stride]
                raise ValueError(
                    f'The map from {source} to {target} at stride {stride} '
                    'diverged without reaching infinity: its loss is '
                    f'{loss:.3g} in the last epoch, {begun:.3g} in the '
                    f'first. Lower mtpd.costs.lr (it is {lr:g}).')


class _LinearMaps:
    """From one source to all other detectors at one stride.

    They lie side by side in one matrix: the columns of a linear map know
    nothing of one another.
    """

    def __init__(self, source: str, channels: Mapping[str, int], seed: int):
        self.source = source
        self.targets = [name for name in channels if name != source]
        self.widths = [channels[name] for name in self.targets]
        bound = channels[source] ** -.5
        drawn = []
        for width in self.widths:
            # Anew for each pair, so that the others have no say.
            generator = torch.Generator().manual_seed(seed)
            drawn.append(torch.cat([
                torch.empty(width, inputs).uniform_(-bound, bound,
                                                    generator=generator)
                for inputs in (channels[source], 1)], 1))
        # (C_source + 1, C of all targets); the last row is the bias.
        self.weight = torch.cat(drawn).T.contiguous()
        self.velocity = torch.zeros_like(self.weight)

    def step(self, rows: Mapping[str, Tensor], lr: float,
             momentum: float) -> Tensor:
        """Descend once; (targets,), the losses of before."""
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


def _train(fits: _Fits, batches: Iterable[MapBatch], layout: FeatureMoments,
           lr: float, momentum: float, when: str
           ) -> dict[tuple[str, str], dict[int, float]]:
    """One epoch; (source, target) -> stride -> its losses' sum."""
    losses: dict[tuple[int, str], Tensor] = {}
    for stride, _, rows in _levels(batches, layout):
        for name in layout.names:
            # Read at the epoch's end: on a GPU each reading waits.
            losses[stride, name] = (losses.get((stride, name), 0)
                                    + fits[stride, name].step(rows, lr,
                                                              momentum))
    missing = set(layout.strides) - {stride for stride, _ in losses}
    if missing:
        raise ValueError(
            'The images to train on have no valid position at strides '
            f'{sorted(missing)} in {when}. `fitting` must give its batches '
            'anew for each epoch; if it does, leave these out of '
            'mtpd.strides.')
    return _by_pair(fits, losses)


def _score(fits: _Fits, batches: Iterable[MapBatch],
           layout: FeatureMoments) -> AdaptationCosts:
    counts = {stride: torch.zeros(layout.folds, dtype=torch.int64)
              for stride in layout.strides}
    errors: dict[tuple[int, str], Tensor] = {}   # (targets, folds)
    shifts: dict[tuple[int, str], Tensor] = {}   # (C,)
    scatter: dict[tuple[int, str], Tensor] = {}  # (2, C): sums, of squares
    for stride, folds, rows in _levels(batches, layout):
        belongs = one_hot(folds, layout.folds)
        counts[stride] += belongs.sum(0).cpu()
        for name, values in rows.items():
            key = stride, name
            # A product, because index_add_ on a GPU adds in any order.
            errors[key] = errors.get(key, 0) + (fits[key].errors(rows)
                                                @ belongs.double())
            values = values.double()
            # Squares of unshifted values would lose a quiet channel's digits.
            values = values - shifts.setdefault(key, values[0].clone())
            scatter[key] = scatter.get(key, 0) + torch.stack(
                [values.sum(0), values.square().sum(0)])
    for stride, count in counts.items():
        filled = int((count > 0).sum())
        if filled < 2:
            raise ValueError(
                'The held-out images have valid positions at stride '
                f'{stride} in {filled} of {layout.folds} folds; a cost and '
                'its error need two. Hold out more images, or leave the '
                'stride out of mtpd.strides.')
    of_folds = {pair: {stride: tuple(sums) for stride, sums in levels.items()}
                for pair, levels in _by_pair(fits, errors).items()}
    positions = {stride: int(count.sum()) for stride, count in counts.items()}
    variance: dict[str, dict[int, float]] = {n: {} for n in layout.names}
    for (stride, name), sums in scatter.items():
        mean, square = sums / positions[stride]
        variance[name][stride] = (square - mean.square()).mean().item()
    return AdaptationCosts(
        names=layout.names, strides=layout.strides,
        mse={pair: {stride: sum(sums) / positions[stride]
                    for stride, sums in levels.items()}
             for pair, levels in of_folds.items()},
        variance=variance, positions=positions,
        folds=HeldOutFolds(of_folds, {
            name: {stride: tuple(count.tolist())
                   for stride, count in counts.items()}
            for name in layout.names}))


def _levels(batches: Iterable[MapBatch], layout: FeatureMoments
            ) -> Iterator[tuple[int, Tensor, dict[str, Tensor]]]:
    """Stride, (P,) folds of the valid positions, name -> (P, C) values."""
    for batch in batches:
        layout.check_batch(*batch)
        for stride in layout.strides:
            levels = {name: batch.maps[name][stride].detach()
                      for name in layout.names}
            some = levels[layout.names[0]]
            folds = torch.as_tensor(batch.folds, dtype=torch.int64,
                                    device=some.device)
            folds = folds[:, None, None].expand(-1, *some.shape[2:])
            keep = (torch.ones_like(folds, dtype=torch.bool)
                    if batch.valid is None
                    else batch.valid[stride].to(some.device))
            if keep.any():
                yield stride, folds[keep], {
                    name: level.movedim(1, -1)[keep].float()
                    for name, level in levels.items()}


def _by_pair(fits: _Fits, of_sources: Mapping[tuple[int, str], Tensor]
             ) -> dict[tuple[str, str], dict[int, Any]]:
    """(source, target) -> stride -> its entry of (targets, ...)."""
    pairs: dict[tuple[str, str], dict[int, Any]] = {}
    for (stride, source), values in of_sources.items():
        for target, value in zip(fits[stride, source].targets,
                                 values.tolist(), strict=True):
            pairs.setdefault((source, target), {})[stride] = value
    return pairs


def _check_finite(values: Mapping[tuple[str, str], Mapping[int, float]],
                  what: str, lr: float) -> None:
    for (source, target), levels in values.items():
        for stride, value in levels.items():
            if not math.isfinite(value):
                raise ValueError(
                    f'The map from {source} to {target} at stride {stride} '
                    f'diverged: its {what} is {value}. Lower mtpd.costs.lr '
                    f'(it is {lr:g}).')
