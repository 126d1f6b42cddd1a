"""The frozen teacher's ways to run faster give the same maps."""
import os
import shutil

import pytest
import torch

from mtpd.distill import FrozenDetector, build_detector


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
