"""A teacher on DeepPCB that has seen ImageNet, trained on all labels.

    python tools/get_weights.py efficientnet-lite0
"""
_base_ = './wide.py'

model = dict(
    data_preprocessor=dict(mean='backbone'),
    backbone=dict(
        _delete_=True, type='TimmBackbone',
        model_name='tf_efficientnet_lite0',
        pretrained='weights/tf_efficientnet_lite0.pth'),
    neck=dict(in_channels=[24, 40, 112, 320]))
custom_imports = dict(imports=['mtpd'])

max_epochs = 16
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
