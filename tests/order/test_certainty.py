"""Margins against what drawn data sets of known distances do."""
import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats

from mtpd.order import (AdaptationCosts, FeatureMoments, TeachingOrder,
                        adaptation_costs, backward_greedy_selection)
from mtpd.order.certainty import Comparison, decision_margins
from mtpd.statistics import TWO_ERRORS, Difference

FOLDS, CHANNELS = 10, 3
DATA_SETS = 200
HARDNESS = .5  # of images: the standard deviation of the logarithm


def drawn(seed, images=40, own=.3, **noises):
    """Moments of a target and of sources that see it through a noise.

    Target and sources see a common world of variance 1. What the target has
    of its own, no source can tell; how much it is belongs to the image.
    """
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn((images, *shape), generator=generator,
                           dtype=torch.float64)

    def strength():
        return (HARDNESS * randn(1, 1, 1)).exp()

    shape = CHANNELS, 3, 3
    world = math.sqrt(.5) * (randn(*shape) + randn(CHANNELS, 1, 1))
    maps = dict(target={8: world + own * strength() * randn(*shape)})
    for name, noise in noises.items():
        maps[name] = {8: world + noise * strength() * randn(*shape)}
    moments = FeatureMoments({8: dict.fromkeys(maps, CHANNELS)}, FOLDS)
    moments.add(maps, [image % FOLDS for image in range(images)])
    return moments


def gap_in_truth(noise, other):
    """Of the costs through two noises: s / (1 + s), s the noise's variance.

    The mean square of ``strength`` is exp(2 HARDNESS^2).
    """
    squares = [n**2 * math.exp(2 * HARDNESS**2) for n in (noise, other)]
    return np.subtract(*(s / (1 + s) for s in squares))


@cache
def gaps(noise, other):
    return [adaptation_costs(drawn(seed, own=.8, a=noise, b=other)
                             ).difference('a', 'b', 'target')
            for seed in range(DATA_SETS)]


def test_equal_costs_look_certain_as_rarely_as_promised():
    certain = sum(gap.is_certain() for gap in gaps(.4, .4))
    # Errors of the two costs put together, unpaired, would find none.
    low, high = stats.binom.ppf([.005, .995], DATA_SETS, 1 - TWO_ERRORS)
    assert low <= certain <= high


def test_errors_are_the_scatter_of_data_sets():
    for noises in ((.4, .4), (.2, .3)):
        values = [gap.value for gap in gaps(*noises)]
        errors = [gap.error for gap in gaps(*noises)]
        # A standard deviation of 200 values is known to 5%.
        assert np.std(values) == pytest.approx(
            np.sqrt(np.mean(np.square(errors))), rel=.15)


def test_pairing_makes_a_small_gap_among_hard_images_certain():
    truth = gap_in_truth(.4, .2)
    for seed in range(20):
        costs = adaptation_costs(drawn(seed, 100, own=.8, a=.4, b=.2))
        gap = costs.difference('a', 'b', 'target')
        assert gap.is_certain() and gap.value > 0
        assert abs(gap.value - truth) < gap.required_margin(.999) * gap.error
        # The two costs' own errors, put together, hide it every time.
        apart = np.hypot(*(stats.sem(np.divide(
            costs.folds.errors[costs.at(8, name, 'target')],
            costs.folds.positions[costs.at(8, 'target')])) for name in 'ab'))
        assert gap.error < .5 * apart
        assert gap.value / apart < gap.required_margin()


@pytest.mark.parametrize('images, low, high', [(24, .86, .96),
                                               (100, .95, .99)])
def test_refitting_without_a_fold_is_the_smaller_part(images, low, high):
    """The error beside one whose maps are all fitted without the fold."""
    ratios = []
    for seed in range(15):
        moments = drawn(seed, images, a=.4, b=.4)
        again = []
        for fold in range(FOLDS):
            state = moments.state_dict()
            for sums in ('count', 'total', 'outer'):
                del state[sums][8][fold]
            costs = adaptation_costs(FeatureMoments.from_state_dict(state))
            again.append(costs.cost('a', 'target') - costs.cost('b', 'target'))
        refitted = math.sqrt((FOLDS - 1) * np.var(again))
        ratios.append(adaptation_costs(moments).difference(
            'a', 'b', 'target').error / refitted)
    assert low < np.median(ratios) < high


