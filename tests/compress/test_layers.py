"""The layers that conv_cfg names: values, gradients, and plain ones again."""
import copy
import inspect
import io

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch import nn
from torch.nn.functional import conv2d

from mtpd.compress import CannotSlice
from mtpd.compress.layers import (BinaryWeightConv2d, LowRankConv2d,
                                  XNORConv2d)
from mtpd.compress.layers.binary import binary_weights
from mtpd.compress.layers.convert import (layers_of, merge_into, start_from,
                                          use_constant_weights)
from mtpd.compress.layers.model import (built_with, with_layers,
                                        without_layers)
from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import load_config

SHAPES = [(3, dict(stride=2, padding=1)), (1, dict(bias=False)),
          ((1, 3), dict(padding=(0, 1))), ((3, 1), dict(padding='same')),
          (5, dict(padding=4, dilation=2, padding_mode='reflect')),
          ((3, 5), dict(padding='same', padding_mode='circular'))]
TYPES = (LowRankConv2d, BinaryWeightConv2d, XNORConv2d)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def started(layer, plain):
    """The layer with a plain convolution's weights."""
    weights = layer.start(plain.weight.detach())
    if plain.bias is not None:
        weights['bias'] = plain.bias.detach()
    layer.load_state_dict(weights, strict=True)
    return layer.eval()


@pytest.mark.parametrize('scheme', ['channel', 'spatial'])
@pytest.mark.parametrize('kernel, settings', SHAPES)
def test_the_full_rank_is_the_convolution(kernel, settings, scheme):
    plain = nn.Conv2d(6, 10, kernel, **settings)
    layer = started(LowRankConv2d(6, 10, kernel, rank=1, scheme=scheme,
                                  **settings), plain)
    x = torch.randn(2, 6, 17, 19)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.to_plain()(x), plain(x), rtol=1e-5,
                               atol=1e-5)


@pytest.mark.parametrize('scheme, matrix', [
    ('channel', lambda w: w.reshape(8, 54)),
    ('spatial', lambda w: w.permute(0, 3, 1, 2).reshape(24, 18))])
def test_a_lower_rank_is_the_closest(scheme, matrix):
    plain = nn.Conv2d(6, 8, 3)
    layer = started(LowRankConv2d(6, 8, 3, rank=.25, scheme=scheme), plain)
    rank = {'channel': 2, 'spatial': 4}[scheme]
    values = torch.linalg.svdvals(matrix(plain.weight.detach()))
    found = (layer.weight - plain.weight).norm()
    # Eckart and Young: what is lost are the other singular values.
    torch.testing.assert_close(found, values[rank:].norm())
    x = torch.randn(1, 6, 9, 9)
    torch.testing.assert_close(layer(x), layer.to_plain()(x), rtol=1e-4,
                               atol=1e-5)


def test_half_of_the_rank_is_smaller_and_random_weights_are_kaimings():
    def size(layer):
        return sum(p.numel() for p in layer.parameters())

    plain = nn.Conv2d(64, 64, 3)
    assert size(LowRankConv2d(64, 64, 3)) == 64 * 32 * 10 + 64
    assert size(LowRankConv2d(64, 64, 3, rank=.25, scheme='spatial')) == \
        64 * 48 * 6 + 64 < size(plain) * .51
    for scheme in ('channel', 'spatial'):
        layer = LowRankConv2d(64, 64, 3, scheme=scheme)
        assert layer.weight.std().item() == pytest.approx(
            (2 / (64 * 9)) ** .5, rel=.1)


def test_binary_weights_are_signs_times_scales():
    layer = BinaryWeightConv2d(6, 8, 3, padding=1, groups=2)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = 0.
    weights = torch.where(layer.weight >= 0, 1., -1.)
    weights = weights * layer.weight.abs().flatten(1).mean(1)[:, None, None,
                                                             None]
    x = torch.randn(2, 6, 7, 9)
    expected = conv2d(x, weights, layer.bias, padding=1, groups=2)
    assert torch.equal(layer(x), expected)
    assert torch.equal(layer.to_plain()(x), expected)


def test_gradients_of_binary_weights():
    """Straight through the sign where |w| <= 1; the scale's own beside it."""
    layer = BinaryWeightConv2d(2, 3, 2, bias=False)
    with torch.no_grad():
        layer.weight.mul_(3)
    w = layer.weight.detach()
    assert (w.abs() > 1).any() and (w.abs() < 1).any()
    up = torch.randn(3, 2, 2, 2)  # of the loss by the binary weights
    binary_weights(layer.weight).backward(up)
    signs, scale = w.sign(), w.abs().mean((1, 2, 3), keepdim=True)
    expected = scale * up * (w.abs() <= 1) + \
        signs / 8 * (up * signs).sum((1, 2, 3), keepdim=True)
    torch.testing.assert_close(layer.weight.grad, expected)


