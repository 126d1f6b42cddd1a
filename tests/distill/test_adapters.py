import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtpd.distill.adapters import (FeatureAdapter, PyramidAdapter,
                                   in_full_precision, resample, shared_strides)


def drawn(adapter: nn.Module) -> nn.Module:
    """With random weights: a fresh adapter maps everything to zero."""
    torch.manual_seed(0)
    for parameter in adapter.parameters():
        nn.init.normal_(parameter)
    return adapter


def test_a_fresh_adapter_gives_zero_and_passes_no_gradient_back():
    feature = torch.randn(2, 3, 4, 6, requires_grad=True)
    adapter = FeatureAdapter(3, 5)
    output = adapter(feature, (8, 12))
    assert torch.equal(output, torch.zeros(2, 5, 8, 12))
    ((output - 1) ** 2).mean().backward()
    assert torch.equal(feature.grad, torch.zeros_like(feature))
    assert adapter.project.weight.grad.abs().sum() > 0


def test_same_channels_and_grid_is_the_identity():
    adapter = FeatureAdapter(4, 4)
    feature = torch.randn(2, 4, 5, 7)
    assert adapter(feature, (5, 7)) is feature
    assert list(adapter.parameters()) == []


def test_other_channels_is_an_affine_map_per_position():
    adapter = drawn(FeatureAdapter(3, 5))
    feature = torch.randn(2, 3, 4, 6)
    conv = adapter.project
    by_hand = feature.permute(0, 2, 3, 1) @ conv.weight[:, :, 0, 0].T \
        + conv.bias
    torch.testing.assert_close(adapter(feature, (4, 6)),
                               by_hand.permute(0, 3, 1, 2))


def test_other_resolution_is_bilinear_upsampling():
    feature = torch.tensor([[[[0., 1.], [2., 3.]]]])
    # align_corners=False: new centres at -0.25, 0.25, 0.75, 1.25 of the old
    # grid, clamped at the border.
    axis = torch.tensor([0., 0.25, 0.75, 1.])
    expected = axis[None, :] + 2 * axis[:, None]
    torch.testing.assert_close(FeatureAdapter(1, 1)(feature, (4, 4))[0, 0],
                               expected)


def test_both_is_convolution_then_upsampling_in_either_order():
    adapter = drawn(FeatureAdapter(3, 2))
    feature = torch.randn(1, 3, 4, 5)
    upsampled_first = adapter.project(F.interpolate(
        feature, size=(7, 11), mode='bilinear', align_corners=False))
    torch.testing.assert_close(adapter(feature, (7, 11)), upsampled_first)


def test_finer_student_is_averaged_over_areas():
    feature = torch.arange(16.).view(1, 1, 4, 4)
    expected = torch.tensor([[2.5, 4.5], [10.5, 12.5]])
    torch.testing.assert_close(FeatureAdapter(1, 1)(feature, (2, 2))[0, 0],
                               expected)


def test_pyramid_pairs_by_stride_and_builds_only_what_differs():
    adapter = PyramidAdapter({8: 4, 16: 4, 128: 4}, {4: 6, 8: 6, 16: 4},
                             (8, 16))
    assert isinstance(adapter.levels['16'].project, nn.Identity)
    adapted = adapter({8: torch.randn(1, 4, 4, 4), 16: torch.randn(1, 4, 2, 2),
                       128: torch.randn(1, 4, 1, 1)},
                      {8: torch.randn(1, 6, 4, 4),
                       16: torch.randn(1, 4, 2, 2)})
    assert {s: tuple(m.shape) for s, m in adapted.items()} == {
        8: (1, 6, 4, 4), 16: (1, 4, 2, 2)}
    assert adapter.describe() == 'stride 8: 1x1 conv 4 -> 6; ' \
                                 'stride 16: identity'


def test_shared_strides():
    student, teacher = dict.fromkeys((8, 16, 32, 64, 128), 1), \
        dict.fromkeys((4, 8, 16, 32, 64), 1)
    assert shared_strides(student, teacher, 'teachers.x') == (8, 16, 32, 64)
    assert shared_strides(student, teacher, 'teachers.x', (32, 8)) == (8, 32)
    with pytest.raises(ValueError, match='teachers.x has stride 4: 1 '
                       'channels; the student has stride 8: 1 channels, '
                       '.*Set model.neck'):
        shared_strides(student, {4: 1}, 'teachers.x')
    with pytest.raises(ValueError, match=r'asks for \[128\].*Set mtpd.stri'):
        shared_strides(student, teacher, 'teachers.x', (64, 128))


def test_only_half_precision_is_widened():
    assert in_full_precision(torch.ones(1, dtype=torch.half)).dtype \
        == torch.float32
    double = torch.ones(1, dtype=torch.double)
    assert in_full_precision(double) is double


@pytest.mark.parametrize('size', [(4, 5), (8, 10), (7, 11), (2, 3), (3, 9)])
def test_resampling_commutes_with_the_convolution(size):
    """Training convolves first, the cost estimate resamples first."""
    adapter = drawn(FeatureAdapter(3, 2)).double()
    feature = torch.randn(2, 3, 4, 5, dtype=torch.double)
    torch.testing.assert_close(adapter(feature, size),
                               adapter.project(resample(feature, size)),
                               rtol=1e-12, atol=1e-12)
    constant = torch.full((1, 1, 4, 5), 7.)
    torch.testing.assert_close(resample(constant, size),
                               torch.full((1, 1, *size), 7.))


def test_starts():
    same = FeatureAdapter(3, 3, 'conv', 'identity')
    feature = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(same(feature, (4, 4)), feature)
    fewer = FeatureAdapter(4, 2, start='identity')
    feature = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(fewer(feature, (3, 3)), feature[:, :2])
    assert isinstance(FeatureAdapter(3, 3, 'auto', 'random').project,
                      nn.Identity)
    assert FeatureAdapter(3, 3, 'conv', 'zero').project.weight.shape \
        == (3, 3, 1, 1)
    for wrong, words in ((dict(adapter='linear'), "mtpd.adapter is 'linear'"),
                         (dict(start='fit'), "mtpd.init_adapters is 'fit'")):
        with pytest.raises(ValueError, match=words):
            FeatureAdapter(3, 3, **wrong)


def test_a_fitted_start_is_the_fitted_map():
    adapter = PyramidAdapter({8: 3, 16: 2, 32: 2}, {8: 4, 16: 2, 32: 3},
                             (8, 16, 32))
    weight, bias = torch.randn(4, 3), torch.randn(4)
    adapter.start_from({8: dict(weight=weight, bias=bias),
                        16: dict(weight=torch.eye(2), bias=torch.zeros(2))})
    feature = torch.randn(1, 3, 5, 5)
    expected = torch.einsum('oc,nchw->nohw', weight, feature) \
        + bias.view(1, -1, 1, 1)
    torch.testing.assert_close(adapter.levels['8'](feature, (5, 5)), expected)
    assert isinstance(adapter.levels['16'].project, nn.Identity)
    assert not adapter.levels['32'].project.weight.any()  # not fitted
