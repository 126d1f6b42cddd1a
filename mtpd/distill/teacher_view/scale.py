"""A teacher's scale: the size of its images over the student's."""
from fractions import Fraction
from typing import Any


def as_fraction(scale: float | str | Fraction) -> Fraction:
    """A scale as the simple fraction that it means: 0.75 and '3/4' -> 3/4,
    0.333 -> 1/3.

    Raises:
        ValueError: It is no positive number.
    """
    try:
        # True would be 1.
        fraction = Fraction(0 if isinstance(scale, bool) else scale
                            ).limit_denominator(64)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        fraction = Fraction(0)
    if fraction <= 0:
        raise ValueError(f"A teacher's scale is {scale!r}; it has to be a "
                         "number above 0, such as 2, 0.75 or '4/3'.")
    return fraction


def scale_key(scale: float | str | Fraction) -> str:
    """A scale's key in ``teacher_inputs``: 2, 2.0 and '2' -> '2'; 1.5 and
    '3/2' -> '3/2'; the nearest fraction of a denominator up to 64.

    Raises:
        ValueError: It is not positive, or no number.
    """
    return str(as_fraction(scale))


def is_scale(value: Any) -> bool:
    """Whether a value in a config is a scale: a number above 0."""
    try:
        return as_fraction(value) > 0
    except ValueError:
        return False
