"""The pass over the images, compared with sums computed by hand."""
import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from mtpd.order import adaptation_costs, fold_of
from mtpd.plan.pool import build_pool
from mtpd.progression import make_plan
from mtpd.search import gather as module
from mtpd.search.feature_maps import FeatureMaps
from mtpd.search.gather import gather
from mtpd.search.images import FOLDS, Images
from mtpd.search.moment_store import MomentStore

STRIDES = (8, 16, 32, 64)
ONE = Fraction(1)


def pass_over(where, cfg, pool, images=None, progress=lambda *_: None,
              **options):
    """Moments on the only grid, also of an earlier call's folder."""
    store = MomentStore.read(str(where)) or MomentStore(
        str(where), {}, dict.fromkeys(pool))
    feature_maps = FeatureMaps(pool, Images(cfg), STRIDES, **options)
    gather(feature_maps, store, range(len(feature_maps.images))
           if images is None else images, progress)
    return store.moments(ONE)


# Of toy maps the coarse levels have fewer positions than coefficients.
pytestmark = pytest.mark.filterwarnings('ignore:At stride')


@pytest.fixture(scope='module')
def gathered(toy_in, tmp_path_factory):
    cfg = toy_in(tmp_path_factory.mktemp('gathered'))
    cfg.val_dataloader.batch_size = 3
    pool = build_pool(make_plan(cfg))
    seen = []
    return cfg, pool, pass_over(tmp_path_factory.mktemp('moments') / 'm', cfg,
                                pool, None, lambda *p: seen.append(p)), seen


def assert_same(one, other, tolerance):
    for stride in STRIDES:
        assert one.filled_folds(stride) == other.filled_folds(stride)
        for fold in one.filled_folds(stride):
            mine, theirs = (m.over(stride, [fold]) for m in (one, other))
            theirs = theirs.about(mine.shift)
            assert mine.count == theirs.count
            size = mine.outer.diagonal().sqrt()
            for a, b, scale in (
                    (mine.total, theirs.total, size * mine.count ** .5),
                    (mine.outer, theirs.outer, size[:, None] * size)):
                assert ((a - b).abs() <= tolerance * (scale + 1)).all()


def maps_of_all(cfg, pool):
    """The same maps, one image at a time, by hand: {name: {stride: list of
    (positions, C)}}, and each image's fold."""
    loader = copy.deepcopy(cfg.val_dataloader)
    loader.batch_size = 1
    loader.dataset.ann_file = cfg.train_dataloader.dataset.ann_file
    loader.dataset.data_prefix = cfg.train_dataloader.dataset.data_prefix
    loader.sampler.shuffle = False
    pool = {n: copy.deepcopy(d).eval() for n, d in pool.items()}
    folds, maps = [], {n: {s: [] for s in STRIDES} for n in pool}
    for batch in Runner.build_dataloader(loader):
        folds.append(fold_of(str(batch['data_samples'][0].img_id), FOLDS))
        height, width = batch['inputs'][0].shape[-2:]
        for name, detector in pool.items():
            with torch.no_grad():
                inputs = detector.data_preprocessor(
                    copy.deepcopy(batch))['inputs']
                levels = detector.extract_feat(inputs)
            for level in levels:
                stride = inputs.shape[-1] // level.shape[-1]
                if stride in STRIDES:
                    rows = int(np.ceil(height / stride - 0.5))
                    columns = int(np.ceil(width / stride - 0.5))
                    maps[name][stride].append(
                        level[0, :, :rows, :columns].flatten(1).T.double())
    return maps, folds


def test_costs_of_a_real_pool_against_lstsq(gathered):
    """From images to costs, against least squares on the maps themselves,
    fold by fold. Strides 8 and 16 have enough positions to be well posed."""
    cfg, pool, moments, seen = gathered
    costs = adaptation_costs(moments)
    maps, folds = maps_of_all(cfg, pool)
    assert len(folds) == 24
    for stride in (8, 16):
        assert costs.positions[costs.at(stride)] == sum(
            len(m) for m in maps['student'][stride])
        for source, target in (('student', 'swin'), ('swin', 'wide')):
            error, count = 0., 0
            for fold in set(folds):
                def side(name, held_out):
                    return torch.cat([m for m, f in zip(
                        maps[name][stride], folds)
                        if (f == fold) == held_out])

                def with_one(x):
                    return torch.cat([x, torch.ones(len(x), 1).double()], 1)

                fit = torch.linalg.lstsq(
                    with_one(side(source, False)), side(target, False),
                    driver='gelsd').solution
                rest = side(target, True) - with_one(side(source, True)) @ fit
                error += (rest ** 2).sum().item()
                count += rest.numel()
            assert costs.mse[
                costs.at(stride, source, target)] == pytest.approx(
                    error / count, rel=1e-3)


