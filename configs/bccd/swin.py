"""A teacher on BCCD: RetinaNet on a small Swin transformer."""
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    './dataset.py', './schedule.py']

model = dict(
    backbone=dict(
        _delete_=True, type='SwinTransformer', embed_dims=32,
        depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 8), window_size=4,
        out_indices=(0, 1, 2, 3), drop_path_rate=0.1, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    bbox_head=dict(
        num_classes=3, in_channels=64, feat_channels=64, stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=8)))

max_epochs = 14
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=26),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
