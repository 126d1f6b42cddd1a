"""How hard each detector's maps are to get from each other's.

From moments alone: the linear map of each pair and its error on images that
it was not fitted on.
"""
from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from mtpd.statistics import Difference, jackknife_error

from .moments import FeatureMoments, Moments

_Value = TypeVar('_Value')

# A direction of the scaled source channels with less than this share of a
# channel's variance is not told from rounding (float32, float64 products).
_RANK_FLOOR = {True: 1e-7, False: 1e-13}

# Rounding of a summed product, as a part of it, with a factor of about ten to
# spare (float32, float64 products).
_ROUNDING = {True: 1e-6, False: 1e-13}

# No error below this part of the target's variance is told from rounding,
# however well conditioned the source (float32, float64 products).
RESOLUTION = {True: 1e-6, False: 1e-10}

# Fewer positions per fitted coefficient than this leave a held-out error that
# speaks of the fit's chance and not of the detectors.
POSITIONS_PER_COEFFICIENT = 10


class LinearMap(NamedTuple):
    """A 1x1 convolution: target = weight @ source + bias.

    Attributes:
        weight: (C_target, C_source), float64.
        bias: (C_target,), float64.
    """

    weight: Tensor
    bias: Tensor


def fit_linear_map(moments: FeatureMoments, stride: int, source: str,
                   target: str, folds: Iterable[int] | None = None
                   ) -> LinearMap:
    """The least-squares 1x1 convolution from one detector's maps to another's.

    Solved on centred sums, so that the bias is not a column that spoils the
    condition, with every source channel scaled to variance 1, by a symmetric
    eigendecomposition. Eigenvalues are left out that lie below 1e-7 (float32
    products; 1e-13 for float64) of their mean, which the scaling makes 1, or
    beyond the rank that so many positions can have. Of scaled or not, cut off
    or ridge, this came closest to ``torch.linalg.lstsq`` in float64: without
    the scaling a quiet channel falls below the floor though it is well
    measured, and a ridge, also a tiny one, shifts the costs of ill-conditioned
    sources by more than rounding does. Where a source's channels depend on one
    another (duplicated, constant, more than positions) the answer is the
    smallest weight in scaled channels; a constant channel gets weight 0.

    Limit: sums hold squares, so half of the digits. What a target takes from
    source directions with less than the floor of a channel's variance is not
    seen; ``lstsq`` on the maps themselves would see it, and fit the maps' own
    rounding as well. Near the floor digits are lost gradually; float64 maps
    keep twice as many.

    Args:
        moments: Holds both detectors.
        stride: Of the maps.
        source: Detector to map from.
        target: Detector to map to.
        folds: To be fitted on; all of them if None.

    Raises:
        ValueError: A stride or detector that is not there, or no position.
    """
    fitting = moments.over(
        stride, range(moments.folds) if folds is None else folds,
        (source, target))
    channels = moments.channels[stride][source]
    weights, = _least_squares(fitting, [slice(0, channels)],
                              moments.in_float32(stride))
    weight = weights[:, channels:].T
    mean = fitting.mean
    return LinearMap(weight, mean[channels:] - weight @ mean[:channels])


@dataclass(frozen=True)
class HeldOutFolds:
    """What each fold of images added to the costs while it was held out.

    Every tuple has one entry per fold, so that one index is the same images
    at every level and on every grid; 0 where a fold has no position.

    Attributes:
        errors: (source, target) -> stride -> sums over the fold's positions of
            the squared error's mean over channels, in squared units of the
            target's features. Not cut off at 0: within rounding one can be
            negative.
        positions: Target -> stride -> number of positions that were scored.
    """

    errors: dict[tuple[str, str], dict[int, tuple[float, ...]]]
    positions: dict[str, dict[int, tuple[int, ...]]]


