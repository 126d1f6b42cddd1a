"""Intervals, tests and correlations of the comparisons."""
import math
from itertools import combinations, permutations
from statistics import fmean
from typing import Callable, Mapping, Sequence

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import fdtrc, stdtrit

from .design import ASSUMED_DEVIATION

Pair = tuple[str, str]
"""A teacher and the teacher after it."""
PairMeasure = Mapping[Pair, float]


def smallest_difference(seeds: int,
                        deviation: float = ASSUMED_DEVIATION) -> float:
    """The difference that a two-sided paired t test at 5% finds four times in
    five.

    Args:
        seeds: How many pairs, at least 2.
        deviation: Standard deviation of a pair's difference.
    """
    limit = t_limit(seeds)
    shift = brentq(lambda shift: stats.nct(seeds - 1, shift).sf(limit) - .8,
                   0, 4 * limit)
    return float(shift * deviation / math.sqrt(seeds))


def t_limit(count: int) -> float:
    """Half of a 95% interval of a mean of this many values, in standard
    errors: Student's t."""
    return float(stdtrit(count - 1, .975))


def f_chance(ratio: float, first: int, second: int) -> float:
    """Chance of a larger ratio of variances (F test).

    Args:
        ratio: Of two variances.
        first: Degrees of freedom of the numerator.
        second: Those of the denominator.
    """
    return float(fdtrc(first, second, ratio))


def interval(differences: Sequence[float],
             step: float = 0.) -> tuple[float, float]:
    """Mean of paired differences and half of its 95% interval (Student's t);
    infinite for fewer than two.

    Args:
        differences: One for each seed.
        step: To which both sides were rounded: the variance is taken to be
            at least what rounding alone makes, step²/6.
    """
    values = np.asarray(differences, float)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.inf
    variance = max(values.var(ddof=1), step**2 / 6)
    return mean, float(t_limit(len(values))
                       * math.sqrt(variance / len(values)))


def verdict(mean: float, half: float) -> str:
    """An interval in words, the same for every comparison."""
    if abs(mean) <= half:
        return 'within noise'
    return 'higher' if mean > 0 else 'lower'


def permutation_chance(pairs: Sequence[tuple[float, float]]) -> float:
    """How often a random pairing has a rank correlation at least as far from
    0: exact, over all pairings, so for a few pairs only; 1 where a side is
    constant."""
    x, y = zip(*pairs)
    observed = abs(rank_correlation(pairs))
    if math.isnan(observed):
        return 1.
    correlations = [abs(rank_correlation(list(zip(x, shuffled))))
                    for shuffled in permutations(y)]
    return float(np.mean([value > observed - 1e-9
                          for value in correlations]))


def noise_of_orders(aps: Sequence[Sequence[float]]) -> tuple[float, float]:
    """How far a seed moves one order.

    Args:
        aps: (seeds, orders).

    Returns:
        Standard deviation of what the means of seed and order leave
        unexplained, and the chance of orders at least as different if the
        order had no effect (F test of a two-way analysis of variance).
    """
    table = np.asarray(aps, float)
    seeds, orders = table.shape
    effects = table.mean(0) - table.mean()
    rest = table - table.mean(1, keepdims=True) - effects
    freedom = (seeds - 1) * (orders - 1)
    noise = float((rest**2).sum()) / freedom
    if noise == 0:
        return 0., float(not effects.any())
    ratio = seeds * float((effects**2).sum()) / (orders - 1) / noise
    return math.sqrt(noise), f_chance(ratio, orders - 1, freedom)


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's; nan where one side is constant."""
    x, y = zip(*pairs)
    if len(set(x)) < 2 or len(set(y)) < 2:
        return math.nan
    return float(stats.spearmanr(x, y).statistic)


def relabelled(measure: PairMeasure, statistic: Callable[[PairMeasure], float],
               zero: float) -> tuple[float, float]:
    """A statistic of a measure of pairs of teachers, and its chance.

    Args:
        measure: (one teacher, another) -> value, of all pairs.
        statistic: Of such a measure.
        zero: Its value where the measure carries no information.

    Returns:
        The statistic, and how often it is at least as far from ``zero`` after
        the measure's teachers swap their names: exact, over all relabellings,
        so never less than 1 over their number.
    """
    names = sorted({name for pair in measure for name in pair})
    observed = statistic(measure)
    if math.isnan(observed):
        return observed, 1.
    distances = []
    for shuffled in permutations(names):
        new = dict(zip(names, shuffled))
        relabelled_measure = {(a, b): measure[new[a], new[b]]
                              for a, b in measure}
        distances.append(abs(statistic(relabelled_measure) - zero))
    limit = abs(observed - zero) - 1e-9
    return observed, float(np.mean([d > limit for d in distances]))


def concordance(groups: Sequence[Sequence[tuple[float, float]]]) -> float:
    """The share of all pairs within a group in which the higher first value
    has the higher second; a tie counts half."""
    signs = [np.sign((a - c) * (b - d)) for group in groups
             for (a, b), (c, d) in combinations(group, 2)]
    return float(np.mean(signs) + 1) / 2 if signs else math.nan


def within_targets(values: PairMeasure) -> list[float]:
    """Each pair's value minus the mean of all pairs with the same second
    teacher, in the order of the pairs."""
    by_target: dict[str, list[float]] = {}
    for (_, target), value in values.items():
        by_target.setdefault(target, []).append(value)
    return [value - fmean(by_target[target])
            for (_, target), value in sorted(values.items())]
