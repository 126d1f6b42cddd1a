import copy
import io

import numpy as np
import pytest
import torch

from mtpd.order import FeatureMoments, fold_of

CHANNELS = {8: dict(a=5, b=3, c=4), 16: dict(a=2, b=6, c=3)}
GRIDS = {8: (6, 9), 16: (3, 5)}
IMAGES = 7
FOLDS = [0, 2, 1, 2, 0, 2, 1]  # of 4: the last one stays empty


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads waiting for each other cost seconds on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pyramid(seed=0, dtype=torch.float32, offset=0., channels=CHANNELS,
            grids=GRIDS, images=IMAGES):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: {
            stride: (torch.randn((images, count, *grids[stride]),
                                 generator=generator, dtype=torch.float64)
                     * (1 + torch.arange(count)[:, None, None])
                     + offset).to(dtype)
            for stride, of in channels.items() for count in [of[name]]}
        for name in next(iter(channels.values()))}


def masks(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {stride: torch.rand((IMAGES, *grid), generator=generator) < .7
            for stride, grid in GRIDS.items()}


def gathered(maps, stride, folds, names, valid=None, of_images=FOLDS):
    """(P, C) float64: the valid positions of these folds, one by one."""
    rows = []
    for image, fold in enumerate(of_images):
        if fold not in folds:
            continue
        height, width = maps[names[0]][stride].shape[2:]
        for y in range(height):
            for x in range(width):
                if valid is None or valid[stride][image, y, x]:
                    rows.append(np.concatenate([
                        maps[name][stride][image, :, y, x].double().numpy()
                        for name in names]))
    return np.array(rows)


def sums_about(positions, point):
    shifted = positions - point
    return len(positions), shifted.sum(0), shifted.T @ shifted


def assert_sums(moments, positions, tolerance):
    """Against the direct sums, as parts of the channels' root mean squares."""
    count, total, outer = sums_about(positions, moments.shift.numpy())
    assert moments.count == count
    size = np.sqrt(np.diag(outer))
    np.testing.assert_allclose(moments.total.numpy() / size, total / size,
                               rtol=0, atol=tolerance * np.sqrt(count))
    np.testing.assert_allclose(
        moments.outer.numpy() / np.outer(size, size),
        outer / np.outer(size, size), rtol=0, atol=tolerance)


def assert_same_sums(ours, theirs, tolerance):
    theirs = theirs.about(ours.shift)
    assert ours.count == theirs.count
    for mine, other in ((ours.total, theirs.total),
                        (ours.outer, theirs.outer)):
        torch.testing.assert_close(mine, other, rtol=tolerance,
                                   atol=tolerance * ours.count)


def assert_same_state(one, other):
    """To the last bit."""
    for sums in ('shift', 'total', 'outer'):
        torch.testing.assert_close(one[sums], other[sums], rtol=0, atol=0)
    rest = one.keys() - {'shift', 'total', 'outer'}
    assert other.keys() == one.keys()
    assert {k: one[k] for k in rest} == {k: other[k] for k in rest}


def added(maps, valid=None, channels=CHANNELS, images=range(IMAGES)):
    moments = FeatureMoments(channels, folds=4)
    if valid is not None:
        valid = {stride: mask[list(images)]
                 for stride, mask in valid.items()}
    moments.add(part(maps, images), [FOLDS[i] for i in images], valid)
    return moments


def part(maps, images):
    return {name: {stride: level[list(images)]
                   for stride, level in levels.items()}
            for name, levels in maps.items()}


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-6),
                                              (torch.float64, 1e-14)])
def test_sums_equal_those_of_the_gathered_positions(dtype, tolerance, masked):
    maps, valid = pyramid(dtype=dtype, offset=2.), masks() if masked else None
    moments = added(maps, valid)
    for stride in CHANNELS:
        assert moments.filled_folds(stride) == (0, 1, 2)
        assert moments.in_float32(stride) == (dtype == torch.float32)
        for folds in ([0], [1], [2], [0, 2], [3, 1], [0, 1, 2, 3]):
            for names in (['a', 'b', 'c'], ['c', 'a'], ['b']):
                positions = gathered(maps, stride, folds, names, valid)
                assert_sums(moments.over(stride, folds, names), positions,
                            tolerance)
        assert moments.count(stride, 3) == 0
        assert moments.count(stride, 2) == len(
            gathered(maps, stride, [2], ['a'], valid))


