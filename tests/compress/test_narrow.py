"""The smaller model of a config: widths, what is rounded, what is refused."""
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mtpd.compress import CannotSlice, narrowed
from mtpd.compress.budget import megabytes, parameters, widest
from mtpd.compress.errors import WidthUnavailable
from mtpd.compress.files import difference, files_of
from mtpd.compress.first_weights import same_layers
from mtpd.compress.slicing import built
from mtpd.plan.detectors import load_config


def model_of(name: str, **changes) -> ConfigDict:
    cfg = load_config(f'mmdet::{name}')
    cfg.merge_from_dict({f'model.{key}': value
                         for key, value in changes.items()})
    return cfg.model


def test_all_widths_of_a_two_stage_detector():
    model = model_of('mask_rcnn/mask-rcnn_x101-32x8d_fpn_1x_coco.py')
    before = copy.deepcopy(model)
    result = narrowed(model, .5)
    assert model == before and not result.keeps_backbone
    changes = difference(model, result.model)
    assert result.notes == (
        'model.backbone.frozen_stages is -1: a slice of a frozen stage has to '
        'be trained.',)
    assert changes == dict(
        backbone=dict(base_channels=32, base_width=4, frozen_stages=-1,
                      init_cfg=None),
        neck=dict(in_channels=[128, 256, 512, 1024], out_channels=128),
        rpn_head=dict(in_channels=128, feat_channels=128),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=128),
            bbox_head=dict(in_channels=128, fc_out_channels=512,
                           conv_out_channels=128),
            mask_roi_extractor=dict(out_channels=128),
            mask_head=dict(in_channels=128, conv_out_channels=128)))
    assert result.model.backbone.groups == 32


def test_what_a_group_norm_cannot_have_is_rounded_and_said():
    model = model_of('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
                     **{'backbone.frozen_stages': -1})
    result = narrowed(model, .3)
    assert result.model.bbox_head.feat_channels == 64
    assert result.model.neck.out_channels == 77
    assert result.notes == (
        'Widths are rounded to whole channels.',
        'model.bbox_head.feat_channels is 64, a multiple of the 32 groups of '
        'its GroupNorm, and not 76.8.')
    assert narrowed(model, .01).model.bbox_head.feat_channels == 32


def test_one_factor_says_all_widths_of_a_cspnext():
    model = model_of('rtmdet/rtmdet_s_8xb32-300e_coco.py')
    result = narrowed(model, .75)
    assert difference(model, result.model) == dict(
        backbone=dict(widen_factor=.375, init_cfg=None),
        neck=dict(in_channels=[96, 192, 384], out_channels=96),
        bbox_head=dict(in_channels=96, feat_channels=96))
    assert result.notes == () and not result.keeps_backbone
    assert parameters(built(result.model)) == parameters(built(model_of(
        'rtmdet/rtmdet_s_8xb32-300e_coco.py', **{
            'backbone.widen_factor': .375, 'neck.in_channels': [96, 192, 384],
            'neck.out_channels': 96, 'bbox_head.in_channels': 96,
            'bbox_head.feat_channels': 96})))
    with pytest.raises(WidthUnavailable, match='cannot be built'):
        narrowed(model, .01)


@pytest.mark.parametrize('name, changes, words', [
    ('htc/htc_r50_fpn_1x_coco.py', {},
     ['model.roi_head is a HybridTaskCascadeRoIHead', 'semantic_head',
      r'mask_head\[2\] is a HTCMaskHead']),
    ('dino/dino-4scale_r50_8xb2-12e_coco.py', {},
     ['model is a DINO with num_queries', 'model.neck is a ChannelMapper']),
    ('rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py', {},
     ['model.bbox_head is a RTMDetInsSepBNHead']),
    ('reppoints/reppoints-moment_r50_fpn_1x_coco.py', {},
     ['model.bbox_head is a RepPointsHead']),
    ('dyhead/atss_r50_fpn_dyhead_1x_coco.py', {},
     ['model.neck is a list of 2 parts']),
    ('retinanet/retinanet_r50_fpn_1x_coco.py',
     {'bbox_head.conv_cfg': dict(type='DCNv2')},
     ['its convolutions are of the type DCNv2'])])
def test_what_cannot_be_sliced_is_named(name, changes, words):
    with pytest.raises(CannotSlice) as error:
        narrowed(model_of(name, **changes), .5)
    for word in words:
        assert error.match(word)


def test_no_channel_of_a_group_is_lost_to_rounding():
    """mmdet computes floor(planes * (base_width / base_channels)), and 47 *
    (3 / 47) is below 3."""
    model = model_of('retinanet/retinanet_x101-32x4d_fpn_1x_coco.py',
                     **{'backbone.depth': 50})
    for width, channels in ((.72, 46), (.73, 46), (.74, 46), (.75, 48)):
        result = narrowed(model, width)
        backbone = result.model.backbone
        assert (backbone.base_channels, backbone.base_width) == (channels, 3)
        module = MODELS.build(backbone)
        assert [getattr(module, f'layer{i}')[0].conv2.out_channels
                for i in range(1, 5)] == [96, 192, 384, 768]
    # A detector that has lost one: its slices are not wider anywhere.
    model.backbone.update(base_channels=47, base_width=3)
    model.backbone.frozen_stages = -1
    for width, expected in ((1, (47, 3)), (.97, (46, 2)), (.5, (24, 2))):
        backbone = narrowed(model, width).model.backbone
        assert (backbone.base_channels, backbone.base_width) == expected


