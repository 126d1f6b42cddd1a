"""Costs as text; one that is not told from rounding is shown as ``< ``
bound."""
from typing import Iterable

from mtpd.order.costs import AdaptationCosts


def level_text(costs: AdaptationCosts, source: str, target: str,
               stride: int) -> str:
    """One level's mean squared error."""
    level = costs.at(stride, source, target)
    if stride in costs.below_resolution(source, target):
        return f'< {costs.resolution[level]:.4g}'
    return f'{costs.mse[level]:.4g}'


def cost_text(costs: AdaptationCosts, source: str, target: str,
              digits: int = 4) -> str:
    """The mean over levels; its bound only if every level is below its own."""
    if _all_below(costs, source, target):
        limits = [costs.resolution[costs.at(stride, source, target)]
                  for stride in costs.strides]
        return f'< {sum(limits) / len(limits):.{digits}g}'
    return f'{costs.cost(source, target):.{digits}g}'


def share_text(costs: AdaptationCosts, source: str, target: str,
               decimals: int = 3) -> str:
    """The mean as a part of the target's variance; - where it has none."""
    variances = [costs.variance[costs.at(stride, target)]
                 for stride in costs.strides]
    if not all(variances):
        return '-'
    if _all_below(costs, source, target):
        limits = [costs.resolution[costs.at(stride, source, target)]
                  for stride in costs.strides]
        shares = [limit / variance for limit, variance
                  in zip(limits, variances, strict=True)]
        return f'< {sum(shares) / len(shares):.{decimals}g}'
    return f'{costs.normalised_cost(source, target):.{decimals}f}'


def legend(rows: Iterable[Iterable[str]]) -> str:
    """A line on the mark, empty if no text has it."""
    marked = any(text.startswith('< ') for row in rows for text in row)
    return '\n<: too small to be told from rounding' if marked else ''


def _all_below(costs: AdaptationCosts, source: str, target: str) -> bool:
    return set(costs.below_resolution(source, target)) == set(costs.strides)
