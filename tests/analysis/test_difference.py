"""What is told from noise, and what is not."""
import math

import numpy as np
import pytest

from mtpd.analysis.difference import Difference, crossed, jackknifed, paired


def test_a_mean_over_groups_has_the_usual_error():
    found = paired(np.array([1., 2., 3., 6.]))
    assert found.value == 3
    assert found.error == pytest.approx(math.sqrt(14 / 3 / 4))
    # Student's t, 3 degrees of freedom, with the coverage of two errors.
    assert found.limit == pytest.approx(3.307 * found.error, rel=1e-3)
    assert found.sign == 0
    assert paired(-np.array([3., 3.1, 2.9, 3.])).sign == -1
    assert paired(np.array([3., 3.1, 2.9, 3.])).sign == 1


def test_what_has_no_scatter_or_no_value_is_not_told():
    assert paired(np.array([3.])).sign == 0
    assert math.isnan(paired(np.array([3.])).error)
    assert paired(np.array([1., math.nan, 2.])).sign == 0
    assert Difference(0., 0., 5).sign == 0  # equal to the last bit
    assert Difference(1e-9, 0., 5).sign == 1


def test_a_jackknifed_mean_has_the_error_of_a_mean():
    values = np.random.default_rng(0).normal(size=10)
    without = (values.sum() - values) / 9
    found = jackknifed(values.mean(), without)
    assert found.value == values.mean()
    assert found.error == pytest.approx(values.std(ddof=1) / math.sqrt(10))


def test_both_directions_and_images_count_in_the_error():
    """Against the scatter of the means of many drawn data sets."""
    drawn = np.random.default_rng(1)

    def draw():
        return (.5 * drawn.normal(size=(12, 1)) + .8 * drawn.normal(size=8)
                + .3 * drawn.normal(size=(12, 8)))

    found = [crossed(draw()) for _ in range(2000)]
    true = math.sqrt(.25 / 12 + .64 / 8 + .09 / 96)
    assert np.std([f.value for f in found]) == pytest.approx(true, rel=.05)
    root_mean_square = math.sqrt(np.mean([f.error**2 for f in found]))
    assert 1 < root_mean_square / true < 1.02
    # No difference in truth: rarely told, about as often as two errors say.
    told = np.mean([f.sign != 0 for f in found])
    assert .01 < told < .0455 + .01
    assert found[0].groups == 8