def of_errors(errors, positions):
    """Costs from a and b into t; errors of b are 0."""
    pair, none = ('a', 't'), ('b', 't')
    strides = tuple(errors)
    return AdaptationCosts.from_dicts(
        ('a', 'b', 't'), strides,
        {pair: {s: sum(errors[s]) / sum(positions[s]) for s in strides},
         none: dict.fromkeys(strides, 0.)}, {}, {},
        ({pair: errors, none: {s: (0.,) * len(errors[s]) for s in strides}},
         {'t': positions}))


@pytest.mark.parametrize('at_coarse', [1., .5])
def test_uneven_and_empty_folds_do_not_look_too_certain(at_coarse):
    """30 images fall into 10 folds as they like, at two levels."""
    random, found = np.random.default_rng(0), []
    for _ in range(2000):
        fold = random.integers(0, FOLDS, 30)
        own = random.normal(size=30)
        errors, positions = {}, {}
        for stride, size in ((8, 36), (16, 9)):
            here = size * (random.random(30) < (
                at_coarse if stride == 16 else 1))
            image = here * (own + .5 * random.normal(size=30))
            errors[stride], positions[stride] = (
                np.bincount(fold, weights, FOLDS) for weights in (image,
                                                                  here))
        gap = of_errors(errors, positions).difference('a', 'b', 't')
        assert gap.groups == min((p > 0).sum() for p in positions.values())
        found.append(gap)
    ratio = (np.sqrt(np.mean([gap.error**2 for gap in found]))
             / np.std([gap.value for gap in found]))
    # 2000 values tell their standard deviation to 1.6%.
    assert .96 < ratio < 1.1
    assert sum(gap.is_certain() for gap in found) <= stats.binom.ppf(
        .995, 2000, 1 - TWO_ERRORS)


# Costs into T and into the teachers, S being the student; each image fold
# holds one position, so that a cost is its folds' mean.
AP = dict(T=50, A=40, B=45)


def pool(**folds):
    """Costs; 'AT' is from A into T, given by its folds."""
    names = ('S', 'T', 'A', 'B')
    pairs = {(pair[0], pair[1]): tuple(errors)
             for pair, errors in folds.items()}
    return AdaptationCosts.from_dicts(
        names, (8,), {pair: {8: sum(errors) / 4}
                      for pair, errors in pairs.items()},
        {}, {8: 4}, (
            {pair: {8: errors} for pair, errors in pairs.items()},
            {name: {8: (1, 1, 1, 1)} for name in names}))


def margins(costs, max_teachers=None):
    order = backward_greedy_selection(costs.cost, 'S', AP, max_teachers)
    return decision_margins(costs, order, 'S', AP, max_teachers)


# B is farther from A than the student is, and much less surely so.
CLOSER_IN_ERRORS = pool(
    ST=(1.19, 1.21, 1.19, 1.21), AT=(1., 1., 1., 1.), BT=(1., 1., 1.1, 3.),
    SA=(.2, .2, .2, .4), BA=(1.2, 1.2, 1.2, 1.4))


def test_the_runner_up_is_the_closest_in_standard_errors():
    final, first, stop = margins(CLOSER_IN_ERRORS)
    assert final.compared is None and final.margin is None
    # Errors of folds from A's: 0, 0, .1, 2 for B; .2 +- .01 for the student,
    # whose cost is the second smallest.
    assert first.compared == Comparison(
        'T', 'A', 'B', (1., pytest.approx(1.525)), Difference(
            pytest.approx(-.525), pytest.approx(stats.sem([0, 0, .1, 2])), 4))
    assert first.margin == pytest.approx(.525 / stats.sem([0, 0, .1, 2]))
    assert first.certain is False
    # The folds of both move together, so that nothing is left of them.
    assert stop.compared.cheaper == 'S' and stop.compared.runner_up == 'B'
    assert stop.margin > 1e9 and stop.certain is True


def test_a_student_can_be_the_closest():
    costs = pool(ST=(1.0, 1.2, 1.1, 1.1), AT=(1.1, 1.1, .9, 1.0),
                 BT=(2.1, 2.1, 1.9, 2.01), SA=(.5, .6, .5, .6),
                 BA=(.6, .5, .6, .52))
    _, first, stop = margins(costs)
    assert (first.compared.cheaper, first.compared.runner_up) == ('A', 'S')
    # Student's t of 3 degrees of freedom wants 3.307 for 95.45%, and
    # (3.307 / 1.192)^2 is 7.69.
    assert first.margin == pytest.approx(
        .075 / stats.sem([-.1, .1, .2, .1]))
    assert first.describe() == (
        "before T: A 1.025 against the student's 1.1: 1.2 standard errors, "
        'not certain: about 7.7 times as many images would be enough')
    assert stop.describe() == (
        "stop before A: the student's 0.55 against B 0.555: 0.1 standard "
        'errors, not certain: these images cannot distinguish them')


