import argparse
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mtpd.backbones import (fill_in_normalisation, other_normalisation,
                            starts_from_file)
from mtpd.command_line import read_config
from mtpd.plan.describe import describe_plan
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import make_plan
from mtpd.progression.prepare import check

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                bgr_to_rgb=True)
LITE = dict(type='TimmBackbone', model_name='tf_efficientnet_lite0',
            pretrained='weights/tf_efficientnet_lite0.pth')
SQUEEZENET = dict(type='TorchvisionBackbone', model_name='squeezenet1_1',
                  weights='DEFAULT')


def config(backbone: dict, **preprocessor) -> Config:
    return Config(dict(model=dict(
        type='RetinaNet', backbone=backbone, data_preprocessor=dict(
            type='DetDataPreprocessor', pad_size_divisor=32,
            **preprocessor))))


@pytest.mark.parametrize('backbone, mean, std', [
    # timm's for values from 0 to 1: 0.5 and 0.5; ImageNet's; CLIP's.
    (LITE, [127.5] * 3, [127.5] * 3),
    (dict(type='TimmBackbone', model_name='efficientnet_lite0.ra_in1k'),
     IMAGENET['mean'], IMAGENET['std']),
    (dict(type='mmdet.TimmBackbone', pretrained=True,
          model_name='resnet50_clip.openai'),
     [122.7709, 116.746, 104.0937], [68.5005, 66.6322, 70.3232]),
    ({**LITE, 'pretrained_cfg_overlay': dict(mean=(0, .2, .4), std=(1,) * 3)},
     [0, 51, 102], [255] * 3),
    (SQUEEZENET, IMAGENET['mean'], IMAGENET['std']),
    # Whose weights are not the default.
    (dict(type='TorchvisionBackbone', model_name='vgg16',
          weights='IMAGENET1K_FEATURES'), [122.9992, 117.0, 104.0], [1.0] * 3),
])
def test_the_numbers_are_those_of_the_weights(backbone, mean, std):
    # What is inherited from another backbone's config is replaced.
    cfg = config(backbone, **{**IMAGENET, 'mean': 'backbone',
                              'bgr_to_rgb': False, 'rgb_to_bgr': True})
    fill_in_normalisation(cfg)
    filled = cfg.model.data_preprocessor
    assert filled.mean == pytest.approx(mean, abs=1e-3)
    assert filled.std == pytest.approx(std, abs=1e-3)
    assert filled.bgr_to_rgb is True and filled.rgb_to_bgr is False
    assert filled.pad_size_divisor == 32
    assert not other_normalisation(cfg)


def test_it_may_stand_beside_the_model_and_numbers_stay():
    preprocessor = dict(type='DetDataPreprocessor', mean='backbone')
    cfg = Config(dict(model=dict(backbone=LITE),
                      data_preprocessor=preprocessor))
    fill_in_normalisation(cfg)
    assert cfg.data_preprocessor.std == [127.5] * 3
    for other in (config(LITE, **IMAGENET), config(dict(type='ResNet')),
                  Config(dict(model=dict(type='X'))), Config(dict(a=1))):
        before = copy.deepcopy(other.to_dict())
        fill_in_normalisation(other)
        assert other.to_dict() == before


@pytest.mark.parametrize('cfg, message', [
    (config(dict(type='ResNet', depth=50), mean='backbone'),
     'only those of a TimmBackbone or Torch'),
    (config(LITE, mean='imagenet'), "mean or std is 'imagenet'; expected"),
    (config(LITE, mean='backbone', std='1'), "mean or std is "),
    (config(dict(type='TimmBackbone', model_name='tf_efficientnet_light0'),
            mean='backbone'), "Did you mean 'tf_efficientnet_lite"),
])
def test_what_cannot_be_filled_in_is_said(cfg, message):
    with pytest.raises(ValueError, match=message):
        fill_in_normalisation(cfg)