def test_an_xnor_convolution_takes_signs_of_normed_inputs():
    layer = XNORConv2d(4, 8, 3, padding=1)
    x = torch.rand(2, 4, 7, 9) * 3  # as after a ReLU
    x.requires_grad_()
    centred = (x - x.mean((0, 2, 3), keepdim=True)).detach()
    inputs = torch.where(centred >= 0, 1., -1.)
    assert inputs.mean().abs() < .3
    weights = layer.weight.detach()
    weights = weights.sign() * weights.abs().mean((1, 2, 3), keepdim=True)
    out = layer(x)
    expected = conv2d(inputs, weights, layer.bias, padding=1)
    torch.testing.assert_close(out, expected)
    up = torch.randn_like(out)
    out.backward(up)
    # The same without signs and scale's gradient, by torch's own clamp.
    normed = nn.functional.batch_norm(x, None, None, training=True)
    other, = torch.autograd.grad(
        conv2d(normed.clamp(-1, 1), weights, padding=1), x, up)
    torch.testing.assert_close(x.grad, other, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match='no ordinary convolution'):
        layer.to_plain()


@pytest.mark.parametrize('layer', TYPES)
def test_a_layer_is_a_convolution_to_mmcv_and_python(layer):
    assert list(inspect.signature(nn.Conv2d).parameters)[:3] == list(
        inspect.signature(layer).parameters)[:3]
    cfg = dict(type=layer.__name__)
    made = build_conv_layer(cfg, 4, 6, 3, stride=2, padding=1, bias=False)
    assert type(made) is layer is MODELS.get(layer.__name__)
    plain = nn.Conv2d(4, 6, 3, 2, 1, bias=False)
    for name in ('in_channels', 'out_channels', 'kernel_size', 'stride',
                 'padding', 'dilation', 'groups', 'bias', 'padding_mode',
                 'transposed', 'output_padding'):
        assert getattr(made, name) == getattr(plain, name)
    assert made.weight.shape == plain.weight.shape
    module = ConvModule(4, 6, 3, conv_cfg=cfg, norm_cfg=dict(type='BN'),
                        padding=1).eval()
    again = copy.deepcopy(module)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(again(x), module(x))
    assert torch.equal(loaded(x), module(x))
    module.turn_on_efficient_conv_bn_eval(True)
    torch.testing.assert_close(module(x), again(x), rtol=1e-4, atol=1e-5)
    # The first of a backbone stays a plain one.
    first = layer(3, 6, 3, plain_channels=3)
    plain = nn.Conv2d(3, 6, 3)
    started(first, plain)
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(first(image), plain(image))
    assert torch.equal(first.to_plain()(image), plain(image))


@pytest.mark.parametrize('settings, message', [
    (dict(rank=0), 'is 0; it has to be above 0'),
    (dict(rank=1.5), 'is 1.5; it has to be above 0 and at most 1'),
    (dict(rank=True), 'is True'), (dict(rank='half'), "is 'half'"),
    (dict(scheme='cp'), "is 'cp'; it has to be channel or spatial"),
    (dict(groups=2), 'has 2 groups, and LowRankConv2d takes those of one')])
def test_what_no_low_rank_convolution_can_be(settings, message):
    with pytest.raises(ValueError, match=message):
        LowRankConv2d(4, 4, 3, **settings)