def test_outer_is_symmetric_to_the_last_bit():
    outer = added(pyramid()).over(8, range(4)).outer
    assert torch.equal(outer, outer.T)


def test_an_image_of_many_blocks():
    channels, grids = {4: dict(a=3, b=2)}, {4: (97, 101)}  # 9797 > 2 x 4096
    maps = pyramid(channels=channels, grids=grids, images=2)
    moments = FeatureMoments(channels, folds=2)
    moments.add(maps, [0, 1])
    positions = torch.cat([maps['a'][4], maps['b'][4]], 1)[1].flatten(1).T
    assert_sums(moments.over(4, [1]), positions.double().numpy(), 1e-6)


def test_about_moves_the_shift_and_nothing_else():
    maps = pyramid(dtype=torch.float64)
    moments = added(maps).over(8, [0, 1])
    point = torch.linspace(-3, 5, 12, dtype=torch.float64)
    moved = moments.about(point)
    count, total, outer = sums_about(
        gathered(maps, 8, [0, 1], ['a', 'b', 'c']), point.numpy())
    np.testing.assert_allclose(moved.total, total, rtol=1e-12)
    np.testing.assert_allclose(moved.outer, outer, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(
        moments.about(moments.mean).total, 0, atol=1e-11)
    torch.testing.assert_close(moved.mean, moments.mean, rtol=1e-13,
                               atol=1e-13)


@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-6),
                                              (torch.float64, 1e-10)])
def test_order_and_batches_do_not_matter(dtype, tolerance):
    maps, valid = pyramid(dtype=dtype, offset=1.), masks()
    at_once = added(maps, valid)
    one_by_one = FeatureMoments(CHANNELS, folds=4)
    for i in (4, 1, 6, 0, 5, 3, 2):
        one_by_one.add(part(maps, [i]), [FOLDS[i]],
                       {stride: mask[[i]] for stride, mask in valid.items()})
    for stride in CHANNELS:
        for fold in range(3):
            assert_same_sums(at_once.over(stride, [fold]),
                             one_by_one.over(stride, [fold]), tolerance)


@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-6),
                                              (torch.float64, 1e-10)])
def test_merged_equals_all_at_once(dtype, tolerance):
    maps = pyramid(dtype=dtype, offset=3.)
    merged = FeatureMoments(CHANNELS, folds=4)
    for images in ([0, 5], [1, 2, 6], [3, 4]):
        other = added(maps, images=images)
        before = copy.deepcopy(other.state_dict())
        merged.merge(other)
        assert_same_state(other.state_dict(), before)
    merged.merge(FeatureMoments(CHANNELS, folds=4))  # nothing
    at_once = added(maps)
    for stride in CHANNELS:
        assert merged.filled_folds(stride) == (0, 1, 2)
        assert merged.in_float32(stride) == (dtype == torch.float32)
        for fold in range(3):
            assert_same_sums(at_once.over(stride, [fold]),
                             merged.over(stride, [fold]), tolerance)


def test_merged_moments_share_no_memory():
    maps = pyramid()
    other, merged = added(maps), FeatureMoments(CHANNELS, folds=4)
    merged.merge(other)
    merged.merge(other)
    assert_same_sums(other.over(8, [0]), added(maps).over(8, [0]), 0)
    assert merged.count(8, 0) == 2 * other.count(8, 0)


@pytest.mark.parametrize('channels, folds', [
    (CHANNELS, 5), ({8: CHANNELS[8]}, 4),
    ({s: dict(b=of['b'], a=of['a'], c=of['c'])
      for s, of in CHANNELS.items()}, 4)])
