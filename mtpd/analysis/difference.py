"""Differences between two runs, and whether they can be told from chance."""
import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from mtpd.order.costs import TWO_ERRORS


@dataclass(frozen=True)
class Difference:
    """First minus second, with its standard error.

    Attributes:
        value: In the units of what is compared.
        error: One standard error; nan where there is nothing to tell it from.
        groups: Of how many independent values the error was made, the
            smallest number of any kind.
    """
    value: float
    error: float
    groups: int

    @property
    def limit(self) -> float:
        """Below it a difference is within noise: two standard errors, wider
        (Student's t of equal coverage) the fewer groups know the scatter."""
        if self.groups < 2:
            return math.nan
        return float(stdtrit(self.groups - 1, (1 + TWO_ERRORS) / 2)
                     ) * self.error

    @property
    def sign(self) -> int:
        """1 higher, -1 lower, 0 within noise or not known."""
        if not abs(self.value) > self.limit:
            return 0
        return 1 if self.value > 0 else -1


def paired(differences: np.ndarray) -> Difference:
    """Of a mean over groups of images, the same for both.

    Args:
        differences: (groups,).
    """
    count = len(differences)
    with np.errstate(invalid='ignore'):  # infinite ones: the error is nan
        error = np.std(differences, ddof=1) / math.sqrt(count) \
            if count > 1 else math.nan
    return Difference(float(np.mean(differences)), float(error), count)


def crossed(differences: np.ndarray) -> Difference:
    """Of a mean over directions and over groups of images, both drawn at
    random and each with each.

    The error is the root of both kinds' shares: the scatter of the means of
    directions and of the means of groups. What directions and groups have
    together is counted in both, so it is rather too large than too small.

    Args:
        differences: (directions, groups).
    """
    parts = [paired(differences.mean(axis)) for axis in (1, 0)]
    return Difference(float(differences.mean()),
                      math.hypot(*(part.error for part in parts)),
                      min(differences.shape))


def jackknifed(value: float, without: np.ndarray) -> Difference:
    """Of something that is no mean, such as AP.

    Args:
        value: On all images.
        without: On all but one fold of them each: (folds,).
    """
    folds = len(without)
    spread = np.sum((without - np.mean(without))**2)
    error = math.sqrt((folds - 1) / folds * spread) if folds > 1 \
        else math.nan
    return Difference(float(value), error, folds)
