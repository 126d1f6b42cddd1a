import json
import math
import warnings
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from mtpd.order import (AdaptationCosts, FeatureMoments, adaptation_costs,
                        costs_on_own_grids, fit_linear_map, fold_of)
from mtpd.order.held_out import adaptation_cost

CHANNELS = {8: dict(a=6, b=9, c=4), 16: dict(a=6, b=5, c=8)}
GRIDS = {8: (9, 12), 16: (5, 6)}
IMAGES = 24
FOLDS = [fold_of(str(i), 4) for i in range(IMAGES)]  # uneven; of 5
SINGLE, DOUBLE = torch.float32, torch.float64


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads waiting for each other cost seconds on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pyramid(seed=0, dtype=SINGLE, offset=0., images=IMAGES):
    """Three detectors that see a common world, each through its own ReLU."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(shape, generator=generator, dtype=DOUBLE)

    maps = dict(a={}, b={}, c={})
    for stride, of in CHANNELS.items():
        world = randn(images, 7, *GRIDS[stride])
        for name, count in of.items():
            seen = torch.einsum('oc,nchw->nohw', randn(count, 7), world)
            own = randn(images, count, *GRIDS[stride])
            scale = torch.logspace(-1, 1, count, dtype=DOUBLE)[:, None, None]
            maps[name][stride] = (
                (seen.relu() + .3 * own) * scale + offset * scale).to(dtype)
    return maps


def measured(maps, folds=FOLDS, valid=None):
    names = list(maps)
    channels = {stride: {name: maps[name][stride].shape[1] for name in names}
                for stride in maps[names[0]]}
    moments = FeatureMoments(channels, folds=5)
    moments.add(maps, folds, valid)
    return moments


def rows(level, images, keep=None):
    """(P, C) float64 positions of these images."""
    positions = level[images].double().movedim(1, -1)
    return (positions.flatten(0, 2) if keep is None
            else positions[keep[images]])


def held_out_sums(source, target, folds=FOLDS, keep=None):
    """Fold -> sum of squared errors (mean over channels), positions."""
    sums = {}
    for held_out in set(folds):
        fitting = [i for i, fold in enumerate(folds) if fold != held_out]
        scored = [i for i, fold in enumerate(folds) if fold == held_out]

        def design(images):
            x = rows(source, images, keep)
            return torch.cat([x, torch.ones_like(x[:, :1])], 1)

        weights = torch.linalg.lstsq(design(fitting),
                                     rows(target, fitting, keep)).solution
        residual = rows(target, scored, keep) - design(scored) @ weights
        if len(residual):
            sums[held_out] = (residual.square().mean(1).sum().item(),
                              len(residual))
    return sums


def cross_fitted(source, target, folds=FOLDS, keep=None):
    """Mean squared error by lstsq on the maps themselves."""
    errors, positions = zip(
        *held_out_sums(source, target, folds, keep).values())
    return sum(errors) / sum(positions)


def variance_of(level, keep=None):
    positions = rows(level, range(len(level)), keep)
    return positions.var(0, correction=0).mean().item()


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('offset', [0., 100.])
@pytest.mark.parametrize('dtype, tolerance', [(SINGLE, 1e-4), (DOUBLE, 1e-9)])
def test_costs_equal_lstsq_on_the_maps(dtype, tolerance, offset, masked):
    maps = pyramid(dtype=dtype, offset=offset)
    valid = masked and {
        stride: torch.rand((IMAGES, *grid), generator=torch.Generator()
                           .manual_seed(stride)) < .8
        for stride, grid in GRIDS.items()} or None
    costs = adaptation_costs(measured(maps, valid=valid))
    assert costs.names == ('a', 'b', 'c') and costs.strides == (8, 16)
    for stride in CHANNELS:
        keep = valid and valid[stride]
        assert costs.positions[costs.at(stride)] == len(
            rows(maps['a'][stride], range(IMAGES), keep))
        for name in maps:
            assert costs.variance[costs.at(stride, name)] == pytest.approx(
                variance_of(maps[name][stride], keep), rel=tolerance)
        for source, target in permutations(maps, 2):
            expected = cross_fitted(maps[source][stride],
                                    maps[target][stride], keep=keep)
            pair = costs.at(stride, source, target)
            assert costs.mse[pair] == pytest.approx(expected, rel=tolerance)
            assert expected > .01 * costs.variance[costs.at(stride, target)]


def test_costs_are_means_over_levels():
    costs = adaptation_costs(measured(pyramid()))
    for pair in permutations('abc', 2):
        fine, coarse = (costs.at(stride, *pair) for stride in (8, 16))
        assert costs.cost(*pair) == pytest.approx(
            (costs.mse[fine] + costs.mse[coarse]) / 2, rel=1e-14)
        assert costs.normalised_cost(*pair) == pytest.approx(
            (costs.mse[fine] / costs.variance[costs.at(8, pair[1])]
             + costs.mse[coarse] / costs.variance[costs.at(16, pair[1])]) / 2,
            rel=1e-14)
    for normalised, cost in ((False, costs.cost),
                             (True, costs.normalised_cost)):
        expected = [[np.nan if source == target else cost(source, target)
                     for target in 'abc'] for source in 'abc']
        np.testing.assert_array_equal(costs.matrix(normalised), expected)
    assert costs.into('b') == dict(a=costs.cost('a', 'b'),
                                   c=costs.cost('c', 'b'))


def test_a_trained_convolution_ends_at_the_same_error():
    maps, held_out, stride = pyramid(), 2, 8
    fitting = [i for i in range(IMAGES) if FOLDS[i] != held_out]
    scored = [i for i in range(IMAGES) if FOLDS[i] == held_out]
    moments = measured(maps)
    for source, target in permutations('abc', 2):
        x, y = maps[source][stride], maps[target][stride]
        torch.manual_seed(0)
        convolution = nn.Conv2d(x.shape[1], y.shape[1], 1)
        optimiser = torch.optim.LBFGS(convolution.parameters(), lr=1,
                                      max_iter=400, history_size=50,
                                      tolerance_change=1e-12,
                                      line_search_fn='strong_wolfe')

        def closure():
            optimiser.zero_grad()
            loss = (convolution(x[fitting]) - y[fitting]).square().mean()
            loss.backward()
            return loss

        optimiser.step(closure)
        weight, bias = fit_linear_map(
            moments, stride, source, target,
            [fold for fold in range(5) if fold != held_out])
        with torch.no_grad():
            trained = (convolution(x[scored]) - y[scored]).square().mean()
            ours = (nn.functional.conv2d(x[scored].double(),
                                         weight[..., None, None], bias)
                    - y[scored]).square().mean()
        assert ours.item() == pytest.approx(trained.item(), rel=1e-3)


@pytest.mark.parametrize('folds', [None, [1, 3]])
def test_the_map_is_that_of_lstsq(folds):
    maps = pyramid(dtype=DOUBLE, offset=5.)
    images = [i for i in range(IMAGES) if not folds or FOLDS[i] in folds]
    x, y = (rows(maps[name][16], images) for name in 'cb')
    weight, bias = fit_linear_map(measured(maps), 16, 'c', 'b', folds)
    expected = torch.linalg.lstsq(
        torch.cat([x, torch.ones_like(x[:, :1])], 1), y).solution
    torch.testing.assert_close(weight, expected[:-1].T, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(bias, expected[-1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('dtype, resolution', [(SINGLE, 1e-6),
                                               (DOUBLE, 1e-12)])
def test_a_linear_function_of_the_source_costs_nothing(dtype, resolution):
    maps = pyramid(dtype=DOUBLE)
    generator = torch.Generator().manual_seed(3)
    exact = {stride: torch.einsum(
        'oc,nchw->nohw',
        torch.randn((10, level.shape[1]), generator=generator, dtype=DOUBLE),
        level) + 7 for stride, level in maps['a'].items()}
    both = {name: {s: level.to(dtype) for s, level in levels.items()}
            for name, levels in dict(a=maps['a'], b=exact).items()}
    costs = adaptation_costs(measured(both))
    assert costs.normalised_cost('a', 'b') < resolution
    # Six channels follow from ten that were made of them.
    assert costs.normalised_cost('b', 'a') < 10 * resolution
    # Half of such errors come out negative; none is left so.
    assert np.nanmin(costs.mse) >= 0


@pytest.mark.parametrize('dtype, resolution', [(SINGLE, 1e-6),
                                               (DOUBLE, 1e-10)])
def test_negative_errors_lie_within_the_resolution(dtype, resolution):
    """Targets that follow linearly: true error 0, half of them negative."""
    shares = []
    for seed in range(12):
        maps = pyramid(seed, DOUBLE, offset=seed)
        mix = torch.randn((9, 6), dtype=DOUBLE,
                          generator=torch.Generator().manual_seed(seed))
        both = {'a': {}, 'b': {}}
        for stride, level in maps['a'].items():
            level = level.to(dtype)
            # Channels that are copied and added exactly, whatever the dtype.
            both['a'][stride] = level
            both['b'][stride] = (torch.cat([level, 2 * level[:, :3]], 1)
                                 if dtype is SINGLE else
                                 torch.einsum('oc,nchw->nohw', mix, level))
        costs = adaptation_costs(measured(both))
        for stride in (8, 16):  # well conditioned: the floor, or near it
            limit = costs.resolution[costs.at(stride, 'a', 'b')]
            assert (1 - 1e-12) * resolution <= \
                limit / costs.variance[costs.at(stride, 'b')] < 20 * resolution
        assert costs.below_resolution('a', 'b') == (8, 16)
        assert costs.mse[:, 0, 1].min() >= 0
        errors = costs.folds.errors[:, 0, 1].sum(1)  # from a to b
        shares += list(errors / costs.positions / costs.variance[:, 1])
    assert -resolution < min(shares) < 0


def test_only_errors_within_rounding_are_below_resolution():
    maps = pyramid(dtype=DOUBLE)
    generator = torch.Generator().manual_seed(0)
    for share, below in ((1e-4, ()), (1e-9, (8, 16))):
        b = {s: level + math.sqrt(share) * level.std((0, 2, 3), keepdim=True)
             * torch.randn(level.shape, generator=generator, dtype=DOUBLE)
             for s, level in maps['a'].items()}
        costs = adaptation_costs(measured(
            {name: {s: level.float() for s, level in levels.items()}
             for name, levels in dict(a=maps['a'], b=b).items()}))
        assert costs.below_resolution('a', 'b') == below
        if not below:
            assert costs.normalised_cost('a', 'b') == pytest.approx(
                share, rel=.1)
        few = costs.restricted(strides=[8])
        assert few.resolution[few.at(8, 'a', 'b')] == (
            costs.resolution[costs.at(8, 'a', 'b')])


@pytest.mark.parametrize('seed', range(5))
def test_an_ill_conditioned_source_has_a_coarser_resolution(seed):
    """Channels whose spectrum falls to a thousandth of the amplitude; the
    true error is 0, and what comes out lies within what is said."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randn((IMAGES, 32, 12, 12), generator=generator,
                        dtype=DOUBLE)
    turn = torch.linalg.qr(torch.randn((32, 32), generator=generator,
                                       dtype=DOUBLE)).Q
    spread = torch.logspace(0, -3, 32, dtype=DOUBLE)[:, None, None]
    source = torch.einsum('oc,nchw->nohw', turn, whole * spread).float()
    target = torch.einsum('oc,nchw->nohw', torch.linalg.inv(turn),
                          source.double()) / spread
    costs = adaptation_costs(measured(dict(
        s={8: source}, t={8: target.float()})))
    pair = costs.at(8, 's', 't')
    error = sum(costs.folds.errors[pair]) / costs.positions[0]
    limit = costs.resolution[pair]
    assert abs(error) <= limit
    assert limit > 1e-6 * costs.variance[costs.at(8, 't')]
    assert costs.below_resolution('s', 't') == (8,)


