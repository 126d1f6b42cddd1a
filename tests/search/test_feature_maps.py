"""All detectors' maps side by side: padding, grids, masks, one at a time."""
import copy
import os
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from mtpd.plan.pool import build_pool
from mtpd.progression import make_plan
from mtpd.search import feature_maps as module
from mtpd.search.feature_maps import FeatureMaps
from mtpd.search.images import Images

STRIDES = (8, 16, 32)


@pytest.fixture(scope='module')
def pool(toy_in, tmp_path_factory):
    cfg = toy_in(tmp_path_factory.mktemp('pool'))
    cfg.val_dataloader.batch_size = 3
    return cfg, build_pool(make_plan(cfg))


def looks(feature_maps, batches):
    return list(feature_maps(batches))


def test_maps_are_those_of_each_detectors_own_preprocessing(pool):
    cfg, detectors = pool
    images = Images(cfg)
    feature_maps = FeatureMaps(detectors, images, STRIDES)
    assert feature_maps.divisor == 32 and feature_maps.grids == (1,)
    assert feature_maps.channels[8] == dict(student=16, wide=24, swin=24)
    (indices, batch), = looks(feature_maps, [[3, 5]])
    assert indices == [3, 5]
    maps, folds, valid = batch[Fraction(1)]
    assert folds == [images.fold(i) for i in indices]
    raw = [next(images.load([[i]]))[1]['1'][0] for i in indices]
    for name, detector in detectors.items():
        with torch.no_grad():
            own = detector.extract_feat(detector.data_preprocessor(
                {'inputs': raw, 'data_samples': None})['inputs'])
        at = {96 // level.shape[-1]: level for level in own}
        for s in STRIDES:
            torch.testing.assert_close(maps[name][s], at[s])
            assert valid[s].all()  # 96x64: whole cells at these strides


def test_padding_is_marked(pool, monkeypatch):
    cfg, detectors = pool
    cfg = copy.deepcopy(cfg)
    cfg.val_dataloader.dataset.pipeline[1].update(scale=(75, 50))
    feature_maps = FeatureMaps(detectors, Images(cfg), STRIDES)
    (_, batch), = looks(feature_maps, [[0]])
    maps, _, valid = batch[Fraction(1)]
    assert maps['student'][8].shape[-2:] == (8, 12)
    for s in STRIDES:
        # Cells whose centre lies in 75 x 50 pixels.
        rows, columns = ([(i + .5) * s < side for i in range(n)]
                         for side, n in zip((50, 75), valid[s].shape[1:]))
        assert torch.equal(valid[s][0], torch.tensor(rows)[:, None]
                           & torch.tensor(columns))
    assert valid[8].sum() == 6 * 9


def test_a_share_of_the_fine_positions(pool, monkeypatch):
    cfg, detectors = pool
    monkeypatch.setattr(module, 'FINE', 8)
    images = Images(cfg)
    (_, batch), = looks(FeatureMaps(detectors, images, STRIDES, share=.25),
                        [[1, 2]])
    valid = batch[Fraction(1)].valid
    assert valid[16].all() and valid[32].all()
    assert torch.equal(valid[8], torch.stack([images.drawn_share(
        i, 8, (8, 12), .25) for i in (1, 2)]))


def test_maps_of_two_scales_meet_on_both_grids(pool):
    cfg, detectors = pool
    images = Images(cfg, scales=[Fraction(2)])
    scales = {'swin': Fraction(2)}
    feature_maps = FeatureMaps(detectors, images, (8, 16), scales)
    (_, batch), = looks(feature_maps, [[0]])
    one, two = batch[Fraction(1)].maps, batch[Fraction(2)].maps
    assert {n: m[8].shape[-2:] for n, m in two.items()} == dict.fromkeys(
        detectors, (16, 24))
    torch.testing.assert_close(one['swin'][8], F.interpolate(
        two['swin'][8], size=(8, 12), mode='area'))
    torch.testing.assert_close(two['wide'][8], F.interpolate(
        one['wide'][8], size=(16, 24), mode='bilinear'))
    only = FeatureMaps(detectors, images, (8, 16), scales, [Fraction(2)])
    (_, batch), = looks(only, [[0]])
    assert list(batch) == [2]


def test_one_at_a_time_gives_the_same_within_the_bound(pool, tmp_path,
                                                       monkeypatch):
    """Bit by bit the same maps; on disk never more than was said, and not
    much less; every detector is put away after its chunk."""
    cfg, detectors = pool
    images = Images(cfg)
    batches = images.batches(range(12))
    together = looks(FeatureMaps(detectors, images, STRIDES), batches)
    one_image = sum(4 * c * (64 // s) * (96 // s) for s in STRIDES
                    for c in (16, 24, 24))
    bound = int(2.7 * 3 * one_image)  # two batches of three images
    sizes, put_away = [], []
    load = torch.load

    def look(*args, **kwargs):
        sizes.append(sum(os.path.getsize(os.path.join(root, f))
                         for root, _, files in os.walk(tmp_path)
                         for f in files))
        return load(*args, **kwargs)

    monkeypatch.setattr(module.torch, 'load', look)
    for name, detector in detectors.items():
        monkeypatch.setattr(detector, 'cpu', lambda name=name:
                            put_away.append(name), raising=False)
    feature_maps = FeatureMaps(detectors, images, STRIDES, most_on_disk=bound,
                               folder=str(tmp_path))
    for (indices, one), (others, other) in zip(together, feature_maps(batches),
                                               strict=True):
        assert indices == others
        for name in detectors:
            for s in STRIDES:
                assert torch.equal(one[1].maps[name][s],
                                   other[1].maps[name][s])
    assert put_away == [*detectors] * 2  # two chunks of two batches
    assert .6 * bound < max(sizes) <= bound
    assert os.listdir(tmp_path) == []  # nothing stays


def test_a_batch_beyond_the_bound_is_said_and_done(pool, tmp_path,
                                                   monkeypatch):
    cfg, detectors = pool
    said = []
    monkeypatch.setattr(module, 'print_log',
                        lambda text, **_: said.append(text))
    images = Images(cfg)
    feature_maps = FeatureMaps(detectors, images, STRIDES, most_on_disk=1000,
                               folder=str(tmp_path))
    assert len(looks(feature_maps, [[0], [1, 2]])) == 2
    assert 'maps of 1 images alone are' in said[0]
    assert 'mtpd.costs.sequential allows' in said[0]