def test_the_confidence_level_is_settable():
    costs = pool(ST=(1.0, 1.2, 1.1, 1.1), AT=(1.1, 1.1, .9, 1.0),
                 BT=(2.1, 2.1, 1.9, 2.01), SA=(.5, .6, .5, .6),
                 BA=(.6, .5, .6, .52))
    order = backward_greedy_selection(costs.cost, 'S', AP)
    # Of 3 degrees of freedom 1.192 is Student's t for 68% (scipy, two-sided).
    for level, certain in ((.65, True), (.7, False)):
        first = decision_margins(costs, order, 'S', AP, level=level)[1]
        assert first.certain is certain
        assert first.describe().endswith(', certain') is certain


def test_descriptions_name_the_compared_costs():
    final, first, stop = margins(CLOSER_IN_ERRORS)
    assert final.describe() == 'final teacher T: no cost was compared'
    assert first.describe().startswith('before T: A 1 against B 1.525: 1.1 s')
    assert stop.describe().startswith("stop before A: the student's 0.25 "
                                      'against B 1.25: ')
    assert stop.describe().endswith(' standard errors, certain')


def test_an_end_at_max_teachers_compares_nothing():
    # Costs would have stopped here as well.
    asked = margins(CLOSER_IN_ERRORS, 2)
    assert len(asked) == 3 and asked[-1].compared is None
    assert asked[-1].describe() == 'stop: no cost was compared'
    assert asked[:2] == margins(CLOSER_IN_ERRORS)[:2]
    assert [d.compared for d in margins(CLOSER_IN_ERRORS, 1)] == [None, None]


def test_an_end_of_the_pool_compares_nothing():
    ones, twos = (1., 1.1, 1., 1.), (2., 2., 2., 2.)
    costs = pool(ST=twos, AT=ones, BT=twos, SA=twos, BA=ones)
    _, first, second, stop = margins(costs)
    assert first.compared.runner_up in 'BS'
    assert (second.compared.cheaper, second.compared.runner_up) == ('B', 'S')
    assert stop.compared is None and stop.certain is None


def test_a_tie_is_never_certain():
    same = (1., 1.3, 1.1, 1.)
    costs = pool(ST=(2., 2.3, 2.1, 2.), AT=same, BT=same, SB=(.1,) * 4,
                 AB=(2.,) * 4)
    _, first, _ = margins(costs)
    assert (first.compared.cheaper, first.compared.runner_up) == ('B', 'A')
    assert first.margin == 0 and first.certain is False


def test_costs_without_folds_have_unknown_margins():
    folds = CLOSER_IN_ERRORS.to_json()
    del folds['folds']
    old = margins(AdaptationCosts.from_json(folds))
    # Without errors the smallest difference counts: the student's.
    assert old[1].compared.runner_up == 'S'
    assert old[1].margin is None and old[1].certain is None
    assert old[1].describe() == (
        "before T: A 1 against the student's 1.2: certainty unknown, "
        'these costs were saved without their folds; measure them again')


def test_an_order_of_other_costs_is_refused():
    order = backward_greedy_selection(CLOSER_IN_ERRORS.cost, 'S', AP)
    other = pool(ST=(2.,) * 4, AT=(1.,) * 4, BT=(.5,) * 4)
    with pytest.raises(ValueError, match=r"A -> T .* more than \['B'\]"):
        decision_margins(other, order, 'S', AP)
    with pytest.raises(ValueError, match=r'has A at place 2 .*\[.B.\]'):
        decision_margins(CLOSER_IN_ERRORS, order, 'S', dict(T=50, B=45))
    ones, twos = (1., 1.1, 1., 1.), (2., 2., 2., 2.)
    longer = pool(ST=twos, AT=ones, BT=twos, SA=twos, BA=ones)
    asked = backward_greedy_selection(longer.cost, 'S', AP, 2)
    with pytest.raises(ValueError, match='the max_teachers that it was'):
        decision_margins(longer, asked, 'S', AP)
    assert decision_margins(longer, TeachingOrder(('A', 'T'), ()), 'S',
                            AP) == []
