"""All detectors' maps side by side: padding, grids, masks, one at a time."""
import copy
import os
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.data_preprocessors import DetDataPreprocessor
from torch import nn

from mtpd.distill.teacher_view.geometry import scaled_size
from mtpd.plan.pool import build_pool
from mtpd.progression import make_plan
from mtpd.search import feature_maps as module
from mtpd.search.feature_maps import FeatureMaps
from mtpd.search.images import ImageBatch, Images

STRIDES = (8, 16, 32)


@pytest.fixture(scope='module')
def pool(toy_in, tmp_path_factory):
    cfg = toy_in(tmp_path_factory.mktemp('pool'))
    cfg.val_dataloader.batch_size = 3
    return cfg, build_pool(make_plan(cfg))


def maps_of(feature_maps, batches):
    return list(feature_maps(batches))


def test_maps_are_those_of_each_detectors_own_preprocessing(pool):
    cfg, detectors = pool
    images = Images(cfg)
    feature_maps = FeatureMaps(detectors, images, STRIDES)
    assert feature_maps.divisor == 32 and feature_maps.grids == (1,)
    assert feature_maps.channels[8] == dict(student=16, wide=24, swin=24)
    (indices, batch), = maps_of(feature_maps, [[3, 5]])
    assert indices == [3, 5]
    maps, folds, valid = batch[Fraction(1)]
    assert folds == [images.fold(i) for i in indices]
    raw = [next(images.load([[i]])).views[1][0] for i in indices]
    for name, detector in detectors.items():
        detector = copy.deepcopy(detector).eval()
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
    (_, batch), = maps_of(feature_maps, [[0]])
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
    monkeypatch.setattr(module, 'FINE_STRIDE', 8)
    images = Images(cfg)
    feature_maps = FeatureMaps(detectors, images, STRIDES, fine_share=.25)
    (_, batch), = maps_of(feature_maps, [[1, 2]])
    valid = batch[Fraction(1)].valid
    assert valid[16].all() and valid[32].all()
    assert torch.equal(valid[8], torch.stack([images.drawn_positions(
        i, 8, (8, 12), .25) for i in (1, 2)]))


def test_maps_of_two_scales_meet_on_both_grids(pool):
    cfg, detectors = pool
    images = Images(cfg, scales=[Fraction(2)])
    scales = {'swin': Fraction(2)}
    feature_maps = FeatureMaps(detectors, images, (8, 16), scales)
    (_, batch), = maps_of(feature_maps, [[0]])
    one, two = batch[Fraction(1)].maps, batch[Fraction(2)].maps
    assert {n: m[8].shape[-2:] for n, m in two.items()} == dict.fromkeys(
        detectors, (16, 24))
    torch.testing.assert_close(one['swin'][8], F.interpolate(
        two['swin'][8], size=(8, 12), mode='area'))
    torch.testing.assert_close(two['wide'][8], F.interpolate(
        one['wide'][8], size=(16, 24), mode='bilinear'))
    only = FeatureMaps(detectors, images, (8, 16), scales, [Fraction(2)])
    (_, batch), = maps_of(only, [[0]])
    assert list(batch) == [2]


class Pooling(nn.Module):
    """A detector whose map shows the image itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.data_preprocessor = DetDataPreprocessor(pad_size_divisor=16)

    def extract_feat(self, images):
        return F.avg_pool2d(images, 8) * self.weight,


class Ramp:
    """One image whose rows hold their numbers, also at a quarter."""

    def __init__(self, height: int):
        self.height = height

    def load(self, _):
        image = torch.arange(self.height).float()[None, :, None].expand(
            3, self.height, 64).contiguous()
        small = F.interpolate(image[None], scaled_size(
            (self.height, 64), Fraction(1, 4)), mode='area')
        yield ImageBatch([0], {Fraction(1): [image],
                               Fraction(1, 4): [small[0]]})

    def fold(self, _):
        return 0


@pytest.mark.parametrize('height', [64, 65, 66])
def test_rows_that_a_small_scale_rounds_away_are_padded(height):
    """At 65 the student's batch is one divisor higher for a row that the
    teacher's image has lost."""
    images: Any = Ramp(height)
    maps = FeatureMaps({'student': Pooling(), 'teacher': Pooling()}, images,
                       [8], {'teacher': Fraction(1, 4)}, [Fraction(1)],
                       fine_share=1)
    (_, grids), = maps([[0]])
    student, teacher = (grids[Fraction(1)].maps[name][8][0, 0, :, 0][:6]
                        for name in ('student', 'teacher'))
    assert (student[4:] - teacher[4:]).abs().max() < 8