def test_a_slice_loads_no_other_weights():
    pretrained = dict(type='Pretrained', checkpoint='gone.pth')
    normal = dict(type='Normal', layer='Conv2d')
    model = model_of('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
                     **{'init_cfg': pretrained,
                        'neck.init_cfg': [pretrained, normal],
                        'roi_head.bbox_head.init_cfg': pretrained})
    fields = {
        'ResNet': dict(depth=18, pretrained='torchvision://resnet18'),
        'TorchvisionBackbone': dict(model_name='mobilenet_v3_small',
                                    pretrained='gone.pth'),
        # Keeps its width, and was frozen with the weights of a file.
        'SwinTransformer': dict(embed_dims=16, depths=[1] * 4, frozen_stages=1,
                                num_heads=[1] * 4, init_cfg=pretrained)}
    for kind, settings in fields.items():
        model.backbone = ConfigDict(type=kind, **settings)
        model.neck.in_channels = [16, 32, 64, 128]
        result = narrowed(model, .5)
        text = str(result.model)
        assert 'Pretrained' not in text and 'gone.pth' not in text
        assert 'torchvision://' not in text
        assert result.model.neck.init_cfg == [normal]
        assert result.keeps_backbone == (kind == 'SwinTransformer')
        assert same_layers(model.backbone, result.model.backbone) \
            == result.keeps_backbone
        assert result.model.backbone.get('frozen_stages', -1) == -1
        built(result.model).init_weights()


def test_widths_that_only_a_class_says_are_scaled_too():
    model = model_of('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
                     **{'backbone.depth': 18})
    del model.roi_head.bbox_head['in_channels']  # 256 by default
    head = narrowed(model, .5).model.roi_head.bbox_head
    assert head.in_channels == 128 and head.fc_out_channels == 512


@pytest.mark.parametrize('width', [0, -1, 1.5, float('nan')])
def test_a_width_is_a_share(width):
    with pytest.raises(CannotSlice, match=f'The width is {width:g}; it has'):
        narrowed(ConfigDict(), width)


def test_weights_that_layers_share_are_counted_once(tmp_path):
    detector = built(model_of('rtmdet/rtmdet_s_8xb32-300e_coco.py'))
    torch.save(detector.state_dict(), tmp_path / 'a.pth')
    size = (tmp_path / 'a.pth').stat().st_size / 1e6
    assert size - .2 < megabytes(detector) < size


def test_the_widest_slice_within_a_budget(retinanet):
    limit = .6 * parameters(built(retinanet))
    tried = []

    def count(detector):
        tried.append(parameters(detector))
        return tried[-1]

    width = widest(retinanet, {'parameters': count}, {'parameters': limit})
    fits, wider = (parameters(built(narrowed(retinanet, w).model))
                   for w in (width, width + .01))
    assert fits <= limit < wider and len(tried) <= 10
    assert megabytes(built(retinanet)) > 4e-6 * parameters(built(retinanet))
    with pytest.raises(CannotSlice, match='The nearest, with 5% of the '
                       'channels, has .* parameters instead of 10'):
        widest(retinanet, {'parameters': parameters}, {'parameters': 10})
    with pytest.raises(CannotSlice, match='whole detector keeps within'):
        widest(retinanet, {'MB': megabytes}, {'MB': 1000})
    assert widest(retinanet, {'MB': megabytes}, {'MB': 1000},
                  with_whole=True) == 1
    grey = copy.deepcopy(retinanet)
    grey.backbone.in_channels = 1
    for limit in (10, 1e9):  # nothing is said of the budget
        with pytest.raises(CannotSlice, match='backbone takes 1 channels. '
                           'Only detectors of colour images'):
            widest(grey, {'parameters': parameters}, {'parameters': limit})
    # GroupNorms of 4 groups, of which the stem's need twice as many channels.
    deep = copy.deepcopy(retinanet)
    deep.backbone.update(type='ResNetV1d', stem_channels=16,
                         norm_cfg=dict(type='GN', num_groups=4))
    with pytest.raises(WidthUnavailable, match='must be divisible'):
        narrowed(deep, .3)
    assert widest(deep, {'parameters': parameters}, {
        'parameters': parameters(built(narrowed(deep, .5).model))}) >= .5


def test_names_of_files():
    def stem(width, depth=None, config='a/my.py'):
        return files_of(config, 'out', width, depth).config

    assert stem(.5) == 'out/my_half.py' and stem(.75) == 'out/my_w75.py'
    assert stem(.125) == 'out/my_w12_5.py' and stem(1) == 'out/my_w100.py'
    assert stem(.5, 18) == 'out/my_d18_half.py'
    assert stem(1, 18, 'mmdet::x/y.py') == 'out/y_d18.py'
    assert files_of('my.py', '.', .5)[1:] == ('./my_half_start.pth',
                                              './my_half_mtpd.py')