def test_costs_have_a_direction():
    world = torch.randn((IMAGES, 5, 9, 12), dtype=DOUBLE,
                        generator=torch.Generator().manual_seed(1))
    few, many = {8: world[:, :2]}, {8: world}
    costs = adaptation_costs(measured(dict(few=few, many=many)))
    assert costs.cost('many', 'few') < 1e-20
    # Two of five independent channels are there, three are not.
    assert costs.normalised_cost('few', 'many') == pytest.approx(.6, rel=.02)
    assert costs.cost('few', 'many') == pytest.approx(
        cross_fitted(few[8], many[8]), rel=1e-9)


@pytest.mark.parametrize('scale', [1e-4, 30.])
def test_a_louder_target_costs_its_scale_squared(scale):
    maps = pyramid(dtype=DOUBLE)
    costs = adaptation_costs(measured(maps))
    maps['b'] = {s: scale * level for s, level in maps['b'].items()}
    scaled = adaptation_costs(measured(maps))
    for other in 'ac':
        assert scaled.cost(other, 'b') == pytest.approx(
            scale**2 * costs.cost(other, 'b'), rel=1e-9)
        assert scaled.normalised_cost(other, 'b') == pytest.approx(
            costs.normalised_cost(other, 'b'), rel=1e-9)
        assert scaled.cost('b', other) == pytest.approx(
            costs.cost('b', other), rel=1e-9)


