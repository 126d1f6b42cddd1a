"""Differences and their standard errors, Student's t, medians of times."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit
from scipy.stats import binom

TWO_ERRORS = math.erf(2 / math.sqrt(2))
"""Probability that a normal variable lies within two standard errors."""


def t_limit(groups: int, level: float = TWO_ERRORS) -> float:
    """Two-sided limit of Student's t for a mean over ``groups`` values.

    With few groups their scatter is known badly, so the limit is wide: 2.32
    for 10 groups at the default level, 2.0 for infinitely many.

    Args:
        groups: Number of independent values; one more than the degrees of
            freedom.
        level: Probability that the t of a true difference of 0 stays within
            the limit.

    Returns:
        In standard errors; nan for fewer than two groups.

    Raises:
        ValueError: ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError('A confidence level lies between 0 and 1; got '
                         f'{level}. Two standard errors are 0.9545.')
    return float(stdtrit(groups - 1, (1 + level) / 2))


@dataclass(frozen=True)
class Difference:
    """First minus second, with its standard error.

    Attributes:
        value: In the units of the compared quantity.
        error: One standard error, in the same units; nan if unknown.
        groups: Number of independent values behind the error, the smallest
            number of any kind; 0 if unknown.
    """

    value: float
    error: float = math.nan
    groups: int = 0

    @property
    def margin(self) -> float | None:
        """Size in standard errors; None if the error is unknown.

        Values that are equal to the last bit in every group have margin 0.
        """
        if math.isnan(self.error):
            return None
        if self.value == 0:
            return 0.
        return abs(self.value) / self.error if self.error else math.inf

    def required_margin(self, level: float = TWO_ERRORS) -> float | None:
        """The margin above which the sign is certain; None if unknown.

        Args:
            level: As in :func:`t_limit`.

        Raises:
            ValueError: ``level`` is not between 0 and 1.
        """
        limit = t_limit(self.groups, level)
        return None if math.isnan(limit) else limit

    def is_certain(self, level: float = TWO_ERRORS) -> bool | None:
        """Whether all data of this kind would give the same sign.

        Args:
            level: As in :func:`t_limit`.

        Returns:
            None if the error is unknown.

        Raises:
            ValueError: ``level`` is not between 0 and 1.
        """
        required, margin = self.required_margin(level), self.margin
        if required is None or margin is None:
            return None
        return margin > required

    @property
    def limit(self) -> float:
        """Below this size a difference is within noise; nan if unknown."""
        return t_limit(self.groups) * self.error

    @property
    def sign(self) -> int:
        """1 for higher, -1 for lower, 0 for within noise or unknown."""
        if not abs(self.value) > self.limit:
            return 0
        return 1 if self.value > 0 else -1


def paired(differences: np.ndarray) -> Difference:
    """Difference of two means over the same groups of images.

    Args:
        differences: (groups,), first minus second in each group.
    """
    count = len(differences)
    error = math.nan
    if count > 1:
        with np.errstate(invalid='ignore'):  # infinite values: nan
            error = float(np.std(differences, ddof=1) / math.sqrt(count))
    return Difference(float(np.mean(differences)), error, count)


def crossed(differences: np.ndarray) -> Difference:
    """Difference of two means over random directions and groups of images.

    Every direction is measured on every group. The variance is the sum of
    two: that of the directions' means and that of the groups' means. What
    both share is counted twice, so the error is slightly too large.

    Args:
        differences: (directions, groups), first minus second.
    """
    by_group, by_direction = (paired(differences.mean(axis))
                              for axis in (0, 1))
    return Difference(float(differences.mean()),
                      math.hypot(by_direction.error, by_group.error),
                      min(differences.shape))


def jackknife_error(left_out: np.ndarray) -> float:
    """Standard error of a statistic by the delete-one jackknife.

    With g groups the variance is (g - 1) / g times the sum of squared
    deviations of the g leave-one-out values from their mean.

    Args:
        left_out: (groups,), the statistic without each of the groups.

    Returns:
        nan for fewer than two groups.
    """
    groups = len(left_out)
    if groups < 2:
        return math.nan
    spread = np.square(left_out - left_out.mean()).sum()
    return math.sqrt((groups - 1) / groups * spread)


def jackknifed(value: float, left_out: np.ndarray) -> Difference:
    """Difference of two values that are no means, such as APs.

    Args:
        value: First minus second on all images.
        left_out: (folds,), the same without each fold of images.
    """
    return Difference(float(value), jackknife_error(left_out), len(left_out))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """95% confidence interval of the median, from order statistics.

    The r-th smallest of n values lies above the median if fewer than r of n
    fair coins show heads. Taken is the largest r for which that has a
    probability of at most 2.5%. Fewer than six values have no such r; the
    result is then their range.
    """
    rank = max(1, int(binom.ppf(0.025, len(values), 0.5)))
    ordered = sorted(values)
    return ordered[rank - 1], ordered[-rank]