def test_a_detector_of_full_rank_or_merged_is_the_same(retinanet):
    whole = build_detector(retinanet).eval()
    x = torch.randn(1, 3, 64, 96)
    model, _ = with_layers(retinanet, dict(
        type='LowRankConv2d', rank=1, plain_channels=3), [])
    assert 'conv_cfg' not in retinanet.backbone
    thin = built_with(model).eval()
    # Backbone with its stem, neck and head.
    assert start_from(thin, whole) == 20 + 8 + 2
    assert isinstance(thin.backbone.conv1, LowRankConv2d)
    assert thin.backbone.conv1.second is None
    assert type(thin.bbox_head.retina_cls) is nn.Conv2d
    for one, other in zip(thin(x), whole(x)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

    model, _ = with_layers(retinanet, dict(type='BinaryWeightConv2d',
                                           plain_channels=3), [])
    assert 'conv_cfg' not in model.neck
    binary = built_with(model).eval()
    start_from(binary, whole)
    expected = binary(x)
    assert torch.equal(binary.backbone.conv1.weight,
                       whole.backbone.conv1.weight)
    plain_model, parts = without_layers(model)
    assert parts == 1 and plain_model.backbone.conv_cfg is None
    plain = built_with(plain_model).eval()
    assert merge_into(plain, binary) == 20
    assert plain.state_dict().keys() == whole.state_dict().keys()
    use_constant_weights(binary)
    assert not any(isinstance(one, BinaryWeightConv2d)
                   for one in binary.modules())
    for detector in (plain, binary):
        for one, other in zip(detector(x), expected):
            assert all(map(torch.equal, one, other))


def test_what_cannot_have_other_convolutions_is_named(retinanet):
    def refused(model, conv_cfg, *parts):
        with pytest.raises(CannotSlice) as error:
            with_layers(model, conv_cfg, parts)
        return str(error.value)

    low = dict(type='LowRankConv2d')
    assert 'the model has no rpn_head; its parts are backbone, neck, ' \
        'bbox_head' in refused(retinanet, low, 'rpn_head')
    swin = copy.deepcopy(retinanet)
    swin.backbone = ConfigDict(type='SwinTransformer')
    assert 'model.backbone cannot have these convolutions: SwinTransformer ' \
        'takes no conv_cfg' in refused(swin, dict(type='XNORConv2d'))
    other = copy.deepcopy(retinanet)
    other.neck.conv_cfg = dict(type='ConvWS')
    assert 'of the type ConvWS already' in refused(other, low, 'neck')
    assert str(refused(retinanet, {**low, 'rank': 0})).count('is 0; it') == 1
    model, _ = with_layers(retinanet, dict(type='XNORConv2d'), ())
    with pytest.raises(CannotSlice, match='model.backbone has convolutions '
                       'of the type XNORConv2d, which take the sign'):
        without_layers(model)


@pytest.mark.parametrize('backbone, reason', [
    (dict(type='ResNeXt', depth=50, groups=8, base_width=4, base_channels=16),
     'A convolution has 8 groups, and LowRankConv2d takes those of one group '
     'only'),
    (dict(type='MobileNetV2', out_indices=(1, 2, 4, 6)),
     'A convolution has 32 groups, and LowRankConv2d takes those of one group '
     'only'),
    (dict(type='ResNet', depth=50, dcn=dict(type='DCN'),
          stage_with_dcn=(False, True, True, True)),
     'conv_cfg must be None for DCN')])
def test_a_part_that_cannot_be_built_so_is_kept(retinanet, backbone, reason):
    model = copy.deepcopy(retinanet)
    model.backbone = ConfigDict(backbone)
    low = dict(type='LowRankConv2d')
    made, notes = with_layers(model, low, [])
    assert notes == [f'model.backbone keeps its convolutions: {reason}.']
    assert made.backbone == backbone
    assert made.neck.conv_cfg == made.bbox_head.conv_cfg == low
    with pytest.raises(CannotSlice, match='model.backbone cannot have these '
                       f'convolutions: {reason}. Name other parts by --parts'):
        with_layers(model, low, ['backbone', 'neck'])


def test_without_a_part_that_can_no_other_part_is_the_cure():
    model = load_config(
        'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py').model
    with pytest.raises(CannotSlice) as refusal:
        with_layers(model, dict(type='LowRankConv2d'), [])
    assert [problem.split(': ')[0] for problem in refusal.value.problems] == [
        f'model.{part} cannot have these convolutions'
        for part in ('backbone', 'neck', 'bbox_head')]
    assert 'Name other parts' not in str(refusal.value)


def test_the_first_convolution_behind_focus_stays_plain():
    model = load_config('mmdet::yolox/yolox_s_8xb8-300e_coco.py').model
    conv_cfg = dict(type='BinaryWeightConv2d', plain_channels=3)
    made, notes = with_layers(model, conv_cfg, ['backbone', 'neck'])
    layers = dict(layers_of(MODELS.build(made.backbone)))
    plain = [name for name, one in layers.items() if not one.takes_signs]
    assert plain == ['stem.conv.conv'] and layers[plain[0]].in_channels == 12
    assert made.neck.conv_cfg == conv_cfg and notes == []


def test_parts_of_two_stages_and_what_is_unfrozen():
    model = load_config('mmdet::cascade_rcnn/'
                        'cascade-mask-rcnn_r50_fpn_1x_coco.py').model
    made, notes = with_layers(model, dict(type='LowRankConv2d'), [])
    assert made.roi_head.bbox_head[2].conv_cfg.type == 'LowRankConv2d'
    assert made.roi_head.mask_head.conv_cfg.type == 'LowRankConv2d'
    assert 'conv_cfg' not in made.rpn_head
    assert made.backbone.init_cfg is None and made.backbone.frozen_stages == -1
    assert notes == [
        'model.rpn_head keeps its convolutions: RPNHead takes no conv_cfg, by '
        'which mmdet is told of other ones.',
        'model.backbone.frozen_stages is -1: other convolutions have to be '
        'trained.']
    made, notes = with_layers(model, dict(type='LowRankConv2d'),
                              ['mask_head', 'neck'])
    assert notes == [] and made.backbone == model.backbone
    assert 'conv_cfg' in made.neck and 'conv_cfg' in made.roi_head.mask_head
