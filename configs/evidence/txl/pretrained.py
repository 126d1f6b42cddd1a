"""A teacher on TXL-PBC that has seen ImageNet, trained on all labels.

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
