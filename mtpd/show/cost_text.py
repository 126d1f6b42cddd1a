"""Costs as text.

All numbers of one table have the same number of digits: 1.00 beside 1.01. A
cost that cannot be distinguished from rounding is shown by its upper bound,
such as ``< 2e-06``.
"""
from typing import Iterable

from mtpd.order.costs import AdaptationCosts

_MARK = '< '


def digits_text(value: float, digits: int = 4) -> str:
    """A number with exactly so many digits, where they do not stand before
    the point: 1.000, 747.1, 0.5410, 2.000e-06."""
    return f'{value:#.{digits}g}'.removesuffix('.')


def closest(costs: AdaptationCosts, target: str) -> list[str]:
    """The detectors with the smallest cost to a target; several where they
    cannot be distinguished."""
    names = [name for name in costs.names if name != target]
    least = min(names, key=lambda name: costs.cost(name, target))
    unresolved = _all_below(costs, least, target)
    return [name for name in names
            if costs.cost(name, target) == costs.cost(least, target)
            or unresolved and _all_below(costs, name, target)]


def level_text(costs: AdaptationCosts, source: str, target: str,
               stride: int) -> str:
    """One level's mean squared error."""
    level = costs.at(stride, source, target)
    if stride in costs.below_resolution(source, target):
        return _MARK + digits_text(costs.resolution[level])
    return digits_text(costs.mse[level])


def cost_text(costs: AdaptationCosts, source: str, target: str,
              digits: int = 4) -> str:
    """The mean over levels; its bound only if every level is below its own."""
    if _all_below(costs, source, target):
        limits = [costs.resolution[costs.at(stride, source, target)]
                  for stride in costs.strides]
        return _MARK + digits_text(sum(limits) / len(limits), digits)
    return digits_text(costs.cost(source, target), digits)


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
    if any(text is not None and _MARK in text for text in texts):
        return ('<: cannot be distinguished from rounding',)
    return ()


def _all_below(costs: AdaptationCosts, source: str, target: str) -> bool:
    return set(costs.below_resolution(source, target)) == set(costs.strides)
