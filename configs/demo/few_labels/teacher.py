"""The demo's teacher: six times the student's width, and all labels."""
_base_ = './student.py'

train_dataloader = dict(dataset=dict(indices=900))
model = dict(
    backbone=dict(base_channels=24), neck=dict(in_channels=[24, 48, 96, 192]))
optim_wrapper = dict(optimizer=dict(lr=4e-3))

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=25),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