def test_progress_counts_every_image(gathered):
    *_, seen = gathered
    assert seen[0] == (0, 24) and seen[-1] == (24, 24)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_sums_depend_on_no_label_and_no_random_number(gathered, tmp_path):
    cfg, pool, moments, _ = gathered
    cfg = copy.deepcopy(cfg)
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=3, dataset=cfg.train_dataloader.dataset)
    torch.manual_seed(123)  # repeated images are the same ones
    assert_same(moments, pass_over(tmp_path / 'm', cfg, pool), 0)


def test_detectors_that_run_one_at_a_time_have_the_same_sums(gathered,
                                                             tmp_path):
    cfg, pool, moments, _ = gathered
    assert_same(moments, pass_over(
        tmp_path / 'm', cfg, pool, disk_limit=10**6, folder=str(tmp_path)),
        0)


def test_other_batches_have_nearly_the_same_sums(gathered, tmp_path):
    cfg, pool, moments, _ = gathered
    cfg = copy.deepcopy(cfg)
    cfg.val_dataloader.batch_size = 1
    assert_same(moments, pass_over(tmp_path / 'm', cfg, pool), 1e-5)


@pytest.mark.parametrize('stop', [1, 7, 23])
def test_a_stopped_pass_is_resumed(gathered, tmp_path, monkeypatch, stop):
    """Saved images are not measured again, and the sums are those of an
    undisturbed pass."""
    cfg, pool, moments, _ = gathered
    monkeypatch.setattr(module, 'SAVE_SECONDS', 0)  # after every batch

    def kill(done, total):
        if done >= stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pass_over(tmp_path / 'm', cfg, pool, None, kill)
    saved = MomentStore.read(str(tmp_path / 'm'))
    saved = len(saved.done) if saved else 0
    assert stop - 3 <= saved <= stop
    seen = []
    again = pass_over(tmp_path / 'm', cfg, pool, None,
                      lambda *p: seen.append(p))
    assert seen[0] == (saved, 24) and seen[-1] == (24, 24)
    assert_same(moments, again, 0)


def test_few_images_first_and_the_others_later(gathered, tmp_path):
    cfg, pool, moments, _ = gathered
    few = pass_over(tmp_path / 'm', cfg, pool, range(0, 24, 4))
    assert few.over(8, few.filled_folds(8)).count == 6 * 8 * 12
    assert_same(moments, pass_over(tmp_path / 'm', cfg, pool), 1e-5)


def test_a_new_detector_is_added_to_the_known_ones(gathered, tmp_path):
    """Products among the known detectors are not computed again; the costs are
    those of one pass over all detectors."""
    cfg, pool, moments, _ = gathered
    known = {n: pool[n] for n in ('student', 'swin')}
    store = MomentStore(str(tmp_path / 'base'), {}, dict.fromkeys(known))
    images = Images(cfg)
    gather(FeatureMaps(known, images, STRIDES), store, range(24))
    before = adaptation_costs(store.moments(ONE))
    late = MomentStore(str(tmp_path / 'late'), dict(
        strides=STRIDES, grids=['1']), dict.fromkeys((*known, 'wide')),
        tuple(known))
    gather(FeatureMaps({**known, 'wide': pool['wide']}, images, STRIDES),
           late, range(24))
    late.complete_from(store)
    whole, completed = map(adaptation_costs, (moments, late.moments(ONE)))
    # Levels with fewer positions than channels are chance.
    for stride in (8, 16):
        for pair in whole.pairs:
            assert completed.mse[completed.at(stride, *pair)] == \
                pytest.approx(whole.mse[whole.at(stride, *pair)], rel=1e-4)
        pair = 'student', 'swin'
        assert completed.mse[completed.at(stride, *pair)] == pytest.approx(
            before.mse[before.at(stride, *pair)], rel=1e-9)


def test_a_map_that_is_not_finite_is_named(gathered, tmp_path):
    cfg, pool, _, _ = gathered
    broken = copy.deepcopy(pool['wide'])
    broken.neck.fpn_convs[1].conv.bias.data[3] = torch.nan
    with pytest.raises(ValueError, match='wide at stride 16 .*not finite'):
        pass_over(tmp_path / 'm', cfg, {**pool, 'wide': broken})


def test_how_often_sums_are_saved(monkeypatch):
    """About every two minutes. The number of batches grows by a factor of four
    at most and is a multiple of the number of processes."""
    monkeypatch.setattr(module, 'get_world_size', lambda: 4)
    assert module.next_chunk_size(4, 3.) == 16  # not 160
    assert module.next_chunk_size(16, 12.) == 64
    assert module.next_chunk_size(400, 480.) == 100
    assert module.next_chunk_size(4, 4000.) == 4
    assert module.next_chunk_size(4, 0.) == 16
