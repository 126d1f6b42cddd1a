"""The student on TXL-PBC: a RetinaNet on a quarter of ResNet-18's width."""
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './dataset.py']

model = dict(
    backbone=dict(
        depth=18, base_channels=16, frozen_stages=-1, norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64),
    bbox_head=dict(
        num_classes=3, in_channels=64, feat_channels=64, stacked_convs=1,
        norm_cfg=dict(type='GN', num_groups=8),
        # Cells of 20 to 60 pixels: anchors from 16 pixels, not 32.
        anchor_generator=dict(octave_base_scale=2)))

max_epochs = 6
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=26),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
