"""A teacher's scale: one fraction, one key."""
import math
from fractions import Fraction

import pytest

from mtpd.distill.teacher_view.scale import as_fraction, scale_key


def test_scales_are_simple_fractions():
    assert [as_fraction(s) for s in (2, 0.75, 1 / 3, '4/3', '2')] == [
        Fraction(2), Fraction(3, 4), Fraction(1, 3), Fraction(4, 3), 2]
    for wrong in (0, -1, math.inf, math.nan, 'x', None, '1/0'):
        with pytest.raises(ValueError, match='number above 0'):
            as_fraction(wrong)


def test_scales_have_one_name_each():
    assert [scale_key(s) for s in (2, 2.0, '2', 1.5, '3/2', 0.5, 1.333)] \
        == ['2', '2', '2', '3/2', '3/2', '1/2', '4/3']
    for wrong in (0, -1, 'two', '1/0', None, float('nan'), float('inf')):
        with pytest.raises(ValueError, match='scale'):
            scale_key(wrong)
