"""Readers of maps: frozen, fast or for measuring, they give the same maps."""
import copy
import os
import shutil

import pytest
import torch

from mtpd.distill import FrozenDetector, MapReader, build_detector, pyramid
from mtpd.distill.pyramid import evaluation_mode


@pytest.mark.parametrize('options, tolerance', [
    (dict(channels_last=True), 1e-5), (dict(precision='bf16'), 0.05)])
def test_fast_teachers_see_the_same(retinanet, checkpoint_of, options,
                                    tolerance):
    path = checkpoint_of(retinanet, 1, 'teacher')
    plain, fast = (FrozenDetector.build(retinanet, path, 'teachers.t', **o)
                   for o in ({}, options))
    images = torch.randn(2, 3, 64, 96)
    expected, maps = plain(images), fast(images)
    assert maps.keys() == expected.keys() == plain.channels.keys()
    for stride, one in expected.items():
        other = maps[stride].float()
        assert (other - one).norm() <= tolerance * one.norm()
        if 'precision' in options:
            assert maps[stride].dtype == torch.bfloat16
            assert not torch.equal(other, one)


def test_an_unknown_precision_is_refused(retinanet):
    with pytest.raises(ValueError, match='fast_teacher.precision is .int8.'):
        FrozenDetector(build_detector(retinanet), precision='int8')


@pytest.mark.slow  # a minute of the C++ compiler
@pytest.mark.skipif(not torch.cuda.is_available() and not shutil.which(
    os.environ.get('CXX', 'g++')), reason='torch.compile needs a C++ compiler')
def test_a_compiled_teacher_sees_the_same(retinanet, checkpoint_of):
    path = checkpoint_of(retinanet, 1, 'teacher')
    plain, fast = (FrozenDetector.build(retinanet, path, 'teachers.t',
                                        compile=compile)
                   for compile in (False, True))
    images = torch.randn(2, 3, 64, 96)
    expected, maps = plain(images), fast(images)
    assert maps.keys() == expected.keys()
    for stride, one in expected.items():
        assert (maps[stride] - one).norm() <= 1e-5 * one.norm()
        assert not maps[stride].requires_grad


def test_modes_after_a_block_that_failed(retinanet):
    one, other = (build_detector(retinanet) for _ in range(2))
    one.train().backbone.bn1.eval()
    other.eval()
    modes = [m.training for m in (*one.modules(), *other.modules())]
    with pytest.raises(KeyboardInterrupt), evaluation_mode(one, other):
        assert not any(m.training for m in one.modules())
        other.train()
        raise KeyboardInterrupt
    assert modes == [m.training for m in (*one.modules(), *other.modules())]


def test_measuring_leaves_a_detector_as_it_was(retinanet):
    detector = build_detector(retinanet).train()
    detector.backbone.bn1.eval()
    modes = {name: m.training for name, m in detector.named_modules()}
    trained = {name: p.requires_grad for name, p in
               detector.named_parameters()}
    state = copy.deepcopy(detector.state_dict())
    images = torch.randn(2, 3, 64, 96)
    maps = MapReader(detector)(images, (8, 32))
    assert list(maps) == [8, 32]
    assert not any(m.requires_grad for m in maps.values())
    assert modes == {name: m.training for name, m in detector.named_modules()}
    assert trained == {name: p.requires_grad for name, p in
                       detector.named_parameters()}
    after = detector.state_dict()
    assert all(torch.equal(state[k], after[k]) for k in state)
    frozen = FrozenDetector(detector)(images, (8, 32))
    assert all(torch.equal(maps[s], frozen[s]) for s in maps)
    assert not any(p.requires_grad for p in detector.parameters())


def test_one_dry_pass_for_each_detector(retinanet, monkeypatch):
    detector = build_detector(retinanet)
    passes = []
    whole = pyramid.dry_pass
    monkeypatch.setattr(pyramid, 'dry_pass', lambda *args, **options: (
        passes.append(args[0]), whole(*args, **options))[1])
    channels = pyramid.pyramid_channels(detector)
    channels.clear()  # the caller's own
    for reader in (MapReader, FrozenDetector):
        assert list(reader(detector).channels) == [8, 16, 32, 64, 128]
    assert passes == [detector]
    copied = copy.deepcopy(detector)
    assert pyramid.pyramid_channels(copied) \
        == pyramid.pyramid_channels(detector)
    assert passes == [detector, copied]