def test_only_moments_of_the_same_layout_merge(channels, folds):
    with pytest.raises(ValueError, match='same detectors, channels and folds'):
        FeatureMoments(CHANNELS, folds=4).merge(
            FeatureMoments(channels, folds))


def test_features_far_from_zero_keep_their_digits():
    maps = pyramid(offset=400.)  # 80 to 400 standard deviations
    moments = added(maps)
    positions = gathered(maps, 8, [0, 1, 2], ['a', 'b', 'c'])
    covariance = np.cov(positions.T, bias=True)
    size = np.sqrt(np.diag(covariance))

    def error(found):
        return np.abs((found - covariance) / np.outer(size, size)).max()

    ours = moments.over(8, range(4))
    assert error(ours.about(ours.mean).outer.numpy() / ours.count) < 1e-6
    np.testing.assert_allclose(ours.mean, positions.mean(0), rtol=1e-9)
    unshifted = positions.astype(np.float32)
    plain = (unshifted.T @ unshifted).astype(float) / len(positions)
    plain -= np.outer(positions.mean(0), positions.mean(0))
    assert error(plain) > 1e-3  # what the shift is for


def test_surrounding_precision_is_ignored():
    channels = {8: dict(a=64, b=64)}
    # Large enough for a CPU with bfloat16 products to take them.
    maps = pyramid(channels=channels, grids={8: (32, 64)})
    plain = FeatureMoments(channels, folds=4)
    plain.add(maps, FOLDS)
    low = FeatureMoments(channels, folds=4)
    torch.set_float32_matmul_precision('medium')
    try:
        with torch.autocast('cpu', dtype=torch.bfloat16):
            low.add(maps, FOLDS)
            assert torch.is_autocast_enabled('cpu')
        assert torch.get_float32_matmul_precision() == 'medium'
    finally:
        torch.set_float32_matmul_precision('highest')
    for fold in range(3):
        assert torch.equal(plain.over(8, [fold]).outer,
                           low.over(8, [fold]).outer)


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, 'fp32_precision'),
    reason='torch before 2.9 has one way to set precision')
def test_precision_set_per_backend_is_restored():
    matmuls = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [matmul.fp32_precision for matmul in matmuls]
    try:
        for matmul in matmuls:
            matmul.fp32_precision = 'tf32'
        added(pyramid())
        assert [m.fp32_precision for m in matmuls] == ['tf32', 'tf32']
    finally:
        torch.set_float32_matmul_precision('highest')
        for matmul, precision in zip(matmuls, before, strict=True):
            matmul.fp32_precision = precision


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_maps_count_as_the_values_that_they_hold(dtype):
    half = pyramid(dtype=dtype, offset=1.)
    single = {name: {s: level.float() for s, level in levels.items()}
              for name, levels in half.items()}
    assert torch.equal(added(half).over(8, [2]).outer,
                       added(single).over(8, [2]).outer)


def test_one_float64_detector_makes_float64_products():
    maps = pyramid()
    maps['b'] = {s: level.double() for s, level in maps['b'].items()}
    moments = added(maps)
    assert not moments.in_float32(8)
    assert_sums(moments.over(8, [2]),
                gathered(maps, 8, [2], ['a', 'b', 'c']), 1e-14)


def test_sums_of_maps_with_gradients_have_none():
    maps = pyramid()
    maps['a'][8].requires_grad_()
    assert not added(maps).over(8, [0]).outer.requires_grad


def test_state_survives_a_file_exactly():
    maps, valid = pyramid(), masks()
    moments = added(maps, valid, images=[0, 1, 2])
    file = io.BytesIO()
    torch.save(moments.state_dict(), file)
    file.seek(0)
    loaded = FeatureMoments.from_state_dict(
        torch.load(file, weights_only=True))
    assert (loaded.names, loaded.strides, loaded.folds) == (
        moments.names, moments.strides, 4)
    state = moments.state_dict()
    rest = (part(maps, [3, 4, 5, 6]), FOLDS[3:])
    for sums in (moments, loaded):
        sums.add(*rest)
    assert_same_state(loaded.state_dict(), moments.state_dict())
    # A state is a copy: adding on did not reach it.
    assert state['count'][8][2] < moments.count(8, 2)
    torch.testing.assert_close(
        FeatureMoments.from_state_dict(state).over(8, [0]).outer,
        added(maps, valid, images=[0, 1, 2]).over(8, [0]).outer,
        rtol=0, atol=0)


