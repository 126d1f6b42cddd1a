"""Costs as text.

A cost that cannot be distinguished from rounding is shown by its upper bound,
such as ``< 2e-06``.
"""
from typing import Iterable

from mtpd.order.costs import AdaptationCosts

_MARK = '< '


def level_text(costs: AdaptationCosts, source: str, target: str,
               stride: int) -> str:
    """One level's mean squared error."""
    level = costs.at(stride, source, target)
    if stride in costs.below_resolution(source, target):
        return f'{_MARK}{costs.resolution[level]:.4g}'
    return f'{costs.mse[level]:.4g}'


def cost_text(costs: AdaptationCosts, source: str, target: str,
              digits: int = 4) -> str:
    """The mean over levels; its bound only if every level is below its own."""
    if _all_below(costs, source, target):
        limits = [costs.resolution[costs.at(stride, source, target)]
                  for stride in costs.strides]
        bound = sum(limits) / len(limits)
        return f'{_MARK}{bound:.{digits}g}'
    return f'{costs.cost(source, target):.{digits}g}'


def share_text(costs: AdaptationCosts, source: str, target: str,
               decimals: int = 3) -> str:
    """The mean as a part of the target's variance; ``-`` for a target without
    variance."""
    variances = [costs.variance[costs.at(stride, target)]
                 for stride in costs.strides]
    if not all(variances):
        return '-'
    if _all_below(costs, source, target):
        limits = [costs.resolution[costs.at(stride, source, target)]
                  for stride in costs.strides]
        shares = [limit / variance for limit, variance
                  in zip(limits, variances, strict=True)]
        return f'{_MARK}{sum(shares) / len(shares):.{decimals}g}'
    return f'{costs.normalised_cost(source, target):.{decimals}f}'


def legend(texts: Iterable[str | None]) -> tuple[str, ...]:
    """A line that explains ``<``; none if no text has it."""
    if any(text is not None and text.startswith(_MARK) for text in texts):
        return ('<: cannot be distinguished from rounding',)
    return ()


def _all_below(costs: AdaptationCosts, source: str, target: str) -> bool:
    return set(costs.below_resolution(source, target)) == set(costs.strides)
