"""Slices of mmdet's detectors, thin (tests/shrink.py): they load strictly, and
where nothing is lost they predict what the original predicts."""
from zlib import crc32

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import ConfigDict
from shrink import _parts as parts, shrunk
from torch import nn

from mtpd.backbones import fill_in_channels
from mtpd.compress import (CannotSlice, budget, narrowed,
                           sliced_detector)
from mtpd.compress.budget import slice_of_width, widest_slice
from mtpd.compress.channels import choose, slice_weights
from mtpd.compress.errors import WidthUnavailable
from mtpd.compress.files import plain_checkpoint
from mtpd.compress.slicing import built
from mtpd.compress.trace import raw_outputs
from mtpd.plan.detectors import load_config
from mtpd.progression.export import export_student

FAMILIES = {
    'retinanet_r18': 'retinanet/retinanet_r18_fpn_1x_coco.py',
    'retinanet_x101': 'retinanet/retinanet_x101-64x4d_fpn_1x_coco.py',
    'fcos_caffe_gn': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'gfl': 'gfl/gfl_r50_fpn_1x_coco.py',
    'atss': 'atss/atss_r50_fpn_1x_coco.py',
    'faster_rcnn': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'faster_pafpn': 'pafpn/faster-rcnn_r50_pafpn_1x_coco.py',
    'mask_rcnn': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'mask_rcnn_gn': 'gn/mask-rcnn_r50_fpn_gn-all_2x_coco.py',
    'cascade_mask': 'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'mobilenet_v2': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'rtmdet': 'rtmdet/rtmdet_s_8xb32-300e_coco.py',
    'yolox': 'yolox/yolox_s_8xb8-300e_coco.py',
    # Keeps its backbone.
    'mask_rcnn_swin': 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'}


def model_of(name: str) -> ConfigDict:
    model = load_config(f'mmdet::{FAMILIES[name]}').model
    if name.startswith('mobilenet'):
        model.backbone = ConfigDict(type='TorchvisionBackbone',
                                    model_name=name)
        fill_in_channels(model)
    model = shrunk(model)
    if name == 'yolox':  # counts a runner's iterations, to choose a size
        model.data_preprocessor.batch_augments = None
    if name == 'retinanet_r18':  # as mmdet's own configs have it
        model.backbone.frozen_stages = 1
    return model


def detector_of(model: ConfigDict, seed: int = 0):
    """Any weights, with statistics and scales that differ by channel."""
    detector = built(model)
    torch.manual_seed(seed)
    for value in detector.state_dict().values():
        if value.is_floating_point():
            value.mul_(1 + .2 * torch.rand_like(value)).add_(
                .05 * torch.rand_like(value))
            if not value.dim():  # FCOS takes the exponential of these products
                value.mul_(.05)
    return detector.eval()


def outputs(detector, size=(96, 64)):
    torch.manual_seed(1)
    with torch.no_grad():
        return raw_outputs(detector, detector.backbone(
            torch.randn(2, 3, *size)))


class RandomChoice:
    """Scores that follow from the group alone; remembers which channels of
    which layers each group holds."""

    def __init__(self, detector):
        self.names = {m: name for name, m in detector.named_modules()}
        self.members = {}

    def __call__(self, group):
        root = self.names[group[0].dep.target.module]
        self.members[root] = [
            (self.names[item.dep.target.module], item.idxs, item.root_idxs)
            for item in group.items if item.dep.target.module in self.names
            and 'out_channels' in item.dep.handler.__name__]
        generator = torch.Generator().manual_seed(crc32(root.encode()))
        return torch.rand(len(group[0].idxs), generator=generator)


def without_group_norms(model: ConfigDict) -> ConfigDict:
    """Batch norms in place of group norms, whose statistics depend on the
    channels that a slice leaves out."""
    for part in parts(model):
        if (part.get('norm_cfg') or {}).get('type') == 'GN':
            part.norm_cfg = dict(type='BN')
    return model


def silence(detector, choice, kept) -> None:
    """Make every channel zero that a slice leaves out: what writes to it, and
    not what reads it."""
    modules = dict(detector.named_modules())
    for root, members in choice.members.items():
        for name, indices, of_root in members:
            dropped = [i for i, r in zip(indices, of_root)
                       if r not in kept[root]]
            rows = modules[name].weight.data
            if isinstance(modules[name], nn.ConvTranspose2d):
                rows = rows.transpose(0, 1)
            rows[dropped] = 0
            if modules[name].bias is not None:
                modules[name].bias.data[dropped] = 0


@pytest.mark.parametrize('name', [
    name for name in FAMILIES if name != 'mobilenet_v2'])
def test_a_slice_loads_strictly_and_trains_at_any_size(name):
    model = model_of(name)
    result = narrowed(model, .5)
    smaller = sliced_detector(detector_of(model), result.model,
                              result.keeps_backbone)
    plain = built(result.model)
    plain.load_state_dict(smaller.state_dict(), strict=True)
    count, all_of_it = (sum(p.numel() for p in one.parameters())
                        for one in (plain, built(model)))
    assert result.keeps_backbone == (name == 'mask_rcnn_swin')
    # As thin as it is, mask_rcnn_gn has one channel a group in its backbone.
    assert count < all_of_it * (1 if result.notes else .66)
    assert len(outputs(plain, (64, 96))) == len(outputs(built(model)))
    plain.train()
    batch = demo_mm_inputs(2, [[3, 96, 64], [3, 64, 96]], num_classes=5,
                           with_mask='mask' in name)
    data = plain.data_preprocessor(batch, True)
    total, _ = plain.parse_losses(plain(**data, mode='loss'))
    total.backward()
    silent = [key for key, p in plain.named_parameters()
              if p.requires_grad and p.grad is None]
    assert total.isfinite() and not silent


@pytest.mark.parametrize('name', ['mask_rcnn_gn', 'mask_rcnn_swin'])
def test_the_whole_width_is_the_same_detector(name):
    model = model_of(name)
    expected = outputs(detector_of(model))
    result = narrowed(model, 1)
    same = sliced_detector(detector_of(model), result.model,
                           result.keeps_backbone)
    for one, other in zip(outputs(same.eval()), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize('name', [
    name for name in FAMILIES if name not in (
        'atss', 'faster_rcnn', 'mask_rcnn_gn')])
def test_channels_that_are_zero_can_be_left_out(name):
    """Every weight has to be at the place of its channel, or the two detectors
    would differ."""
    model = without_group_norms(model_of(name))
    result = narrowed(model, .5)
    original = detector_of(model)
    choice = RandomChoice(original)
    kept = slice_weights(original, built(result.model),
                         result.keeps_backbone, choice).kept
    silence(original, choice, kept)
    expected = outputs(original)
    smaller = sliced_detector(original, result.model, result.keeps_backbone,
                              RandomChoice(original)).eval()
    for one, other in zip(outputs(smaller), expected, strict=True):
        assert other.std() > 0
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


def test_group_norms_keep_their_best_and_groups_the_same_places():
    scores = torch.tensor([1., 2., 3., 4., 8., 7., 6., 5.])
    assert choose(scores, 4) == [4, 5, 6, 7]
    assert choose(scores, 4, norm_groups=2) == [2, 3, 4, 5]
    # Means by place: 4.5 of all, and 8 beside 1 is no better than 5 beside 4.
    scores[0] = 9
    assert choose(scores, 4, conv_groups=2)[:1] == [0]
    chosen = choose(scores, 4, conv_groups=2)
    assert [one + 4 for one in chosen[:2]] == chosen[2:]
    assert choose(scores, 8, 2, 4) == list(range(8))
    with pytest.raises(CannotSlice, match='3 of 8 channels cannot be'):
        choose(scores, 3, norm_groups=2)


def test_a_smaller_model_with_other_connections_is_refused():
    """At half of its width, a block of this model has as many channels before
    it as behind it, and torchvision adds the two."""
    model = model_of('mobilenet_v2')
    model.backbone.model_name = 'mobilenet_v3_small'
    fill_in_channels(model)
    original = built(model)
    with pytest.raises(CannotSlice, match='connected in another way'):
        sliced_detector(original, narrowed(model, .5).model)
    # A budget steps down to a width that can be had.
    made = widest_slice(original, model, .89)
    assert made.width == .88 and made.notes[-1].startswith(
        '89% of the channels would keep within the budget too, but this '
        'detector has no slice between 88 and 89%')


def test_the_nearest_width_that_can_be_had_is_named(monkeypatch):
    monkeypatch.setattr(budget, 'SMALLEST', 25)  # for time
    model = model_of('retinanet_r18')
    model.backbone = ConfigDict(type='MobileNetV2', out_indices=(1, 2, 4, 6))
    model.neck.in_channels = [24, 32, 96, 320]
    original = built(model)
    with pytest.raises(CannotSlice, match='connected in another way.* The '
                       'nearest that can be had: --width 0.28.'):
        slice_of_width(original, model, .265)
    with pytest.raises(CannotSlice, match='Up to 27% .* The narrowest that '
                       'can be had: --width 0.28. Raise the budget'):
        widest_slice(original, model, .27)
    assert widest_slice(original, model, .3).notes == narrowed(
        model, .3).notes

    def only_wide(original, model, width):
        if width < .9:
            raise WidthUnavailable(['This width cannot be had.'])
        return budget.Slice(width, model, original, ())

    monkeypatch.setattr(budget, '_sliced', only_wide)
    with pytest.raises(CannotSlice, match='be had: --width 0.9.'):
        slice_of_width(original, model, .3)


@pytest.mark.parametrize('kind', ['ResNet', 'MobileNetV2'])
def test_layers_that_nothing_reads_are_sliced_along(kind):
    model = model_of('retinanet_r18')
    model.backbone.out_indices, unread = (0, 1, 2), 'backbone.layer4.'
    model.neck.in_channels = [8, 16, 32]
    if kind == 'MobileNetV2':
        model.backbone = ConfigDict(type=kind, out_indices=(1, 2, 4, 6))
        model.neck.in_channels, unread = [24, 32, 96, 320], 'backbone.conv2.'
    original = detector_of(model)
    weights = original.state_dict()
    smaller = sliced_detector(original, narrowed(model, .5).model)
    cut = 0
    for key, value in smaller.state_dict().items():
        if key.startswith(unread):
            first = weights[key][tuple(map(slice, value.shape))]
            assert torch.equal(value, first)
            cut += value.shape != weights[key].shape
    assert cut == (25 if kind == 'ResNet' else 1)
    same = sliced_detector(original, narrowed(model, 1).model).eval()
    for one, other in zip(outputs(same), outputs(original.eval())):
        assert torch.equal(one, other)


def test_activations_that_are_computed_again_change_nothing():
    model = model_of('faster_rcnn')
    expected = sliced_detector(detector_of(model),
                               narrowed(model, .5).model).state_dict()
    model.backbone.with_cp = True
    result = narrowed(model, .5)
    assert not result.keeps_backbone and result.model.backbone.with_cp
    original = detector_of(model)
    smaller = sliced_detector(original, result.model)
    for key, value in smaller.state_dict().items():
        assert torch.equal(value, expected[key])
    for one in (original, smaller):
        assert one.backbone.layer1[0].with_cp


def test_layers_that_levels_share_are_in_the_file_once(tmp_path):
    """RTMDet's; also in the file that a progression exports."""
    model = model_of('rtmdet')
    detector = detector_of(model)
    content = plain_checkpoint(detector)
    torch.save(content, tmp_path / 'start.pth')
    export_student(str(tmp_path / 'start.pth'), str(tmp_path / 'student.pth'))
    first, second = (f'bbox_head.cls_convs.{level}.0.conv.weight'
                     for level in (0, 1))
    for name in ('start.pth', 'student.pth'):
        weights = torch.load(tmp_path / name)['state_dict']
        assert weights[first].data_ptr() == weights[second].data_ptr()
        assert weights[first].data_ptr() != detector.state_dict()[
            first].data_ptr()
        built(model).load_state_dict(weights, strict=True)