# Mixed, channels of 1 and 100 need digits that float32 products do not keep.
@pytest.mark.parametrize('dtype, tolerance', [(SINGLE, 2e-3), (DOUBLE, 1e-9)])
def test_mixing_a_sources_channels_changes_nothing(dtype, tolerance):
    maps = pyramid(dtype=DOUBLE)
    mixed = dict(maps, a={})
    for stride, level in maps['a'].items():
        mix = torch.randn((6, 6), dtype=DOUBLE,
                          generator=torch.Generator().manual_seed(stride))
        mixed['a'][stride] = torch.einsum('oc,nchw->nohw', mix, level) - 4
    before, after = (adaptation_costs(measured(
        {name: {s: level.to(dtype) for s, level in levels.items()}
         for name, levels in each.items()})) for each in (maps, mixed))
    for target in 'bc':
        assert after.cost('a', target) == pytest.approx(
            before.cost('a', target), rel=tolerance)


@pytest.mark.parametrize('dtype, tolerance', [(SINGLE, 1e-5), (DOUBLE, 1e-11)])
@pytest.mark.filterwarnings('ignore:At stride 16')
def test_dependent_channels_of_a_source_change_nothing(dtype, tolerance):
    maps = pyramid(dtype=dtype, offset=1.)
    before = adaptation_costs(measured(maps))
    maps['a'] = {stride: torch.cat([
        level, level[:, :4], 2 * level[:, 1:3],
        torch.full_like(level[:, :1], 3.7), torch.zeros_like(level[:, :2])], 1)
        for stride, level in maps['a'].items()}
    after = adaptation_costs(measured(maps))
    for target in 'bc':
        assert after.cost('a', target) == pytest.approx(
            before.cost('a', target), rel=tolerance)


