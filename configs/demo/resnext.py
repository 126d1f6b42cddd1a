"""A teacher of the demo's pool: RetinaNet on a small ResNeXt."""
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    './dataset.py', './schedule.py']

model = dict(
    backbone=dict(
        type='ResNeXt', groups=8, base_width=4, base_channels=16,
        frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64),
    bbox_head=dict(
        num_classes=5, in_channels=64, feat_channels=64, stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(octave_base_scale=3)))

optim_wrapper = dict(optimizer=dict(lr=6e-3))
max_epochs = 11
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=25),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