def test_another_state_is_refused():
    with pytest.raises(ValueError, match='lacks.*outer'):
        FeatureMoments.from_state_dict(dict(channels=CHANNELS, folds=4))


def test_a_value_that_is_not_finite_is_named_and_nothing_is_added():
    maps, moments = pyramid(), FeatureMoments(CHANNELS, folds=4)
    maps['b'][16][2, 3, 1, 4] = torch.inf
    with pytest.raises(ValueError, match='b at stride 16 .*not finite'):
        moments.add(maps, FOLDS)
    assert moments.filled_folds(8) == moments.filled_folds(16) == ()


def test_padding_may_hold_anything():
    maps, valid = pyramid(), masks()
    clean = added(maps, valid)
    for levels in maps.values():
        for stride, level in levels.items():
            level.transpose(0, 1)[:, ~valid[stride]] = torch.nan
    dirty = added(maps, valid)
    for stride in CHANNELS:
        assert torch.equal(clean.over(stride, range(4)).outer,
                           dirty.over(stride, range(4)).outer)


def test_an_image_of_padding_alone_adds_nothing():
    maps = pyramid()
    valid = {stride: torch.zeros((IMAGES, *grid), dtype=torch.bool)
             for stride, grid in GRIDS.items()}
    valid[8][3] = True
    moments = added(maps, valid)
    assert moments.filled_folds(8) == (2,)
    assert moments.filled_folds(16) == ()
    moments.add(maps, FOLDS)  # the shift of stride 16 is that of this batch
    assert_sums(moments.over(16, [1]),
                gathered(maps, 16, [1], ['a', 'b', 'c']), 1e-6)


def test_other_detectors_and_strides_are_left_out():
    maps = pyramid()
    maps['d'] = {8: torch.zeros(IMAGES)}
    maps['a'][32] = torch.zeros(IMAGES)
    assert torch.equal(added(maps).over(8, [0]).outer,
                       added(pyramid()).over(8, [0]).outer)


def _without(maps, name, stride=None):
    if stride is None:
        del maps[name]
    else:
        del maps[name][stride]


@pytest.mark.parametrize('spoil, message', [
    (lambda m, v: _without(m, 'b'), 'No maps of b'),
    (lambda m, v: _without(m, 'c', 16), 'c has no map with stride 16'),
    (lambda m, v: m['b'].update({8: m['b'][8][:, :2]}),
     r'b at stride 8: expected a map of shape \(7, 3, 6, 9\)'),
    (lambda m, v: m['c'].update({16: m['c'][16][..., :4]}),
     r'c at stride 16: expected .*\(7, 3, 3, 5\).*got \(7, 3, 3, 4\)'),
    (lambda m, v: m['a'].update({8: m['a'][8][:6]}), r'got \(6, 5, 6, 9\)'),
    (lambda m, v: m['a'].update({8: m['a'][8][0]}), r'got \(5, 6, 9\)'),
    (lambda m, v: m['a'].update({8: m['a'][8].long()}), 'floating map'),
    (lambda m, v: v.pop(16), 'no mask with stride 16'),
    (lambda m, v: v.update({8: v[8].float()}), 'valid at stride 8.*bool'),
    (lambda m, v: v.update({8: v[8][:, :5]}),
     r'valid at stride 8.*\(7, 6, 9\).*got .*\(7, 5, 9\)'),
])
def test_wrong_batches_are_named(spoil, message):
    maps, valid = pyramid(), masks()
    spoil(maps, valid)
    with pytest.raises(ValueError, match=message):
        FeatureMoments(CHANNELS, folds=4).add(maps, FOLDS, valid)


