import argparse

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData

from mtpd.backbones import fill_in_channels
from mtpd.command_line import read_config
from mtpd.distill.pyramid import pyramid_channels
from mtpd.plan.detectors import load_config
from mtpd.plan.errors import PlanError

SQUEEZENET = dict(type='TorchvisionBackbone', model_name='squeezenet1_1')
OWN = [128, 256, 512]

# A config as users write it; the last three lines make it small.
RETINANET = """
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mtpd'])
model = dict(
    backbone=dict(_delete_=True, {backbone}),
    neck=dict(out_channels=16),
    bbox_head=dict(num_classes=5, in_channels=16, feat_channels=16,
                   stacked_convs=1))
"""


@pytest.fixture
def written(tmp_path):
    """Path of a RetinaNet's config with a given backbone."""
    def write(backbone: str) -> str:
        path = tmp_path / 'retinanet.py'
        path.write_text(RETINANET.format(backbone=backbone))
        return str(path)
    return write


@pytest.mark.parametrize('backbone, channels', [
    ("type='TimmBackbone', model_name='mobilenetv3_small_050'",
     [8, 16, 24, 288]),
    ("type='TorchvisionBackbone', model_name='squeezenet1_1'", OWN),
])
def test_a_detector_trains_without_channels_in_its_config(
        written, tmp_path, backbone, channels):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    cfg = load_config(written(backbone))
    assert torch.equal(torch.get_rng_state(), state)
    assert cfg.model.neck.in_channels == channels
    assert cfg.model.neck.start_level == 1

    # The dumped config holds the numbers, for stock mmdet.
    cfg.dump(str(tmp_path / 'dumped.py'))
    dumped = Config.fromfile(str(tmp_path / 'dumped.py'))
    assert dumped.model.neck.in_channels == channels

    detector = MODELS.build(dumped.model)
    detector.init_weights()
    # P4 of SqueezeNet is 15 positions wide, which this dry run takes for
    # stride 17.
    assert set(pyramid_channels(detector)) - {17} <= {8, 16, 32, 64, 128}
    sample = DetDataSample(metainfo=dict(
        img_shape=(97, 131), pad_shape=(97, 131), ori_shape=(97, 131),
        scale_factor=(1., 1.), batch_input_shape=(97, 131)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[10., 12., 60., 70.], [50., 5., 120., 90.]]),
        labels=torch.tensor([1, 4]))
    detector.train()
    losses = detector.loss(torch.randn(1, 3, 97, 131), [sample])
    total, _ = detector.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    first = next(detector.backbone.parameters())
    assert torch.isfinite(first.grad).all() and first.grad.abs().sum() > 0


def test_inherited_channels_are_replaced_and_missing_ones_are_set():
    for neck in (dict(type='FPN', in_channels=[256, 512, 1024, 2048]),
                 dict(type='FPN'), dict(type='mmdet.PAFPN'),
                 dict(type='CSPNeXtPAFPN', in_channels=[1]),
                 dict(type='RFP', rfp_steps=2), dict(type='FPN_DropBlock')):
        cfg = Config(dict(model=dict(backbone=SQUEEZENET, neck=neck)))
        fill_in_channels(cfg)
        assert cfg.model.neck.in_channels == OWN
        assert cfg.model.neck == {**neck, 'in_channels': OWN}


def test_channels_have_the_form_that_the_neck_takes():
    def filled(**neck):
        cfg = ConfigDict(backbone=SQUEEZENET, neck=neck)
        fill_in_channels(cfg)
        return cfg.neck.get('in_channels')

    # YOLOF's neck takes the last map only, and a number.
    assert filled(type='DilatedEncoder', in_channels=2048) == 512
    assert filled(type='CTResNetNeck') == 512
    assert filled(type='YOLOV3Neck', in_channels=[1024, 512, 256]) \
        == OWN[::-1]
    assert filled(type='SSDNeck', in_channels=(512, 1024)) == tuple(OWN)


def test_of_several_necks_the_first_is_changed():
    cfg = Config(dict(model=dict(backbone=SQUEEZENET, neck=[
        dict(type='FPN', in_channels=[1, 2, 3, 4], out_channels=256),
        dict(type='DyHead', in_channels=256)])))
    fill_in_channels(cfg)
    assert [neck.in_channels for neck in cfg.model.neck] == [OWN, 256]


def test_other_configs_stay_as_they_are():
    for given in (dict(model=dict(backbone=dict(type='ResNet', depth=50),
                                  neck=dict(type='FPN'))),
                  dict(model=dict(backbone=SQUEEZENET)),
                  dict(model=dict(backbone=SQUEEZENET, neck=None)),
                  dict(model=dict(type='FeatureDistiller')),
                  dict(dataset_type='CocoDataset')):
        cfg = Config(given)
        fill_in_channels(cfg)
        assert cfg.to_dict() == given


def test_only_the_wanted_strides_are_used_and_nothing_is_fetched():
    cfg = Config(dict(model=dict(
        backbone=dict(type='mmdet.TimmBackbone', strides=(8, 16),
                      model_name='mobilenetv3_small_050', pretrained=True),
        neck=dict(type='FPN'))))
    fill_in_channels(cfg)
    assert cfg.model.neck.in_channels == [16, 24]


def test_options_of_the_command_line_are_used(written):
    path = written("type='TorchvisionBackbone', model_name='squeezenet1_1'")
    cfg = read_config(argparse.Namespace(
        config=path, launcher='none', local_rank=0, work_dir='w', cfg_options={
            'model.backbone.model_name': 'mobilenet_v3_small'}))
    assert cfg.model.neck.in_channels == [16, 24, 48, 576]
    with pytest.raises(PlanError, match="cfg-options.*no model 'squeeze'"):
        read_config(argparse.Namespace(
            config=path, launcher='none', local_rank=0, work_dir='w',
            cfg_options={'model.backbone.model_name': 'squeeze'}))


def test_an_error_about_a_backbone_names_its_config(written):
    with pytest.raises(PlanError, match='retinanet.py: model_name of Timm'):
        load_config(written("type='TimmBackbone'"))
    path = written("type='TimmBackbone', model_name='mobilnetv2_050'")
    with pytest.raises(PlanError, match='retinanet.py: timm has no model.*'
                                        "'mobilenetv2_050'"):
        load_config(path)
