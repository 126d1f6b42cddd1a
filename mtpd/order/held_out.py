"""Adaptation costs: errors of linear maps on images held out of the fit."""
from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from copy import deepcopy
from dataclasses import replace
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from .costs import AdaptationCosts, HeldOutFolds
from .least_squares import (POSITIONS_PER_COEFFICIENT, ROUNDING,
                            channel_variance, least_squares)
from .moments import FeatureMoments
from .sums import Moments

RESOLUTION = {True: 1e-6, False: 1e-10}
"""Share of the target's variance below which no error can be distinguished
from rounding, however well conditioned the source (for float32 products: True;
for float64 products: False)."""


def adaptation_costs(moments: FeatureMoments) -> AdaptationCosts:
    """Costs of all ordered pairs of detectors, cross-fitted.

    Each fold with positions is held out once: the map is fitted on the other
    folds' moments and scored on the held-out ones, so every position is
    scored once, by a map that was fitted without its image. A squared error is
    a small difference of large sums; one that comes out negative within
    rounding is taken as 0. Rounding is estimated as 1e-6 (float32 products;
    1e-13 for float64) of the mean square, about the shift, of the target plus
    that of the source channels weighted by the map's squared weights.

    Raises:
        ValueError: Fewer than two detectors, fewer than two folds with
            positions at a stride, or an error that is negative beyond
            rounding.

    Warns:
        UserWarning: A level whose smallest fitting set has fewer than ten
            positions per coefficient of an output channel.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), section 3.2, where the map is
        trained by gradient descent and scored on the validation set; this is
        the minimiser of the same objective, and cross-fitting scores every
        image.
    """
    names, strides = moments.names, moments.strides
    if len(names) < 2:
        raise ValueError('Costs are between two detectors at least; the '
                         f'moments are those of {list(names)}.')
    shape = len(strides), len(names), len(names)
    mse, resolution = np.full(shape, np.nan), np.full(shape, np.nan)
    variance = np.empty(shape[:2])
    positions = np.empty(len(strides), int)
    folds = HeldOutFolds(np.full((*shape, moments.folds), np.nan),
                         np.empty((*shape[:2], moments.folds), int))
    for level, stride in enumerate(strides):
        _check_folds(moments, stride)
        in_float32 = moments.in_float32(stride)
        spans = list(moments.layout.spans[stride].values())
        everything = moments.over(stride, moments.filled_folds(stride))
        positions[level] = everything.count
        folds.positions[level] = moments.counts(stride)
        per_channel = channel_variance(everything, in_float32)
        for target, span in enumerate(spans):
            variance[level, target] = per_channel[span].mean().item()
        errors, rounding = _held_out_errors(moments, stride, everything)
        for source, target in permutations(range(len(names)), 2):
            fold_errors = errors[source][:, spans[target]].mean(1)
            folds.errors[level, source, target] = fold_errors.tolist()
            rounded = rounding[source][spans[target]].mean().item()
            mse[level, source, target] = _not_negative(
                fold_errors.sum().item() / everything.count, rounded,
                f'{names[source]} -> {names[target]} at stride {stride}')
            # An ill-conditioned source leaves fewer digits than the floor.
            resolution[level, source, target] = max(
                rounded, RESOLUTION[in_float32] * variance[level, target])
    return AdaptationCosts(names, strides, mse, variance, positions, folds,
                           resolution)


def costs_on_own_grids(costs: Mapping[Hashable, AdaptationCosts],
                       grids: Mapping[str, Hashable]) -> AdaptationCosts:
    """Costs of all ordered pairs, each on its target's grid.

    Detectors that see an image at different scales have maps of different
    sizes; a cost into one of them is taken where its maps live.

    Args:
        costs: Grid -> costs between all detectors' maps resampled to it, of
            the same detectors and levels.
        grids: Detector -> its own grid.

    Returns:
        Their positions are the smallest number over all grids.
    """
    first = next(iter(costs.values()))
    own = [costs[grids[name]].restricted(first.names, first.strides)
           for name in first.names]
    joined = deepcopy(own[0])
    for target, on_grid in enumerate(own):
        joined.mse[:, :, target] = on_grid.mse[:, :, target]
        joined.variance[:, target] = on_grid.variance[:, target]
        joined.resolution[:, :, target] = on_grid.resolution[:, :, target]
        if joined.folds is not None and on_grid.folds is not None:
            errors, positions = on_grid.folds
            joined.folds.errors[:, :, target] = errors[:, :, target]
            joined.folds.positions[:, target] = positions[:, target]
    with_folds = all(on_grid.folds is not None for on_grid in own)
    fewest = np.min([on_grid.positions for on_grid in costs.values()], 0)
    return replace(joined, positions=fewest,
                   folds=joined.folds if with_folds else None)