@pytest.mark.parametrize('folds', [[4] + FOLDS[1:], [-1] + FOLDS[1:]])
def test_a_fold_that_does_not_exist(folds):
    with pytest.raises(ValueError, match='Folds go from 0 to 3'):
        FeatureMoments(CHANNELS, folds=4).add(pyramid(), folds)


@pytest.mark.parametrize('channels, folds, message', [
    ({}, 4, 'at least one stride'),
    ({8: {}}, 4, 'at least one stride'),
    ({8: dict(a=1, b=2), 16: dict(b=2, a=1)}, 4, 'same order'),
    ({8: dict(a=1, b=2), 16: dict(a=1)}, 4, 'same detectors'),
    ({8: dict(a=0)}, 4, 'at least 1 channel'),
    (CHANNELS, 0, 'folds >= 1; got 0'),
])
def test_wrong_layouts_are_refused(channels, folds, message):
    with pytest.raises(ValueError, match=message):
        FeatureMoments(channels, folds)


def test_unknown_folds_strides_and_detectors_are_refused():
    moments = added(pyramid())
    with pytest.raises(ValueError, match='No position of folds .3,.'):
        moments.over(8, [3])
    with pytest.raises(ValueError, match='stride 64'):
        moments.over(64, [0])
    with pytest.raises(ValueError, match="No moments of .'z'."):
        moments.over(8, [0], ['a', 'z'])


def test_a_fold_is_the_same_in_every_process():
    # Computed with sha256sum, not with this code.
    assert [fold_of(name, 10) for name in ('000000000139', '42', '')] == [
        2, 3, 9]
    counts = np.bincount([fold_of(f'{i:012d}', 10) for i in range(5000)])
    assert len(counts) == 10 and abs(counts - 500).max() < 100
    with pytest.raises(ValueError, match='folds >= 1; got 0'):
        fold_of('42', 0)


def test_float64_on_request():
    maps = pyramid(offset=400.)
    double = FeatureMoments(CHANNELS, folds=4, precision='float64')
    double.add(maps, FOLDS)
    assert not double.in_float32(8)
    assert_sums(double.over(8, range(4)),
                gathered(maps, 8, [0, 1, 2], ['a', 'b', 'c']), 1e-13)
    with pytest.raises(ValueError, match="'float32' or 'float64'; got 'half'"):
        FeatureMoments(CHANNELS, precision='half')


def test_the_first_mean_is_the_shift():
    maps, valid = pyramid(offset=3.), masks()
    valid[16][:] = False  # then of all positions
    means = FeatureMoments(CHANNELS).mean_of(maps, valid)
    for stride in CHANNELS:
        x = gathered(maps, stride, [0, 1, 2], 'abc',
                     valid if stride == 8 else None)
        np.testing.assert_allclose(means[stride], x.mean(0), rtol=1e-6)
    assert torch.equal(added(maps, valid).over(8, [0]).shift, means[8])


def test_the_shift_of_the_constructor_is_kept():
    maps = pyramid()
    shift = {s: torch.arange(float(sum(of.values())), dtype=torch.float64)
             for s, of in CHANNELS.items()}
    moments = FeatureMoments(CHANNELS, folds=4, shift=shift)
    moments.add(maps, FOLDS)
    assert torch.equal(moments.over(8, [0]).shift, shift[8])
    # Far from the features, so with fewer digits.
    assert_same_sums(added(maps).over(8, [0]), moments.over(8, [0]), 5e-5)


def test_minus_is_the_sum_of_the_others():
    moments = added(pyramid(dtype=torch.float64, offset=2.))
    rest = moments.over(8, range(4)).minus(moments.over(8, [2]))
    assert_same_sums(rest, moments.over(8, [0, 1]), 1e-13)


