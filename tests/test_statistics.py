"""Standard errors, limits and intervals against what drawn data do."""
import math

import numpy as np
import pytest
from scipy import stats

from mtpd.statistics import (Difference, crossed, jackknife_error, jackknifed,
                             median_interval, paired, t_limit)


def test_a_mean_over_groups_has_the_usual_error():
    difference = paired(np.array([1., 2., 3., 6.]))
    assert difference.value == 3
    assert difference.error == pytest.approx(math.sqrt(14 / 3 / 4))
    # Student's t, 3 degrees of freedom, with the coverage of two errors.
    assert difference.limit == pytest.approx(3.307 * difference.error,
                                             rel=1e-3)
    assert difference.sign == 0
    assert paired(-np.array([3., 3.1, 2.9, 3.])).sign == -1
    assert paired(np.array([3., 3.1, 2.9, 3.])).sign == 1


def test_a_difference_without_scatter_or_value_has_no_sign():
    assert paired(np.array([3.])).sign == 0
    assert math.isnan(paired(np.array([3.])).error)
    assert paired(np.array([1., math.nan, 2.])).sign == 0
    assert Difference(0., 0., 5).sign == 0  # equal to the last bit
    assert Difference(1e-9, 0., 5).sign == 1


def test_the_jackknife_of_a_mean_gives_the_error_of_a_mean():
    values = np.random.default_rng(0).normal(size=10)
    left_out = (values.sum() - values) / 9
    difference = jackknifed(values.mean(), left_out)
    assert difference.value == values.mean()
    assert difference.error == pytest.approx(values.std(ddof=1)
                                             / math.sqrt(10))
    assert difference.groups == 10
    assert math.isnan(jackknife_error(left_out[:1]))


def test_directions_and_images_both_count_in_the_error():
    """Against the scatter of the means of many drawn data sets."""
    random = np.random.default_rng(1)

    def draw():
        return (.5 * random.normal(size=(12, 1)) + .8 * random.normal(size=8)
                + .3 * random.normal(size=(12, 8)))

    differences = [crossed(draw()) for _ in range(2000)]
    true = math.sqrt(.25 / 12 + .64 / 8 + .09 / 96)
    assert np.std([d.value for d in differences]) == pytest.approx(true,
                                                                   rel=.05)
    root_mean_square = math.sqrt(np.mean([d.error**2 for d in differences]))
    assert 1 < root_mean_square / true < 1.02
    # The true difference is 0, so a sign appears about as rarely as two
    # standard errors promise.
    with_sign = np.mean([d.sign != 0 for d in differences])
    assert .01 < with_sign < .0455 + .01
    assert differences[0].groups == 8


@pytest.mark.parametrize('groups', [2, 3, 10, 25])
@pytest.mark.parametrize('level', [None, .5, .9, .99])
def test_certainty_is_by_students_t(groups, level):
    level_given = () if level is None else (level,)
    level = level or stats.norm.cdf(2) - stats.norm.cdf(-2)
    expected = float(stats.t.ppf((1 + level) / 2, groups - 1))
    assert t_limit(groups, *level_given) == pytest.approx(expected, rel=1e-9)
    assert Difference(1., 1., groups).required_margin(*level_given) == (
        pytest.approx(expected, rel=1e-9))
    for factor, certain in ((.999, False), (1.001, True)):
        for sign in (1, -1):
            assert Difference(sign * factor * expected * .3, .3, groups
                              ).is_certain(*level_given) is certain


def test_certainty_at_the_ends():
    # Published: Student's t of 9 degrees of freedom, two-sided 95%.
    assert t_limit(10, .95) == pytest.approx(2.262, abs=5e-4)
    assert t_limit(10) == pytest.approx(2.32, abs=5e-3)
    equal = Difference(0., 0., 10)
    assert equal.margin == 0 and equal.is_certain() is False
    without_scatter = Difference(.1, 0., 10)
    assert (without_scatter.margin == math.inf
            and without_scatter.is_certain() is True)
    for level in (0, 1, 95):
        with pytest.raises(ValueError, match=f'between 0 and 1; got {level}'):
            equal.is_certain(level)


def test_an_unknown_error_leaves_certainty_unknown():
    for unknown in (Difference(1.), Difference(0.), Difference(1., .1, 1)):
        assert unknown.required_margin() is None
        assert unknown.is_certain() is None
        assert math.isnan(unknown.limit) and unknown.sign == 0
    assert Difference(1.).margin is Difference(0.).margin is None


def test_the_interval_of_a_median_holds_it_as_often_as_promised():
    random = np.random.default_rng(0)
    # Of 20 values the 6th and the 15th: 95.9% by the binomial distribution.
    assert median_interval(range(1, 21)) == (6, 15)
    intervals = [median_interval(random.exponential(size=20))
                 for _ in range(2000)]
    covered = np.mean([low <= math.log(2) <= high for low, high in intervals])
    assert covered == pytest.approx(.959, abs=.015)


def test_the_interval_of_fewer_than_six_values_is_their_range():
    assert median_interval([3., 1., 2.]) == (1., 3.)
    assert median_interval([5, 1, 4, 2, 3]) == (1, 5)
    assert median_interval([5, 1, 4, 2, 3, 6, 7, 8]) == (1, 8)
    assert median_interval([5, 1, 4, 2, 3, 6, 7, 8, 9]) == (2, 8)
