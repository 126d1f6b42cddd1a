"""What is said of times that were measured in turn."""
from collections.abc import Sequence

from scipy.stats import binom


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the median, from order statistics; of fewer than 6
    values, where there is none, the range.

    The rth smallest is above the median where fewer than r of n tosses of a
    fair coin fall below: of all r with a chance of at most 2.5% the largest.
    """
    rank = max(1, int(binom.ppf(0.025, len(values), 0.5)))
    ordered = sorted(values)
    return ordered[rank - 1], ordered[-rank]
