"""A teacher on TXL-PBC: the student with twice its backbone's width, trained
on all labels, with stronger augmentation."""
_base_ = './student.py'

model = dict(
    backbone=dict(base_channels=32), neck=dict(in_channels=[32, 64, 128, 256]))
train_pipeline = _base_.train_pipeline
train_pipeline[2:3] = [
    dict(type='RandomResize', scale=_base_.scale, ratio_range=(0.8, 1.3),
         keep_ratio=True),
    dict(type='RandomCrop', crop_size=_base_.scale, allow_negative_crop=True)]
train_pipeline.insert(-1, dict(type='PhotoMetricDistortion'))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 16
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
