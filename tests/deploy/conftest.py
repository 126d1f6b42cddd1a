"""Thin detectors of the families that can be exported, as a user has them."""
import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from conftest import CLASSES, dataset

FAMILIES = {
    'retinanet': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'fcos': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',  # BGR
    'gfl': 'gfl/gfl_r50_fpn_1x_coco.py',
    'atss': 'atss/atss_r50_fpn_1x_coco.py',
    'rtmdet': 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'faster_rcnn': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mask_rcnn': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'swin': 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    'cascade': 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    'dcn': 'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py',
    'rpn': 'rpn/rpn_r50_fpn_1x_coco.py',
    'detr': 'detr/detr_r50_8xb2-150e_coco.py'}


@pytest.fixture(scope='session')
def detector_of(drawn, tmp_path_factory):
    """A detector's config file and checkpoint: random weights, drawn test and
    training images."""
    made = {}

    def write(name: str) -> SimpleNamespace:
        if name not in made:
            made[name] = _write(name, drawn, tmp_path_factory.mktemp(name))
        return made[name]
    return write


def _write(name, drawn, folder) -> SimpleNamespace:
    from mmdet.registry import MODELS
    from mtpd.plan.detectors import load_config
    from mtpd.randomness import isolate_rng
    from shrink import shrunk
    model = load_config(f'mmdet::{FAMILIES[name]}').model
    if model.backbone.type == 'ResNet' and name != 'dcn':
        model.backbone.depth = 18  # traced in half the time
    model = shrunk(model)
    steps = [dict(type='LoadImageFromFile'),
             dict(type='Resize', scale=(120, 72), keep_ratio=True)]
    if name == 'rtmdet':  # whose neck takes multiples of 32 only
        steps.append(dict(type='Pad', size=(128, 96),
                          pad_val=dict(img=(114, 114, 114))))
    steps += [dict(type='LoadAnnotations', with_bbox=True),
              dict(type='PackDetInputs', meta_keys=(
                  'img_id', 'img_path', 'ori_shape', 'img_shape',
                  'scale_factor'))]
    of = {split: dict(
        batch_size=4, num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset={**dataset(drawn, split), 'pipeline': steps})
        for split in ('train', 'val')}
    cfg = Config(dict(
        default_scope='mmdet', model=copy.deepcopy(model),
        train_dataloader=of['train'], val_dataloader=of['val'],
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(
            type='CocoMetric', metric='bbox',
            ann_file=f'{drawn}/annotations/instances_val.json')))
    config, checkpoint = folder / 'student.py', folder / 'student.pth'
    cfg.dump(str(config))
    with isolate_rng(0):
        detector = MODELS.build(copy.deepcopy(model))
        for parameter in detector.parameters():
            parameter.data += .05 * torch.randn_like(parameter)
    torch.save(dict(state_dict=detector.state_dict(), meta=dict(
        dataset_meta=dict(classes=CLASSES))), checkpoint)
    return SimpleNamespace(name=name, config=str(config),
                           checkpoint=str(checkpoint), cfg=cfg)
