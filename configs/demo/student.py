"""The demo's student: the smallest RetinaNet that still learns the shapes."""
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    './dataset.py', './schedule.py']

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        depth=18, base_channels=4, frozen_stages=-1, norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[4, 8, 16, 32], out_channels=16),
    bbox_head=dict(
        num_classes=5, in_channels=16, feat_channels=16, stacked_convs=1,
        norm_cfg=dict(type='GN', num_groups=4),
        # shapes of 12 to 46 pixels need anchors from 16 pixels, not 32
        anchor_generator=dict(octave_base_scale=3)))

optim_wrapper = dict(optimizer=dict(lr=5e-3))
max_epochs = 14
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=25),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