def test_one_at_a_time_gives_the_same_within_the_limit(pool, tmp_path,
                                                       monkeypatch):
    """The same bits. The files on disk use most of the limit and never exceed
    it, and every detector leaves the device after its chunk."""
    cfg, detectors = pool
    images = Images(cfg)
    batches = images.batches(range(12))
    together = maps_of(FeatureMaps(detectors, images, STRIDES), batches)
    one_image = sum(4 * c * (64 // s) * (96 // s) for s in STRIDES
                    for c in (16, 24, 24))
    limit = int(2.7 * 3 * one_image)  # two batches of three images
    sizes, left_device = [], []
    load = torch.load

    def load_and_record(*args, **kwargs):
        sizes.append(sum(os.path.getsize(os.path.join(root, f))
                         for root, _, files in os.walk(tmp_path)
                         for f in files))
        return load(*args, **kwargs)

    monkeypatch.setattr(module.torch, 'load', load_and_record)
    for name, detector in detectors.items():
        monkeypatch.setattr(detector, 'cpu', lambda name=name:
                            left_device.append(name), raising=False)
    feature_maps = FeatureMaps(detectors, images, STRIDES, disk_limit=limit,
                               folder=str(tmp_path))
    for (indices, one), (others, other) in zip(together, feature_maps(batches),
                                               strict=True):
        assert indices == others
        for name in detectors:
            for s in STRIDES:
                assert torch.equal(one[1].maps[name][s],
                                   other[1].maps[name][s])
    assert left_device == [*detectors] * 2  # two chunks of two batches
    assert .6 * limit < max(sizes) <= limit
    assert os.listdir(tmp_path) == []  # nothing stays


def test_a_batch_beyond_the_limit_is_reported_and_measured(pool, tmp_path,
                                                   monkeypatch):
    cfg, detectors = pool
    messages = []
    monkeypatch.setattr(module, 'print_log',
                        lambda text, **_: messages.append(text))
    images = Images(cfg)
    feature_maps = FeatureMaps(detectors, images, STRIDES, disk_limit=1000,
                               folder=str(tmp_path))
    assert len(maps_of(feature_maps, [[0], [1, 2]])) == 2
    assert 'maps of one batch of 1 images are' in messages[0]
    assert 'mtpd.costs.sequential allows' in messages[0]


def precisions():
    """All that decides whether TF32 is used."""
    backends = torch.backends
    values = [operation.fp32_precision for operation in (
        getattr(backends.cudnn, 'conv', None),
        getattr(backends.cudnn, 'rnn', None),
        getattr(backends.mkldnn, 'conv', None), backends.cuda.matmul)
        if hasattr(operation, 'fp32_precision')]
    for read in (lambda: backends.cudnn.allow_tf32,
                 torch.get_float32_matmul_precision):
        try:
            values.append(read())
        except RuntimeError:  # it refuses after fp32_precision was used
            values.append('unreadable')
    return values


def set_old_switches():
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision('medium')


def set_each_operation():
    if not hasattr(torch.backends.cudnn, 'conv'):
        pytest.skip('this torch has no fp32_precision of operations')
    torch.backends.cudnn.conv.fp32_precision = 'tf32'
    torch.backends.cudnn.rnn.fp32_precision = 'ieee'
    torch.backends.cuda.matmul.fp32_precision = 'tf32'


@pytest.mark.parametrize('setting', [set_old_switches, set_each_operation])
def test_forwards_are_in_full_precision_whatever_is_set(pool, setting):
    """The settings hold during each detector's forward pass and are put back,
    also after an error."""
    cfg, detectors = pool
    feature_maps = FeatureMaps(detectors, Images(cfg), STRIDES)
    inside = []

    def record(*_):
        inside.append(precisions())
        if len(inside) == 2:
            raise KeyboardInterrupt

    handle = detectors['swin'].backbone.register_forward_hook(record)
    matmul = torch.get_float32_matmul_precision()
    try:
        setting()
        before = precisions()
        maps_of(feature_maps, [[0]])
        assert precisions() == before
        with pytest.raises(KeyboardInterrupt):
            maps_of(feature_maps, [[0]])
        assert precisions() == before
    finally:
        handle.remove()
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = True
    for values in inside:
        assert set(values) <= {'ieee', 'highest', False}