def adaptation_cost(source: Mapping[int, Tensor],
                    target: Mapping[int, Tensor], folds: int = 10) -> float:
    """Cost of turning one frozen detector's maps into another's.

    Image i is held out with fold i modulo ``folds``; see
    ``adaptation_costs``, which takes many detectors without keeping maps.

    Args:
        source: Maps of the detector that adapts, stride -> (N, C_s, H, W).
        target: Maps to be predicted, stride -> (N, C_t, H, W), the same
            images in the same order. Strides that only one has are left out.
        folds: Number of parts into which the N images are divided.

    Returns:
        Mean over levels, in squared units of the target's features: compare
        only costs into the same target. 0 means the target adds nothing.

    Raises:
        ValueError: No common stride, different images or grids, fewer than
            two images, or a value that is not finite.
    """
    strides = [stride for stride in source if stride in target]
    if not strides:
        raise ValueError('source and target need a stride in common; they '
                         f'have {tuple(source)} and {tuple(target)}.')
    channels = {stride: dict(source=source[stride].shape[1],
                             target=target[stride].shape[1])
                for stride in strides}
    moments = FeatureMoments(channels, folds)
    images = source[strides[0]].shape[0]
    moments.add(dict(source=source, target=target),
                [image % folds for image in range(images)])
    return adaptation_costs(moments).cost('source', 'target')


def _held_out_errors(moments: FeatureMoments, stride: int,
                     everything: Moments
                     ) -> tuple[list[Tensor], list[Tensor]]:
    """Each source's squared errors to every channel, and their rounding.

    Sums over each fold's positions, (folds, C), 0 where a fold is empty; the
    rounding of their mean over all positions, (C,). At the source's own
    channels they mean nothing.
    """
    in_float32 = moments.in_float32(stride)
    sources = list(moments.layout.spans[stride].values())
    squares = everything.outer.diagonal() / everything.count
    errors = [squares.new_zeros((moments.folds, len(squares)))
              for _ in sources]
    rounding = [torch.zeros_like(squares) for _ in sources]
    for held_out in moments.filled_folds(stride):
        scored = moments.over(stride, [held_out])
        fitting = everything.minus(scored)
        # About the fitting mean the bias is 0, and so the sum of
        # (t - w s)^2 is that of t^2 - 2 w s t + w s s w.
        scored = scored.about(fitting.mean)
        outer, share = scored.outer, scored.count / everything.count
        weights = least_squares(fitting, sources, in_float32)
        for i, (source, weight) in enumerate(zip(sources, weights,
                                                 strict=True)):
            predicted = 2 * (weight * outer[source]).sum(0)
            square = (weight * (outer[source, source] @ weight)).sum(0)
            errors[i][held_out] = outer.diagonal() - predicted + square
            rounding[i] += share * ROUNDING[in_float32] * (
                squares + weight.square().T @ squares[source])
    return errors, rounding


def _not_negative(error: float, rounding: float, what: str) -> float:
    if not error >= -rounding:
        raise ValueError(
            f'The squared error of {what} is {error:.3g}, which rounding '
            f'({rounding:.3g}) does not explain: the moments are not sums of '
            'squares of the same maps. Delete them and measure again.')
    return max(error, 0.)


def _check_folds(moments: FeatureMoments, stride: int) -> None:
    filled = moments.filled_folds(stride)
    if not filled:
        raise ValueError(
            f'No image has a position at stride {stride}: all are smaller '
            'than half of it. Leave this level out (mtpd.strides).')
    if len(filled) < 2:
        raise ValueError(
            'A cost needs at least two folds with positions, one to fit on '
            f'and one to score; at stride {stride} there are {len(filled)} of '
            f'{moments.folds}. Add more images.')
    counts = moments.counts(stride)
    fitted = sum(counts) - max(counts)
    channels = max(moments.channels[stride].values())
    wanted = POSITIONS_PER_COEFFICIENT * (channels + 1)
    if fitted < wanted:
        warnings.warn(
            f'At stride {stride} a map of {channels} channels is fitted on '
            f'{fitted} positions, fewer than {POSITIONS_PER_COEFFICIENT} x '
            f'({channels} + 1) = {wanted}: its cost depends partly on the '
            'choice of these images. Add more images.', stacklevel=3)
