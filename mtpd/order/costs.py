"""Adaptation costs between all pairs of detectors."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, permutations
from typing import Any, NamedTuple

import numpy as np

from mtpd.statistics import Difference, jackknife_error

# A stride may be text, as in JSON.
ByStride = Mapping[Any, Any]
ByName = Mapping[str, ByStride]
ByPair = Mapping[tuple[str, str], ByStride]


class HeldOutFolds(NamedTuple):
    """What each fold of images added to the costs while it was held out.

    One index along the last axis is the same images at every level and on
    every grid.

    Attributes:
        errors: (levels, sources, targets, folds), sums over the fold's
            positions of the squared error's mean over channels, in squared
            units of the target's features; 0 where a fold has no position,
            nan where a pair has no cost. Can be negative within rounding.
        positions: (levels, targets, folds), number of scored positions.
    """

    errors: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True, eq=False)
class AdaptationCosts:
    """Held-out errors of the linear maps between all pairs of detectors.

    The arrays' axes are levels in the order of ``strides``, then detectors in
    the order of ``names``; ``at`` gives the index. ``from_dicts`` takes values
    by name and stride instead.

    Attributes:
        names: The detectors.
        strides: The levels.
        mse: (levels, sources, targets), mean squared error per position and
            channel, in squared units of the target's features; 0 where it is
            less than rounding, nan where a pair has no cost.
        variance: (levels, targets), mean over channels of the variance over
            all positions, in the same units.
        positions: (levels,), number of scored positions.
        folds: What each fold added; None in costs from a file that lacks it.
            Without it the error of a difference is unknown.
        resolution: (levels, sources, targets), the smallest error, in the same
            units, that can be distinguished from rounding; nan if unknown.
    """

    names: tuple[str, ...]
    strides: tuple[int, ...]
    mse: np.ndarray
    variance: np.ndarray
    positions: np.ndarray
    folds: HeldOutFolds | None
    resolution: np.ndarray

    @classmethod
    def from_dicts(cls, names: Sequence[str], strides: Sequence[int],
                   mse: ByPair, variance: ByName, positions: ByStride,
                   folds: tuple[ByPair, ByName] | None = None,
                   resolution: ByPair | None = None) -> AdaptationCosts:
        """Costs from values by name and stride; any of them may be missing.

        The arguments are the attributes. A pair is (source, target); ``folds``
        are errors of pairs and positions of targets, one value for each fold.

        Raises:
            ValueError: A name or stride that is not among the given ones.
        """
        names, strides = tuple(names), tuple(strides)
        shape = len(strides), len(names), len(names)
        costs = cls(names, strides, mse=np.full(shape, np.nan),
                    variance=np.full(shape[:2], np.nan),
                    positions=np.zeros(shape[0], int), folds=None,
                    resolution=np.full(shape, np.nan))
        costs._fill(costs.mse, mse)
        costs._fill(costs.resolution, resolution or {})
        costs._fill(costs.variance, variance)
        costs._fill(costs.positions, {(): positions})
        if folds is None:
            return costs
        errors, scored = folds
        count = len(next(iter(next(iter(scored.values())).values())))
        held_out = HeldOutFolds(np.full((*shape, count), np.nan),
                                np.zeros((*shape[:2], count), int))
        costs._fill(held_out.errors, errors)
        costs._fill(held_out.positions, scored)
        return replace(costs, folds=held_out)

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, AdaptationCosts)
                and self.to_json() == other.to_json())

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(source, target) of all costs, in the order of ``names``."""
        return [pair for pair in permutations(self.names, 2)
                if not np.isnan(self._column(self.mse, *pair)).any()]

    def at(self, stride: int, *detectors: str) -> tuple[int, ...]:
        """Index of a level and of detectors in the arrays.

        Raises:
            ValueError: An unknown stride or detector.
        """
        if stride not in self.strides:
            raise ValueError(f'No costs at stride {stride}; the levels are '
                             f'{list(self.strides)}.')
        return self.strides.index(stride), *self._place(*detectors)

    def cost(self, source: str, target: str) -> float:
        """Mean error over levels: the published quantity.

        In squared units of the target's features: compare only costs into the
        same target.

        Raises:
            ValueError: No such pair.
        """
        errors = self._levels(source, target).tolist()
        return sum(errors) / len(errors)

    def normalised_cost(self, source: str, target: str) -> float:
        """Mean over levels of the error as a share of the target's variance.

        0 means that the target's maps follow from the source's, 1 that the
        source predicts no more than the target's mean; above 1 the map
        misleads. Not from the paper, whose costs into quiet maps are small for
        their scale alone.

        Raises:
            ValueError: No such pair, or a target that is constant at a level.
        """
        errors = self._levels(source, target)
        variances = self.variance[:, self.names.index(target)]
        if not variances.all():
            constant = list(compress(self.strides, variances == 0))
            raise ValueError(
                f'{target} is constant at stride {constant}: it has no '
                'variance to normalise by. Check its checkpoint, leave these '
                'strides out, or use cost().')
        shares = (errors / variances).tolist()
        return sum(shares) / len(shares)

    def below_resolution(self, source: str, target: str) -> tuple[int, ...]:
        """The strides whose error cannot be distinguished from 0.

        Raises:
            ValueError: No such pair.
        """
        errors = self._levels(source, target)
        limits = self._column(self.resolution, source, target)
        return tuple(compress(self.strides, errors < limits))

    def matrix(self, normalised: bool = False) -> np.ndarray:
        """(sources, targets) in the order of ``names``; nan on the diagonal.

        Raises:
            ValueError: As ``normalised_cost``, if normalised.
        """
        cost = self.normalised_cost if normalised else self.cost
        matrix = np.full((len(self.names), len(self.names)), np.nan)
        for pair in permutations(self.names, 2):
            matrix[self._place(*pair)] = cost(*pair)
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
        """The cost of ``a`` minus that of ``b``, with its standard error.

        The error is the delete-one-fold jackknife's, over all levels at once.
        It is paired: an image that is hard to predict is hard from both
        sources and drops out of the difference; the two costs' own errors,
        combined, would count it twice.

        Limits. The maps are not fitted again without a fold. That is the
        smaller part, because a fit is a minimum of the error: a change of
        first order in the map changes the error only in second order. Compared
        with refitting, the error is 9% too small with 24 images and 3% with
        100 (medians of drawn images of 3 channels, see
        ``tests/order/test_certainty.py``). Folds of unequal size make it
        slightly too large. It assumes that images are drawn independently:
        the frames of one film carry less information than their number.

        Raises:
            ValueError: ``a`` or ``b`` has no cost into ``target``.

        Source:
            Bayle et al., NeurIPS 2020 (arXiv 2007.12671): for stable fits the
            held-out errors' own scatter is the cross-validated error's.
        """
        value = self.cost(a, target) - self.cost(b, target)
        if self.folds is None:
            return Difference(value)
        # (levels, folds); two folds of each level have positions.
        errors = (self._column(self.folds.errors, a, target)
                  - self._column(self.folds.errors, b, target))
        positions = self._column(self.folds.positions, target)
        means = ((errors.sum(1, keepdims=True) - errors)
                 / (positions.sum(1, keepdims=True) - positions))
        left_out = means.mean(0)[positions.any(0)]
        return Difference(value, jackknife_error(left_out),
                          int((positions > 0).sum(1).min()))

    def restricted(self, names: Iterable[str] | None = None,
                   strides: Iterable[int] | None = None) -> AdaptationCosts:
        """The costs of some detectors and levels; no image is read.

        Args:
            names: The detectors to keep, in this order; None keeps all.
            strides: The levels to keep; None keeps all.

        Raises:
            ValueError: An unknown one, or none at all.
        """
        names = self.names if names is None else tuple(names)
        strides = self.strides if strides is None else tuple(strides)
        for what, kept, present in (('detectors', names, self.names),
                                    ('strides', strides, self.strides)):
            if not kept or not set(kept) <= set(present):
                raise ValueError(f'The costs are of the {what} '
                                 f'{list(present)}; asked for {list(kept)}.')
        levels = list(map(self.strides.index, strides))
        detectors = self._place(*names)
        pairs = np.ix_(levels, detectors, detectors)
        targets = np.ix_(levels, detectors)
        folds = self.folds and HeldOutFolds(self.folds.errors[pairs],
                                            self.folds.positions[targets])
        return AdaptationCosts(
            names, strides, self.mse[pairs], self.variance[targets],
            self.positions[levels], folds, self.resolution[pairs])

    def to_json(self) -> dict:
        """Plain values for ``json.dump``; ``from_json`` reads them."""
        costs = dict(
            names=list(self.names), strides=list(self.strides),
            mse=self._json_of_pairs(self.mse),
            variance=self._json_of_targets(self.variance),
            positions=self._json_of_levels(self.positions),
            resolution=self._json_of_pairs(self.resolution))
        if self.folds is not None:
            costs['folds'] = dict(
                errors=self._json_of_pairs(self.folds.errors),
                positions=self._json_of_targets(self.folds.positions))
        return costs

    @classmethod
    def from_json(cls, costs: Mapping) -> AdaptationCosts:
        """The costs whose ``to_json`` this is.

        Raises:
            ValueError: An entry of ``to_json`` is missing, other than
                ``folds`` and ``resolution``, which older files lack.
        """
        entries = {'names', 'strides', 'mse', 'variance', 'positions'}
        if not entries <= set(costs):
            raise ValueError('Not adaptation costs: the JSON lacks '
                             f'{sorted(entries - set(costs))}.')
        folds = costs.get('folds')
        if folds is not None:
            missing = {'errors', 'positions'} - set(folds)
            if missing:
                raise ValueError("Not adaptation costs: the JSON's folds lack "
                                 f'{sorted(missing)}.')
            folds = _by_pair(folds['errors']), folds['positions']
        return cls.from_dicts(
            costs['names'], costs['strides'], _by_pair(costs['mse']),
            costs['variance'], costs['positions'], folds,
            _by_pair(costs.get('resolution', {})))

    def _place(self, *detectors: str) -> tuple[int, ...]:
        if not set(detectors) <= set(self.names):
            raise ValueError(f'No costs of {list(detectors)}; the detectors '
                             f'are {list(self.names)}.')
        return tuple(map(self.names.index, detectors))

    def _levels(self, source: str, target: str) -> np.ndarray:
        """(levels,), the errors of a pair."""
        if (source, target) not in self.pairs:
            raise ValueError(f'No cost {source!r} -> {target!r}; there are '
                             'those between two different detectors of '
                             f'{list(self.names)}.')
        return self._column(self.mse, source, target)

    def _column(self, array: np.ndarray, *detectors: str) -> np.ndarray:
        """An array's entry of these detectors at all levels."""
        place: Any = slice(None), *self._place(*detectors)
        return array[place]

    def _fill(self, array: np.ndarray, values: Mapping[Any, ByStride]) -> None:
        for key, levels in values.items():
            detectors = (key,) if isinstance(key, str) else key
            for stride, value in levels.items():
                array[self.at(int(stride), *detectors)] = value

    def _json_of_levels(self, values: np.ndarray) -> dict[str, Any]:
        """Without the levels that have no value."""
        levels = {}
        for stride, value in zip(self.strides, values, strict=True):
            if not np.isnan(value).any():
                levels[str(stride)] = value.tolist()
        return levels

    def _json_of_targets(self, values: np.ndarray) -> dict[str, dict]:
        by_name = {}
        for name in self.names:
            levels = self._json_of_levels(self._column(values, name))
            if levels:
                by_name[name] = levels
        return by_name

    def _json_of_pairs(self, values: np.ndarray) -> dict[str, dict]:
        by_source: dict[str, dict] = {}
        for source, target in permutations(self.names, 2):
            levels = self._json_of_levels(self._column(values, source, target))
            if levels:
                by_source.setdefault(source, {})[target] = levels
        return by_source


def _by_pair(by_source: Mapping[str, ByName]) -> ByPair:
    pairs = {}
    for source, targets in by_source.items():
        for target, levels in targets.items():
            pairs[source, target] = levels
    return pairs