@dataclass(frozen=True)
class AdaptationCosts:
    """Held-out errors of the linear maps between all pairs of detectors.

    Attributes:
        names: The detectors.
        strides: The levels.
        mse: (source, target) -> stride -> mean squared error per position and
            channel, in squared units of the target's features; 0 where it is
            less than rounding.
        variance: Target -> stride -> mean over channels of the variance over
            all positions, in the same units.
        positions: Stride -> number of positions that were scored.
        folds: What each fold added; None in costs that were saved before it
            was kept. Without it a difference has no standard error.
        resolution: (source, target) -> stride -> the smallest error, in the
            same units, that rounding leaves to be told from 0; a pair that is
            not there has no such limit.
    """

    names: tuple[str, ...]
    strides: tuple[int, ...]
    mse: dict[tuple[str, str], dict[int, float]]
    variance: dict[str, dict[int, float]]
    positions: dict[int, int]
    folds: HeldOutFolds | None = None
    resolution: dict[tuple[str, str], dict[int, float]] = field(
        default_factory=dict)

    def cost(self, source: str, target: str) -> float:
        """Mean error over levels: the published quantity.

        In squared units of the target's features: compare only costs into the
        same target.

        Raises:
            ValueError: No such pair.
        """
        levels = self._levels(source, target)
        return sum(levels.values()) / len(levels)

    def normalised_cost(self, source: str, target: str) -> float:
        """Mean over levels of the error as a part of the target's variance.

        0 means that the target's maps follow from the source's, 1 that the
        source says nothing of them; above 1 the map misleads. Not from the
        paper, whose costs into quiet maps are small for their scale alone.

        Raises:
            ValueError: No such pair, or a target that is constant at a level.
        """
        levels = self._levels(source, target)
        variance = self.variance[target]
        constant = [stride for stride in levels if not variance[stride]]
        if constant:
            raise ValueError(
                f'{target} is constant at stride {constant}: it has no '
                'variance to normalise by. Check its checkpoint, leave these '
                'strides out, or use cost().')
        return sum(error / variance[stride]
                   for stride, error in levels.items()) / len(levels)

    def below_resolution(self, source: str, target: str) -> tuple[int, ...]:
        """The strides whose error is not told from 0.

        Raises:
            ValueError: No such pair.
        """
        limits = self.resolution.get((source, target), {})
        return tuple(
            stride for stride, error in self._levels(source, target).items()
            if error < limits.get(stride, 0.))

    def matrix(self, normalised: bool = False) -> np.ndarray:
        """(sources, targets) in the order of ``names``; nan on the diagonal.

        Raises:
            ValueError: As ``normalised_cost``, if normalised.
        """
        cost = self.normalised_cost if normalised else self.cost
        matrix = np.full((len(self.names), len(self.names)), np.nan)
        for source, target in permutations(range(len(self.names)), 2):
            matrix[source, target] = cost(self.names[source],
                                          self.names[target])
        return matrix

    def into(self, target: str) -> dict[str, float]:
        """Source -> cost into ``target``: the costs that can be compared.

        Raises:
            ValueError: No such target.
        """
        if target not in self.names:
            raise ValueError(f'No costs into {target!r}; the detectors are '
                             f'{list(self.names)}.')
        return {name: self.cost(name, target)
                for name in self.names if name != target}

    def difference(self, a: str, b: str, target: str) -> Difference:
        """How much more ``a`` costs than ``b``, and how surely.

        The standard error is the delete-one-fold jackknife's: the difference
        is taken again without each fold with positions, at all levels at
        once, and with g such folds its variance is (g - 1) / g times the sum
        of squares of these g differences about their mean. It is paired: a
        image that is hard to predict is so from both sources, and drops out
        of the difference; the two costs' own errors, put together, would take
        it in twice.

        Limits. The maps stay those that were fitted with all other folds;
        that these would change with their images as well is left out. It is
        the smaller part, because a fit is a minimum of the error: what
        changes it to first order changes the error only to second. Beside
        every map fitted anew the error is 9% too small with 24 images and
        3% with 100 (medians of drawn images of 3 channels, see
        ``tests/order/test_certainty.py``). Folds of unequal size make it
        slightly too large. It is the error of images drawn one by one:
        frames of one film say less than their number.

        Raises:
            ValueError: ``a`` or ``b`` has no cost into ``target``.

        Source:
            Bayle et al., NeurIPS 2020 (arXiv 2007.12671): for stable fits the
            held-out errors' own scatter is the cross-validated error's.
        """
        value = self.cost(a, target) - self.cost(b, target)
        if self.folds is None:
            return Difference(value)
        # (levels, folds)
        positions = np.array([self.folds.positions[target][stride]
                              for stride in self.strides])
        errors, other = (np.array([self.folds.errors[source, target][stride]
                                   for stride in self.strides])
                         for source in (a, b))
        filled = positions.any(0)
        without = _without_each(errors - other, positions)[filled]
        return Difference(value, jackknife_error(without),
                          int((positions > 0).sum(1).min()))

    def restricted(self, names: Iterable[str] | None = None,
                   strides: Iterable[int] | None = None) -> AdaptationCosts:
        """Of some of the detectors and levels only; no pass is needed.

        Args:
            names: The detectors to keep, in this order; None keeps all.
            strides: The levels to keep; None keeps all.

        Raises:
            ValueError: One that is not there, or none at all.
        """
        names = self.names if names is None else tuple(names)
        strides = self.strides if strides is None else tuple(strides)
        for what, kept, there in (('detectors', names, self.names),
                                  ('strides', strides, self.strides)):
            if not kept or not set(kept) <= set(there):
                raise ValueError(f'The costs are of the {what} {list(there)}; '
                                 f'asked for {list(kept)}.')

        def levels(of: Mapping[int, Any]) -> dict[int, Any]:
            return {stride: of[stride] for stride in strides}

        pairs = list(permutations(names, 2))
        folds = None if self.folds is None else HeldOutFolds(
            {pair: levels(self.folds.errors[pair]) for pair in pairs},
            {name: levels(self.folds.positions[name]) for name in names})
        return AdaptationCosts(
            names, strides, {pair: levels(self.mse[pair]) for pair in pairs},
            {name: levels(self.variance[name]) for name in names},
            levels(self.positions), folds,
            {pair: levels(self.resolution[pair]) for pair in pairs
             if pair in self.resolution})

    def to_json(self) -> dict:
        """Plain values for ``json.dump``; ``from_json`` reads them."""
        costs = dict(
            names=list(self.names), strides=list(self.strides),
            mse=_by_source(self.mse),
            variance={name: _with_text_keys(levels)
                      for name, levels in self.variance.items()},
            positions=_with_text_keys(self.positions),
            resolution=_by_source(self.resolution))
        if self.folds is not None:
            costs['folds'] = dict(errors=_by_source(
                self.folds.errors), positions={
                name: _with_text_keys(levels)
                for name, levels in self.folds.positions.items()})
        return costs

    @classmethod
    def from_json(cls, costs: Mapping) -> AdaptationCosts:
        """What ``to_json`` was called on.

        Raises:
            ValueError: An entry of ``to_json`` is missing; ``folds`` and
                ``resolution`` may be, as in JSON of before they were kept.
        """
        entries = {'names', 'strides', 'mse', 'variance', 'positions'}
        if not entries <= set(costs):
            raise ValueError('Not adaptation costs: the JSON lacks '
                             f'{sorted(entries - set(costs))}.')
        return cls(
            names=tuple(costs['names']), strides=tuple(costs['strides']),
            mse=_by_pair(costs['mse']),
            variance={name: _with_number_keys(levels)
                      for name, levels in costs['variance'].items()},
            positions=_with_number_keys(costs['positions']),
            folds=_folds_from_json(costs['folds']) if 'folds' in costs
            else None,
            resolution=_by_pair(costs.get('resolution', {})))

    def _levels(self, source: str, target: str) -> dict[int, float]:
        if (source, target) not in self.mse:
            raise ValueError(f'No cost {source!r} -> {target!r}; there are '
                             'those between two different detectors of '
                             f'{list(self.names)}.')
        return self.mse[source, target]


