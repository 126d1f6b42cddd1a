"""A progression small enough to run in seconds: 2 stages of 2 epochs."""
import copy
from functools import partial

import pytest
from mmengine.config import Config

CLASSES = ('disc', 'triangle', 'square', 'star', 'cross')


def dataset(root, split: str, **changes) -> dict:
    steps = [dict(type='LoadImageFromFile'),
             dict(type='Resize', scale=(96, 64), keep_ratio=True)]
    if split == 'train':
        steps += [dict(type='LoadAnnotations', with_bbox=True),
                  dict(type='RandomFlip', prob=0.5),
                  dict(type='PackDetInputs')]
    else:
        steps += [dict(type='LoadAnnotations', with_bbox=True),
                  dict(type='PackDetInputs', meta_keys=(
                      'img_id', 'img_path', 'ori_shape', 'img_shape',
                      'scale_factor'))]
    return dict(type='CocoDataset', data_root=str(root),
                metainfo=dict(classes=CLASSES),
                ann_file=f'annotations/instances_{split}.json',
                data_prefix=dict(img=f'{split}/'), pipeline=steps,
                test_mode=split == 'val', **changes)


@pytest.fixture(scope='session')
def toy_in(drawn, retinanet, swin_mask_rcnn, checkpoint_of, tmp_path_factory):
    """cfg(work_dir, **changes of cfg.mtpd): random student, random Swin and
    FPN teachers with declared APs."""
    def loader(split, shuffle):
        return dict(batch_size=8, num_workers=0,
                    sampler=dict(type='DefaultSampler', shuffle=shuffle),
                    dataset=dataset(drawn, split))

    wide = copy.deepcopy(retinanet)
    wide.neck.out_channels = 24
    wide.bbox_head.in_channels = 24
    configs = {}
    for name, model in (('swin', swin_mask_rcnn), ('wide', wide)):
        path = str(tmp_path_factory.mktemp('configs') / f'{name}.py')
        Config(dict(model=model)).dump(path)
        configs[name] = dict(config=path, checkpoint=checkpoint_of(
            model, {'swin': 1, 'wide': 2}[name], name),
            ap={'swin': 30., 'wide': 20.}[name])
    student = checkpoint_of(retinanet, 3, 'student')

    def cfg(work_dir, **changes) -> Config:
        validation = loader('val', False)
        return Config(copy.deepcopy(dict(
            default_scope='mmdet', model=retinanet,
            train_dataloader=loader('train', True), val_dataloader=validation,
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2,
                           val_interval=2),
            val_cfg=dict(type='ValLoop'),
            val_evaluator=dict(type='CocoMetric', metric='bbox', ann_file=str(
                drawn / 'annotations' / 'instances_val.json')),
            optim_wrapper=dict(type='OptimWrapper',
                               optimizer=dict(type='SGD', lr=0.004)),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.25, by_epoch=False,
                     begin=0, end=3),
                dict(type='MultiStepLR', milestones=[1], gamma=0.5)],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                param_scheduler=dict(type='ParamSchedulerHook'),
                checkpoint=dict(type='CheckpointHook', interval=1)),
            visualizer=dict(type='DetLocalVisualizer', name='visualizer',
                            vis_backends=[dict(type='LocalVisBackend')]),
            randomness=dict(seed=0), work_dir=str(work_dir),
            mtpd={**dict(student=dict(checkpoint=student), teachers=configs,
                         order=['wide', 'swin'],
                         distill=dict(type='FeatureL2Loss', loss_weight=1.0)),
                  **changes})))
    return cfg


@pytest.fixture
def toy(toy_in, tmp_path):
    """``toy_in`` with a work dir of the test's own."""
    return partial(toy_in, tmp_path / 'work')
