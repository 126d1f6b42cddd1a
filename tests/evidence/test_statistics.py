"""The statistics agree with scipy, simulations and written-out formulas."""
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from evidence.jobs.similarity import alignment
from evidence.statistics import (concordance, interval, noise_of_orders,
                                 permutation_chance, rank_correlation,
                                 relabelled, smallest_difference)
from scipy import stats

from mtpd.order.moments import FeatureMoments


@pytest.mark.parametrize('seeds', [2, 3, 5, 20])
def test_the_smallest_difference_is_found_four_times_in_five(seeds):
    """Simulated."""
    random = np.random.default_rng(0)
    drawn = random.normal(smallest_difference(seeds, 2.), 2., (40000, seeds))
    detected = stats.ttest_1samp(drawn, 0, axis=1).pvalue < .05
    assert detected.mean() == pytest.approx(.8, abs=.008)


def test_interval_is_that_of_the_t_test():
    values = [.3, .7, -.1, .4]
    mean, half = interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert interval([.3])[1] == math.inf


@pytest.mark.parametrize('deviation', [.02, .1, .5])
def test_an_interval_of_rounded_values_holds(deviation):
    """Simulated: three seeds whose true difference is 0, rounded to 0.1."""
    random = np.random.default_rng(0)
    sides = random.normal(30, deviation, (2, 4000, 3)).round(1)
    missed = [abs(mean) > half + 1e-12 for mean, half in (
        interval(d, .1) for d in sides[0] - sides[1])]
    assert np.mean(missed) < .06
    assert interval([.7, .7, .7], .1)[1] == pytest.approx(
        stats.t(2).ppf(.975) * .1 / math.sqrt(6 * 3))


def test_permutation_chance_counts_all_pairings():
    assert permutation_chance([(x, x) for x in range(4)]) == 2 / 24
    assert permutation_chance([(1, 1), (2, 3), (3, 2)]) == 1
    pairs = [(0, 2), (1, 0), (2, 1), (3, 4), (4, 5), (5, 3)]
    expected = stats.permutation_test(
        ([x for x, _ in pairs],), lambda x: stats.spearmanr(
            x, [y for _, y in pairs]).statistic, permutation_type='pairings')
    assert permutation_chance(pairs) == pytest.approx(expected.pvalue)


def test_noise_of_orders_is_that_of_a_two_way_analysis_of_variance():
    """Simulated: seeds shift all orders alike, orders mean nothing, and a
    seed moves an order by 0.4."""
    random = np.random.default_rng(0)
    results = [noise_of_orders(random.normal(0, 2, (3, 1))
                               + random.normal(0, .4, (3, 12)))
               for _ in range(2000)]
    noise, chance = np.array(results).T
    assert np.sqrt((noise**2).mean()) == pytest.approx(.4, rel=.02)
    assert (chance < .05).mean() == pytest.approx(.05, abs=.015)
    different = np.tile(np.arange(12.), (3, 1)) + random.normal(0, .4, (3, 12))
    assert noise_of_orders(different)[1] < 1e-6
    assert noise_of_orders(np.tile(np.arange(3.), (2, 1))) == (0, 0)
    assert noise_of_orders(np.full((2, 3), 31.)) == (0, 1)


def test_concordance_counts_pairs_within_groups_only():
    # 1 of 1; 1 of 3; a tie
    assert concordance([[(1, 5), (2, 6)]]) == 1
    assert concordance([[(1, 1), (2, 3), (3, 2)]]) == pytest.approx(2 / 3)
    assert concordance([[(1, 5), (2, 6)], [(0, 9), (1, 8)]]) == .5
    assert concordance([[(1, 5), (1, 6)]]) == .5
    assert math.isnan(concordance([[(1, 5)], [(2, 3)]]))


def test_rank_correlation_with_a_constant_is_nan():
    assert rank_correlation([(x, x**3) for x in range(8)]) == pytest.approx(1)
    assert math.isnan(rank_correlation([(1, 2), (1, 3)]))


def test_relabelled_counts_all_names():
    """Simulated: an uninformative measure is below 5% at most one time in
    twenty, and a perfect one is as far out as 24 relabellings allow."""
    random = np.random.default_rng(0)
    pairs = list(permutations('abcd', 2))
    gains = dict(zip(pairs, random.normal(size=12)))

    def agreement(measure):
        return float(np.corrcoef([measure[p] for p in pairs],
                                 [gains[p] for p in pairs])[0, 1])

    assert relabelled(gains, agreement, 0) == pytest.approx((1, 1 / 24))
    chances = [relabelled(dict(zip(pairs, random.normal(size=12))), agreement,
                          0)[1] for _ in range(400)]
    assert np.mean(np.array(chances) < .05) < .075
    assert np.mean(chances) == pytest.approx(.52, abs=.06)
    assert relabelled(gains, lambda of: math.nan, 0)[1] == 1


def test_alignment_is_centred_kernel_alignment():
    """Against the kernels themselves: tr(KHLH) / sqrt(tr(KHKH) tr(LHLH))."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 3, 4, 5, generator=generator)
    b = torch.randn(2, 6, 4, 5, generator=generator) + 3 + a.repeat(1, 2, 1, 1)
    sums = FeatureMoments({8: {'a': 3, 'b': 6}})
    sums.add({'a': {8: a}, 'b': {8: b}}, [0, 1])

    def kernel(maps):
        rows = maps.double().movedim(1, -1).flatten(0, 2)
        rows = rows - rows.mean(0)
        return rows @ rows.T

    k, m = kernel(a), kernel(b)
    expected = (k * m).sum() / (k.norm() * m.norm())
    assert alignment(sums, 8, 'a', 'b') == pytest.approx(float(expected))
    assert alignment(sums, 8, 'b', 'a') == pytest.approx(float(expected))