def adaptation_costs(moments: FeatureMoments) -> AdaptationCosts:
    """Costs of all ordered pairs of detectors, cross-fitted.

    Each fold with positions is held out once: the map is fitted on the other
    folds' moments and scored on the held-out ones', so every position is
    scored once, by a map that has not seen its image. A squared error is a
    small difference of large sums; one that comes out negative within rounding
    is taken as 0. Rounding is reckoned as 1e-6 (float32 products; 1e-13 for
    float64) of the mean square, about the shift, of the target plus that of
    the source channels weighted by the map's squared weights.

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
    if len(moments.names) < 2:
        raise ValueError('Costs are between two detectors at least; the '
                         f'moments are those of {list(moments.names)}.')
    pairs = tuple(permutations(moments.names, 2))
    mse: dict[tuple[str, str], dict[int, float]] = {p: {} for p in pairs}
    variance: dict[str, dict[int, float]] = {n: {} for n in moments.names}
    positions = {}
    resolution: dict[tuple[str, str], dict[int, float]] = {
        p: {} for p in pairs}
    folds = HeldOutFolds({p: {} for p in pairs},
                         {name: {} for name in moments.names})
    for stride in moments.strides:
        _check_folds(moments, stride)
        everything = moments.over(stride, moments.filled_folds(stride))
        positions[stride] = everything.count
        spans = _slices(moments.channels[stride])
        per_channel = _variance(everything, moments.in_float32(stride))
        for name, span in spans.items():
            variance[name][stride] = per_channel[span].mean().item()
            folds.positions[name][stride] = tuple(
                moments.count(stride, fold) for fold in range(moments.folds))
        errors, rounding = _held_out_errors(moments, stride)
        for source, target in pairs:
            of_folds = errors[source][:, spans[target]].mean(1)
            folds.errors[source, target][stride] = tuple(of_folds.tolist())
            rounded = rounding[source][spans[target]].mean().item()
            mse[source, target][stride] = _not_negative(
                of_folds.sum().item() / everything.count, rounded,
                f'{source} -> {target} at stride {stride}')
            # An ill-conditioned source leaves fewer digits than the floor.
            resolution[source, target][stride] = max(
                rounded, RESOLUTION[moments.in_float32(stride)]
                * variance[target][stride])
    return AdaptationCosts(moments.names, moments.strides, mse, variance,
                           positions, folds, resolution)


def costs_on_own_grids(costs: Mapping[Hashable, AdaptationCosts],
                       grids: Mapping[str, Hashable]) -> AdaptationCosts:
    """Costs of all ordered pairs, each on its target's grid.

    Detectors that see an image at different scales have maps of different
    sizes; a cost into one of them is taken where its maps live.

    Args:
        costs: Grid -> costs between all detectors' maps brought onto it.
        grids: Detector -> its own grid.

    Returns:
        Of the positions, the fewest where grids have different numbers.
    """
    some = next(iter(costs.values()))
    # One target's costs stay on one grid, so its positions are one grid's.
    folds = {name: of for name in some.names
             if (of := costs[grids[name]].folds) is not None}
    return AdaptationCosts(
        some.names, some.strides,
        {(source, target): costs[grids[target]].mse[source, target]
         for source, target in some.mse},
        {name: costs[grids[name]].variance[name] for name in some.names},
        {stride: min(c.positions[stride] for c in costs.values())
         for stride in some.strides},
        HeldOutFolds(
            {(source, target): folds[target].errors[source, target]
             for source, target in some.mse},
            {name: of.positions[name] for name, of in folds.items()})
        if len(folds) == len(some.names) else None,
        {(source, target): costs[grids[target]].resolution[source, target]
         for source, target in some.resolution})


def adaptation_cost(source: Mapping[int, Tensor],
                    target: Mapping[int, Tensor], folds: int = 10) -> float:
    """Cost of turning one frozen detector's maps into another's.

    Image i is held out with fold i modulo ``folds``; see
    ``adaptation_costs``, which does many detectors without keeping maps.

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
    moments = FeatureMoments(
        {stride: dict(source=source[stride].shape[1],
                      target=target[stride].shape[1]) for stride in strides},
        folds)
    images = source[strides[0]].shape[0]
    moments.add(dict(source=source, target=target),
                [image % folds for image in range(images)])
    return adaptation_costs(moments).cost('source', 'target')


