"""The student of the evidence on BCCD: a RetinaNet on a quarter of ResNet-18's
width, which sees the images at 160x120."""
_base_ = '../../bccd/student.py'

scale = (160, 120)
# A list in a config replaces the base's list as a whole: here it is the base's
# list with another Resize.
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = scale
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = scale
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

model = dict(
    backbone=dict(base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64),
    bbox_head=dict(
        in_channels=64, feat_channels=64,
        # Cells of 20 to 60 pixels: anchors from 16 pixels, not 32.
        anchor_generator=dict(octave_base_scale=2)))

max_epochs = 24
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=26),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