@pytest.mark.parametrize('dtype, tolerance', [(SINGLE, 1e-3), (DOUBLE, 1e-9)])
@pytest.mark.filterwarnings('ignore:At stride')
def test_more_channels_than_positions(dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    source = torch.randn((6, 256, 4, 6), generator=generator).to(dtype)
    target = torch.randn((6, 3, 4, 6), generator=generator).to(dtype)
    folds = [0, 0, 1, 1, 2, 2]
    moments = measured(dict(s={8: source}, t={8: target}), folds)
    # The smallest weight in scaled channels that fits the positions exactly.
    expected = positions = 0
    for held_out in range(3):
        fitting, scored = ([i for i in range(6)
                            if (folds[i] != held_out) == wanted]
                           for wanted in (True, False))
        x, y = rows(source, fitting), rows(target, fitting)
        scale = x.std(0, correction=0)
        weights = torch.linalg.lstsq(
            (x - x.mean(0)) / scale, y - y.mean(0), driver='gelsd').solution
        weight, bias = fit_linear_map(
            moments, 8, 's', 't', {0, 1, 2} - {held_out})
        torch.testing.assert_close(weight, (weights / scale[:, None]).T,
                                   rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(x @ weight.T + bias, y, rtol=1e-4,
                                   atol=1e-4)
        expected += (rows(target, scored) - y.mean(0)
                     - (rows(source, scored) - x.mean(0)) / scale @ weights
                     ).square().sum().item()
        positions += 48
    assert adaptation_costs(moments).cost('s', 't') == pytest.approx(
        expected / positions / 3, rel=tolerance)


@pytest.mark.parametrize('dtype, tolerance', [(SINGLE, 2e-2), (DOUBLE, 1e-9)])
def test_a_badly_conditioned_source(dtype, tolerance):
    """Directions down to a millionth of the variance, all of them needed."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn((IMAGES, 24, 12, 12), generator=generator,
                        dtype=DOUBLE)
    turn = torch.linalg.qr(torch.randn((24, 24), generator=generator,
                                       dtype=DOUBLE)).Q
    spread = torch.logspace(0, -3, 24, dtype=DOUBLE)[:, None, None]
    source = torch.einsum('oc,nchw->nohw', turn, whole * spread).to(dtype)
    target = torch.einsum(
        'oc,nchw->nohw', torch.randn((8, 24), generator=generator,
                                     dtype=DOUBLE), whole)
    target = (target + .5 * torch.randn(target.shape, generator=generator,
                                        dtype=DOUBLE)).to(dtype)
    assert adaptation_cost({8: source}, {8: target}) == pytest.approx(
        cross_fitted(source, target, [i % 10 for i in range(IMAGES)]),
        rel=tolerance)


def test_half_precision_surroundings_are_ignored():
    maps = pyramid()
    plain = adaptation_costs(measured(maps))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert adaptation_costs(measured(maps)) == plain
    half, same = ({name: {s: level.bfloat16().to(dtype)
                          for s, level in levels.items()}
                   for name, levels in maps.items()}
                  for dtype in (torch.bfloat16, SINGLE))
    assert adaptation_costs(measured(half)) == adaptation_costs(measured(same))


def test_cost_of_two_pyramids():
    maps = pyramid()
    expected = np.mean([cross_fitted(maps['a'][stride], maps['b'][stride],
                                     [i % 4 for i in range(IMAGES)])
                        for stride in CHANNELS])
    assert adaptation_cost(maps['a'], maps['b'], folds=4) == pytest.approx(
        expected, rel=1e-4)
    # Strides that only one has are left out.
    maps['a'][32] = torch.zeros(1)
    del maps['b'][16]
    assert adaptation_cost(maps['a'], maps['b'], folds=4) == pytest.approx(
        cross_fitted(maps['a'][8], maps['b'][8],
                     [i % 4 for i in range(IMAGES)]), rel=1e-4)


@pytest.mark.parametrize('spoil, message', [
    (lambda a, b: b.clear(), r'\(8, 16\) and \(\)'),
    (lambda a, b: b.update({8: b[8][:20]}), 'target at stride 8.*20'),
    (lambda a, b: b.update({8: b[8] / 0}), 'target at stride 8.*not finite'),
    (lambda a, b: [levels.update({s: level[:1] for s, level in
                                  levels.items()}) for levels in (a, b)],
     'two folds with positions.* 1 of 10'),
])
def test_pyramids_that_do_not_pair(spoil, message):
    maps = pyramid()
    spoil(maps['a'], maps['b'])
    with pytest.raises(ValueError, match=message):
        adaptation_cost(maps['a'], maps['b'])


def test_a_cost_needs_two_folds_and_two_detectors():
    maps = pyramid()
    with pytest.raises(ValueError, match='stride 8 there are 1 of 5'):
        adaptation_costs(measured(maps, [3] * IMAGES))
    with pytest.raises(ValueError, match='No image .* at stride 8'):
        adaptation_costs(FeatureMoments(CHANNELS, folds=5))
    with pytest.raises(ValueError, match='two detectors at least'):
        adaptation_costs(measured(dict(a=maps['a'])))


def test_few_positions_give_a_warning():
    # Stride 8: 432 positions to fit 10 coefficients; stride 16: 120 - 60.
    with pytest.warns(UserWarning) as warned:
        adaptation_costs(measured(pyramid(images=4), [0, 0, 1, 2]))
    assert [str(warning.message) for warning in warned] == [
        'At stride 16 a map of 8 channels is fitted on 60 positions, fewer '
        'than 10 x (8 + 1) = 90: its cost depends partly on the choice of '
        'these images. Add more images.']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        adaptation_costs(measured(pyramid()))


@pytest.mark.parametrize('dtype', [SINGLE, DOUBLE])
def test_a_constant_target_has_no_normalised_cost(dtype):
    maps = pyramid(dtype=dtype)
    maps['b'][16] = torch.full_like(maps['b'][16], 3.7)
    costs = adaptation_costs(measured(maps))
    assert costs.variance[costs.at(16, 'b')] == 0
    assert costs.mse[costs.at(16, 'a', 'b')] < 1e-12
    for ask in (lambda: costs.normalised_cost('a', 'b'),
                lambda: costs.matrix(normalised=True)):
        with pytest.raises(ValueError, match=r'b is constant at stride .16.'):
            ask()
    assert costs.cost('a', 'b') == pytest.approx(
        costs.mse[costs.at(8, 'a', 'b')] / 2, rel=1e-9)
    assert np.isfinite(costs.normalised_cost('b', 'a'))
    # A constant source predicts the mean.
    assert costs.mse[costs.at(16, 'b', 'a')] == pytest.approx(
        costs.variance[costs.at(16, 'a')], rel=.02)


def test_sums_that_no_maps_can_have_are_refused():
    state = measured(pyramid()).state_dict()
    for outer in state['outer'][8].values():
        outer[10:15, 10:15] *= .1
    with pytest.raises(ValueError, match='-> b at stride 8 is -.*not explain'):
        adaptation_costs(FeatureMoments.from_state_dict(state))


def test_json_gives_the_same_back():
    costs = adaptation_costs(measured(pyramid()))
    text = json.dumps(costs.to_json())
    again = AdaptationCosts.from_json(json.loads(text))
    assert again == costs
    assert json.dumps(again.to_json()) == text
    with pytest.raises(ValueError, match="lacks .*'variance'"):
        AdaptationCosts.from_json(dict(names=[], strides=[], mse={},
                                       positions={}))


def without_a_coarse_fold():
    """Every fold of another size; fold 3 has no position at stride 16."""
    valid = {stride: torch.rand((IMAGES, *grid), generator=torch.Generator()
                                .manual_seed(stride)) < .8
             for stride, grid in GRIDS.items()}
    valid[16][[i for i in range(IMAGES) if FOLDS[i] == 3]] = False
    return valid


@pytest.mark.parametrize('dtype, tolerance', [(SINGLE, 1e-4), (DOUBLE, 1e-9)])
@pytest.mark.parametrize('valid', [None, without_a_coarse_fold()])
def test_folds_are_those_of_lstsq_on_the_maps(dtype, tolerance, valid):
    maps = pyramid(dtype=dtype, offset=5.)
    costs = adaptation_costs(measured(maps, valid=valid))
    for stride in CHANNELS:
        for source, target in permutations('abc', 2):
            expected = held_out_sums(
                maps[source][stride], maps[target][stride],
                keep=valid and valid[stride])
            pair = costs.at(stride, source, target)
            errors = costs.folds.errors[pair]
            positions = costs.folds.positions[costs.at(stride, target)]
            # Fold 4 has no image; it keeps its place.
            assert len(errors) == len(positions) == 5
            assert errors == pytest.approx(
                [expected.get(fold, (0, 0))[0] for fold in range(5)],
                rel=tolerance)
            assert positions.tolist() == [
                expected.get(fold, (0, 0))[1] for fold in range(5)]
            assert sum(positions) == costs.positions[costs.at(stride)]
            assert costs.mse[pair] == pytest.approx(
                sum(errors) / sum(positions), rel=1e-14)
    fine, coarse = costs.folds.positions[:, 0]  # of a
    assert len(set(fine)) == 5 and (coarse[3] == 0) == bool(valid)


@pytest.mark.parametrize('valid, folds', [(None, 4),
                                          (without_a_coarse_fold(), 3)])
def test_the_error_of_a_difference_is_the_jackknifes(valid, folds):
    maps = pyramid(dtype=DOUBLE)
    costs = adaptation_costs(measured(maps, valid=valid))
    for a, b, target in permutations('abc'):
        levels = [[held_out_sums(maps[source][stride], maps[target][stride],
                                 keep=valid and valid[stride])
                   for source in (a, b)] for stride in CHANNELS]

        def difference(left_out):
            means = [[[sum(sums[fold][part] for fold in sums
                           if fold != left_out) for part in (0, 1)]
                      for sums in level] for level in levels]
            return np.mean([first[0] / first[1] - other[0] / other[1]
                            for first, other in means])

        replicates = [difference(fold) for fold in range(4)]
        found = costs.difference(a, b, target)
        assert found.value == pytest.approx(difference(None), rel=1e-9)
        assert found.value == costs.cost(a, target) - costs.cost(b, target)
        assert found.error == pytest.approx(
            math.sqrt(3 / 4 * 4 * np.var(replicates)), rel=1e-9)
        assert found.groups == folds
        assert found.margin == pytest.approx(abs(found.value) / found.error)
        back = costs.difference(b, a, target)
        assert (back.value, back.error) == (-found.value, found.error)


def test_one_level_of_equal_folds_has_the_standard_error_of_a_mean():
    maps = {name: {8: levels[8]}
            for name, levels in pyramid(images=20).items()}
    costs = adaptation_costs(measured(maps, [i % 5 for i in range(20)]))
    folds = (np.subtract(costs.folds.errors[costs.at(8, 'a', 'c')],
                         costs.folds.errors[costs.at(8, 'b', 'c')])
             / costs.folds.positions[costs.at(8, 'c')])
    assert costs.difference('a', 'b', 'c').error == pytest.approx(
        stats.sem(folds), rel=1e-12)


def test_each_target_keeps_the_folds_of_its_own_grid():
    maps = pyramid(dtype=DOUBLE)
    halved = {name: {s: level[..., ::2, ::2] for s, level in levels.items()}
              for name, levels in maps.items()}
    moments = dict(whole=measured(maps), half=measured(halved))
    whole, half = map(adaptation_costs, moments.values())
    costs = costs_on_own_grids(dict(whole=whole, half=half),
                               dict(a='whole', b='half', c='whole'))
    for target, own in (('a', whole), ('b', half), ('c', whole)):
        first, other = sorted(set('abc') - {target})
        assert (costs.difference(first, other, target)
                == own.difference(first, other, target))
        np.testing.assert_array_equal(
            costs.folds.positions[:, costs.names.index(target)],
            own.folds.positions[:, own.names.index(target)])
    assert whole.difference('a', 'c', 'b') != half.difference('a', 'c', 'b')
    assert AdaptationCosts.from_json(
        json.loads(json.dumps(costs.to_json()))) == costs


def test_costs_from_files_without_folds():
    costs = adaptation_costs(measured(pyramid()))
    content = json.loads(json.dumps(costs.to_json()))
    del content['folds'], content['resolution']
    old = AdaptationCosts.from_json(content)
    assert old.below_resolution('a', 'b') == ()
    np.testing.assert_array_equal(old.mse, costs.mse)
    assert 'folds' not in old.to_json()
    difference = old.difference('a', 'b', 'c')
    assert difference.value == costs.difference('a', 'b', 'c').value
    assert math.isnan(difference.error)
    assert (difference.margin, difference.required_margin(),
            difference.is_certain()) == (None, None, None)
    content['folds'] = dict(errors={})
    with pytest.raises(ValueError, match="folds lack .'positions'"):
        AdaptationCosts.from_json(content)


def test_unknown_pairs_are_refused():
    costs = adaptation_costs(measured(pyramid()))
    for trio in (('a', 'b', 'b'), ('a', 'z', 'b'), ('z', 'a', 'b')):
        with pytest.raises(ValueError, match='No cost'):
            costs.difference(*trio)
    for pair in (('a', 'a'), ('a', 'z')):
        with pytest.raises(ValueError, match=f'{pair[0]!r} -> {pair[1]!r}'):
            costs.cost(*pair)
        with pytest.raises(ValueError, match=f'{pair[0]!r} -> {pair[1]!r}'):
            costs.normalised_cost(*pair)
    with pytest.raises(ValueError, match="into 'z'"):
        costs.into('z')


def test_restricted_costs_are_those_of_a_smaller_pool():
    torch.manual_seed(0)
    maps = {name: {8: torch.randn(20, c, 4, 4), 16: torch.randn(20, c, 2, 2)}
            for name, c in (('a', 2), ('b', 3), ('c', 2))}

    def costs_of(names, strides):
        moments = FeatureMoments({s: {n: maps[n][s].shape[1] for n in names}
                                  for s in strides}, 10)
        moments.add({n: maps[n] for n in names},
                    [i % 10 for i in range(20)])
        return adaptation_costs(moments)

    whole = costs_of(('a', 'b', 'c'), (8, 16))
    for names, strides in ((('c', 'a'), (8, 16)), (('a', 'b', 'c'), (16,)),
                           (('b', 'c'), (8,))):
        some = whole.restricted(names, strides)
        alone = costs_of(names, strides)
        assert some.names == names and some.strides == strides
        assert some.pairs == alone.pairs
        for source, target in some.pairs:
            assert some.cost(source, target) == pytest.approx(
                alone.cost(source, target), rel=1e-6)
        np.testing.assert_array_equal(some.positions, alone.positions)
        first, second = names[:2]
        if len(names) > 2:
            assert some.difference(first, second, names[2]).error \
                == pytest.approx(alone.difference(first, second,
                                                  names[2]).error, rel=1e-4)
        assert AdaptationCosts.from_json(some.to_json()) == some
    for wrong in (dict(names=['d']), dict(strides=[4]), dict(names=[])):
        with pytest.raises(ValueError, match='asked for'):
            whole.restricted(**wrong)