def _least_squares(fitting: Moments, sources: Iterable[slice],
                   in_float32: bool) -> Iterator[Tensor]:
    """For each source (C_source, C): weights from it to all channels."""
    centred = fitting.about(fitting.mean).outer
    variance = _variance(fitting, in_float32)
    scales = torch.where(variance > 0,
                         (variance * fitting.count).rsqrt(), 0.)
    for source in sources:
        scale = scales[source]
        scaled = scale[:, None] * centred[source]
        values, vectors = torch.linalg.eigh(scaled[:, source] * scale)
        kept = values > _RANK_FLOOR[in_float32]
        # Ascending; n centred positions span n - 1 directions at most, and
        # what rounding leaves in the others can lie above the floor.
        kept[:max(0, len(values) - (fitting.count - 1))] = False
        values, vectors = values[kept], vectors[:, kept]
        yield scale[:, None] * (
            vectors @ (vectors.T @ scaled / values[:, None]))


def _held_out_errors(moments: FeatureMoments, stride: int
                     ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Source -> squared errors to every channel, and their rounding.

    Sums over each fold's positions, (folds, C), 0 where a fold is empty; the
    rounding of their mean over all positions, (C,). At the source's own
    channels they mean nothing.
    """
    in_float32 = moments.in_float32(stride)
    filled = moments.filled_folds(stride)
    spans = _slices(moments.channels[stride])
    everything = moments.over(stride, filled)
    squares = everything.outer.diagonal() / everything.count
    errors = {name: squares.new_zeros((moments.folds, len(squares)))
              for name in spans}
    rounding = {name: torch.zeros_like(squares) for name in spans}
    for held_out in filled:
        scored = moments.over(stride, [held_out])
        fitting = everything.minus(scored)
        # About the fitting mean the bias is 0, and so the sum of
        # (t - w s)^2 is that of t^2 - 2 w s t + w s s w.
        scored = scored.about(fitting.mean)
        outer, share = scored.outer, scored.count / everything.count
        weights = _least_squares(fitting, spans.values(), in_float32)
        for (name, source), weight in zip(spans.items(), weights, strict=True):
            errors[name][held_out] = (
                outer.diagonal() - 2 * (weight * outer[source]).sum(0)
                + (weight * (outer[source, source] @ weight)).sum(0))
            rounding[name] += share * _ROUNDING[in_float32] * (
                squares + weight.square().T @ squares[source])
    return errors, rounding


def _without_each(errors: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(folds,), the mean over levels of errors per position without each.

    Args:
        errors: (levels, folds), sums over a fold's positions.
        positions: (levels, folds); two folds of each level have some.
    """
    means = ((errors.sum(1, keepdims=True) - errors)
             / (positions.sum(1, keepdims=True) - positions))
    return means.mean(0)


def _variance(moments: Moments, in_float32: bool) -> Tensor:
    """(C,), exactly 0 where a channel does not vary beyond rounding."""
    square = moments.outer.diagonal() / moments.count
    variance = square - (moments.total / moments.count).square()
    return torch.where(variance > _ROUNDING[in_float32] * square, variance, 0.)


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
    counts = [moments.count(stride, fold) for fold in filled]
    fitted = sum(counts) - max(counts)
    channels = max(moments.channels[stride].values())
    wanted = POSITIONS_PER_COEFFICIENT * (channels + 1)
    if fitted < wanted:
        warnings.warn(
            f'At stride {stride} a map of {channels} channels is fitted on '
            f'{fitted} positions, fewer than {POSITIONS_PER_COEFFICIENT} x '
            f'({channels} + 1) = {wanted}: its cost is partly the chance of '
            'these images. Add more images.', stacklevel=3)


def _slices(channels: Mapping[str, int]) -> dict[str, slice]:
    slices, start = {}, 0
    for name, count in channels.items():
        slices[name] = slice(start, start + count)
        start += count
    return slices


def _folds_from_json(folds: Mapping) -> HeldOutFolds:
    entries = {'errors', 'positions'}
    if not entries <= set(folds):
        raise ValueError("Not adaptation costs: the JSON's folds lack "
                         f'{sorted(entries - set(folds))}.')
    return HeldOutFolds(
        {pair: {stride: tuple(sums) for stride, sums in levels.items()}
         for pair, levels in _by_pair(folds['errors']).items()},
        {name: {stride: tuple(counts) for stride, counts
                in _with_number_keys(levels).items()}
         for name, levels in folds['positions'].items()})


def _by_source(of_pairs: Mapping[tuple[str, str], Mapping[int, Any]]
               ) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for (source, target), levels in of_pairs.items():
        found.setdefault(source, {})[target] = _with_text_keys(levels)
    return found


def _by_pair(of_sources: Mapping[str, Mapping]
             ) -> dict[tuple[str, str], dict[int, Any]]:
    return {(source, target): _with_number_keys(levels)
            for source, targets in of_sources.items()
            for target, levels in targets.items()}


def _with_text_keys(levels: Mapping[int, _Value]) -> dict[str, _Value]:
    return {str(stride): value for stride, value in levels.items()}


def _with_number_keys(levels: Mapping[str, _Value]) -> dict[int, _Value]:
    return {int(stride): value for stride, value in levels.items()}