def test_processes_add_up():
    """All-reduce of two "processes", the second without an image of its own
    at first: what every one ends with is the sum of both."""
    maps = pyramid(dtype=torch.float64)
    whole = added(maps, images=[0, 4])  # both of fold 0
    shift = FeatureMoments(CHANNELS).mean_of(part(maps, [0, 4]))
    ones = [FeatureMoments(CHANNELS, folds=4, shift=shift) for _ in range(3)]
    for one, image in zip(ones, (0, 4)):
        one.add(part(maps, [image]), [0])
    sent = []  # what each hands to all-reduce, in order
    for one in ones:
        sent.append([])
        copy.deepcopy(one).reduce(0, lambda t, s=sent[-1]: s.append(t.clone()))
    for one in ones:
        totals = iter([sum(ts) for ts in zip(*sent)])
        one.reduce(0, lambda t: t.copy_(next(totals)))
        for stride in CHANNELS:
            assert_same_sums(one.over(stride, [0]), whole.over(stride, [0]),
                             1e-13)
    alone = FeatureMoments(CHANNELS, folds=4, shift=shift)
    alone.reduce(1, lambda t: None)
    assert alone.filled_folds(8) == ()
    with pytest.raises(ValueError, match='one shift'):
        FeatureMoments(CHANNELS).reduce(0, lambda t: None)


@pytest.mark.parametrize('known', [('a',), ('a', 'b')])
def test_a_new_detector_completes_known_moments(known):
    maps, valid = pyramid(), masks()
    whole = added(maps, valid)
    reversed_channels = {s: dict(reversed([(n, of[n]) for n in known]))
                         for s, of in CHANNELS.items()}
    base = added(maps, valid, reversed_channels)
    late = FeatureMoments(CHANNELS, folds=4, known=known)
    late.add(maps, FOLDS, valid)
    with pytest.raises(ValueError, match='see completed'):
        late.over(8, [0])
    with pytest.raises(ValueError, match='known.*are not the first'):
        FeatureMoments(CHANNELS, known=['b'])
    done = late.completed(base)
    for stride in CHANNELS:
        for fold in range(3):
            assert_same_sums(whole.over(stride, [fold]),
                             done.over(stride, [fold]), 1e-5)
    with pytest.raises(ValueError, match='positions fold by fold'):
        late.completed(added(maps, None, reversed_channels))


def test_parts_of_different_folds_are_one():
    maps = pyramid()
    whole = added(maps)
    shift = {s: whole.over(s, [0]).shift for s in CHANNELS}
    parts = []
    for fold in range(3):
        images = [i for i, f in enumerate(FOLDS) if f == fold]
        parts.append(FeatureMoments(CHANNELS, folds=4, shift=shift))
        parts[-1].add(part(maps, images), [fold] * len(images))
    joined = FeatureMoments.of_parts(parts)
    assert_same_state(joined.state_dict(), whole.state_dict())
    with pytest.raises(ValueError, match='Fold 2 is in two parts'):
        FeatureMoments.of_parts([*parts, parts[2]])
    with pytest.raises(ValueError, match='same shift'):
        FeatureMoments.of_parts([parts[0], added(maps, images=[2, 6])])
    with pytest.raises(ValueError, match='at least one part'):
        FeatureMoments.of_parts([])


def test_maps_whose_squares_overflow_are_named():
    maps = pyramid()
    maps['b'][16] *= 1e25
    with pytest.raises(ValueError, match='b at stride 16: maps so large'):
        FeatureMoments(CHANNELS, folds=4).add(maps, FOLDS)
    FeatureMoments(CHANNELS, folds=4, precision='float64').add(maps, FOLDS)


def test_narrowed_is_what_fewer_detectors_would_have_given():
    maps, valid = pyramid(), masks()
    valid[16][:] = False
    whole = added(maps, valid)
    few = whole.narrowed(['c', 'a'], [8, 16])
    assert few.names == ('c', 'a') and few.filled_folds(16) == ()
    for stride in CHANNELS:
        assert torch.equal(few.shift[stride], torch.cat([
            whole.shift[stride][whole.layout.spans[stride][name]]
            for name in 'ca']))
    for fold in range(3):
        one, other = few.over(8, [fold]), whole.over(8, [fold], ['c', 'a'])
        assert torch.equal(one.outer, other.outer)
    more = pyramid(seed=5)  # at the level that had nothing, too
    few.add(more, FOLDS)
    assert few.count(16, 0) == 2 * 15