def test_other_numbers_than_the_weights_are_told():
    def told(backbone=LITE, loader=None, **given) -> str:
        cfg = config(backbone, **given)
        cfg.train_dataloader = loader
        return other_normalisation(cfg)

    lite = dict(mean=[127., 127, 127], std=[128., 128, 128], bgr_to_rgb=True)
    assert not told(**lite)  # the files' own, not timm's
    assert not told(**{**lite, 'bgr_to_rgb': False}, rgb_to_bgr=True)
    text = told(**IMAGENET)
    assert 'data_preprocessor has mean=[123.675, 116.28, 103.53]' in text
    assert 'trained with mean=[127.5, 127.5, 127.5], std=[127.5' in text
    assert text.endswith("mean='backbone', which sets all three.")
    for wrong in ({**lite, 'bgr_to_rgb': False},  # blue, green, red
                  {**lite, 'mean': [.5] * 3, 'std': [.5] * 3},  # of 0 to 1
                  {**lite, 'std': [1.] * 3}, {**lite, 'mean': [127.]}, {}):
        assert told(**wrong)
    assert told(SQUEEZENET, **lite) and not told(SQUEEZENET, **IMAGENET)
    assert told(SQUEEZENET, mean=IMAGENET['mean'][::-1],
                std=IMAGENET['std'], bgr_to_rgb=True)
    # Random weights, other backbones, and pipelines that normalise.
    assert not told({**LITE, 'pretrained': False}, **IMAGENET)
    assert not told(dict(type='ResNet', depth=18), **lite)
    assert not told(loader=dict(dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Normalize')])))


STUDENT = '''
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
custom_imports = dict(imports=['mtpd'])
model = dict(backbone=dict(
    _delete_=True, type='TimmBackbone', model_name='tf_efficientnet_lite0',
    pretrained='absent.pth'){mean})
mtpd = dict(
    student=dict(checkpoint=None), order=['r50'],
    teachers=dict(r50=dict(
        config='mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
        checkpoint='https://none.example/r50.pth')))
'''


def test_plan_and_dry_run_tell_and_stock_mmdet_reads_the_result(tmp_path):
    def read(mean: str, **options) -> Config:
        path = tmp_path / 'student.py'
        path.write_text(STUDENT.format(mean=mean))
        return read_config(argparse.Namespace(
            config=str(path), launcher='none', local_rank=0,
            work_dir=str(tmp_path / 'w'), cfg_options=options))

    plain = read('')
    text = describe_plan(make_plan(plain))
    assert 'Warning   student: data_preprocessor has mean=[123.675' in text

    asks = ', data_preprocessor=dict(mean="backbone")'
    cfg = read(asks)
    assert 'Warning' not in describe_plan(make_plan(cfg))
    cfg.dump(str(tmp_path / 'dumped.py'))
    stock = MODELS.build(Config.fromfile(str(
        tmp_path / 'dumped.py')).model.data_preprocessor)
    image = torch.randint(256, (3, 32, 64), dtype=torch.uint8)
    made = stock(dict(inputs=[image], data_samples=None))['inputs'][0]
    torch.testing.assert_close(made, image[[2, 1, 0]].float() / 127.5 - 1)
    # An option may change the backbone.
    changed = read(asks, **{
        'model.backbone.model_name': 'mobilenetv3_small_050'})
    assert changed.model.data_preprocessor.mean == IMAGENET['mean']
    with pytest.raises(PlanError, match="mean or std is 'rgb'"):
        read(', data_preprocessor=dict(mean="rgb")')

    # A dry run looks into the file, too: nothing has to be fetched for it.
    assert starts_from_file(cfg.model)
    assert not starts_from_file(Config(dict(backbone=SQUEEZENET)))
    problems = '\n'.join(check(cfg, data_is_checked=True,
                               fetches=False).problems)
    assert 'tf_efficientnet_lite0 in absent.pth could not be read' in problems


def test_a_teacher_keeps_its_own_numbers():
    teacher = config(LITE, mean='backbone')
    fill_in_normalisation(teacher)
    student = config(SQUEEZENET, **IMAGENET)
    both = MODELS.build(dict(
        type='DistillDataPreprocessor',
        student=MODELS.build(student.model.data_preprocessor),
        teachers=dict(lite=teacher.model.data_preprocessor)))
    image = torch.randint(256, (3, 32, 64), dtype=torch.uint8)
    batch = both(dict(inputs=[image], data_samples=None), True)
    rgb = image[[2, 1, 0]].float()
    mean, std = (torch.tensor(IMAGENET[key]).view(3, 1, 1)
                 for key in ('mean', 'std'))
    torch.testing.assert_close(batch['teacher_inputs']['lite'][0],
                               rgb / 127.5 - 1)
    torch.testing.assert_close(batch['inputs'][0], (rgb - mean) / std)
