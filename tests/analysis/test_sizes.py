"""Parameters and multiply-adds against numbers by hand and by others."""
import copy

import pytest
import torch
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack
from mmdet.models.backbones.swin import WindowMSA
from mmengine.analysis.complexity_analysis import FlopAnalyzer
from mmengine.config import Config
from torch import nn

from mtpd.analysis.sizes import (multiply_adds, network_pass, parameters,
                                 test_size, zoo_ap)
from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import load_config
from shrink import shrunk


class Net(nn.Module):
    """A backbone of three convolutions, a neck and a head."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
            nn.Conv2d(8, 12, 1, bias=False))
        self.neck = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.head = nn.Linear(6, 5)

    def forward(self, images):
        maps = self.neck(self.backbone(images))
        return self.head(maps.flatten(2).transpose(1, 2))


def counted(module, *shape, **device):
    with torch.no_grad():
        return multiply_adds(module.eval(), lambda: module(
            torch.zeros(shape, **device)))


def test_a_small_net_by_hand():
    net = Net()
    # 20x12 pixels; 10x6 positions after the first stride.
    backbone = 60 * (8 * 3 * 9 + 8 * 9 + 12 * 8)
    neck = 60 * (12 * 6 * 4)  # each position of its input makes 2x2
    head = 240 * 6 * 5
    found = counted(net, 1, 3, 12, 20)
    assert found.backbone == backbone
    assert found.network == backbone + neck + head
    assert counted(net, 2, 3, 12, 20).network == 2 * found.network
    assert parameters(net) == (
        (8 * 27 + 8) + 2 * 8 + (8 * 9 + 8) + 12 * 8 + (12 * 6 * 4 + 6)
        + (6 * 5 + 5))


@pytest.mark.parametrize('kind, per_tap', [
    (DeformConv2dPack, 2), (ModulatedDeformConv2dPack, 3)])
def test_a_deformable_convolution_is_counted(kind, per_tap):
    layer = kind(4, 6, 3, stride=2, padding=1)
    offsets = 30 * (per_tap * 9) * 4 * 9  # a plain convolution, 6x5 positions
    assert counted(layer, 1, 4, 10, 12).network == offsets + 30 * 6 * 4 * 9


def mmengine_counted(module, *shape) -> int:
    counter = FlopAnalyzer(module.eval(), (torch.zeros(shape),))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counter.tracer_warnings('none')
    return sum(number for kind, number in counter.by_operator().items()
               if kind in ('conv', 'linear'))


def test_mmengine_counts_the_same(retinanet):
    detector = build_detector(retinanet)
    assert counted(detector, 1, 3, 64, 96).network == mmengine_counted(
        detector, 1, 3, 64, 96) > 1e6


def test_attention_is_counted():
    # 16 tokens of 8 channels in each of 2 heads: projections to queries, keys
    # and values, queries with keys, weights with values, the last projection.
    by_hand = 16 * 16 * 48 + 2 * (2 * 16 * 16 * 8) + 16 * 16 * 16
    assert counted(WindowMSA(16, 2, (4, 4)), 1, 16, 16).network == by_hand
    torchs = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    tokens = torch.zeros(1, 16, 16)
    before = torch.backends.mha.get_fastpath_enabled()
    for weights in (True, False):
        with torch.no_grad():
            assert multiply_adds(torchs, lambda: torchs(
                tokens, tokens, tokens, need_weights=weights)
            ).network == by_hand
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_published_figures():
    # Without data, on the meta device: nothing is computed.
    def published(name, height, width):
        detector = build_detector(load_config(
            f'mmdet::retinanet/{name}.py').model).to('meta')
        return detector, counted(detector, 1, 3, height, width,
                                 device='meta').network

    # detectron2, tests/test_model_analysis.py: 146 G and 37,915,572 without
    # the affine parameters of ResNet-50's batch norms, 26,560 channels.
    detector, macs = published('retinanet_r50-caffe_fpn_1x_coco', 800, 800)
    assert macs // 10**9 == 146
    assert parameters(detector) - 2 * 26560 == 37915572
    # mmdet, docs/en/useful_tools.md: 239.32 G with norms, activations and
    # pooling, and 37.74 M of those that its frozen stage leaves to train.
    detector, macs = published('retinanet_r50_fpn_1x_coco', 1280, 800)
    assert 0.995 * 239.32e9 < macs < 239.32e9
    trained = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    assert round(trained / 1e6, 2) == 37.74


def test_a_pass_is_of_one_padded_image(retinanet, swin_mask_rcnn):
    for model in (retinanet, swin_mask_rcnn):
        detector = build_detector(model).train()
        sizes = []
        detector.backbone.register_forward_pre_hook(
            lambda _, args: sizes.append(tuple(args[0].shape)))
        run = network_pass(detector, (90, 50))
        before = torch.get_rng_state()
        found = multiply_adds(detector, run)
        run()
        assert sizes == 2 * [(1, 3, 64, 96)]  # divisible by 32
        assert not detector.training
        assert 0 < found.backbone < found.network
        assert torch.equal(before, torch.get_rng_state())


def test_a_pass_has_the_channels_of_the_detector(retinanet):
    def channels(detector) -> int:
        seen = []
        detector.backbone.register_forward_pre_hook(
            lambda _, args: seen.append(args[0].shape[1]))
        network_pass(detector, (64, 64))()
        return seen[0]

    grey = copy.deepcopy(retinanet)
    grey.data_preprocessor = dict(type='DetDataPreprocessor', mean=[0],
                                  std=[1], pad_size_divisor=32)
    assert channels(build_detector(grey)) == 3  # one mean for all
    grey.backbone.in_channels = 1
    assert channels(build_detector(grey)) == 1
    # Its first convolution has 12, four pixels each.
    assert channels(build_detector(shrunk(load_config(
        'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py').model))) == 3


def test_what_configs_and_the_zoo_state():
    assert test_size(load_config(
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')) == (1333, 800)
    one = Config(dict(val_dataloader=dict(dataset=dict(pipeline=[
        dict(type='Resize', scale=96)]))))
    assert test_size(one) == (96, 96)
    one.val_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(120, 72), keep_ratio=True),
        dict(type='Pad', size=(128, 96))]
    assert test_size(one) == (128, 96)
    assert zoo_ap('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py') == 36.5
    # box and not mask AP
    assert zoo_ap('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py') == 38.2
    assert zoo_ap('mmdet::retinanet/no_such_config.py') is None
    assert zoo_ap('configs/demo/student.py') is None
