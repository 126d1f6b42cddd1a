"""A teacher on TXL-PBC that has seen ImageNet, trained on all labels: a
RetinaNet on the whole MobileNetV2.

    python tools/get_weights.py mobilenet-v2
"""
_base_ = './wide_24.py'

model = dict(
    data_preprocessor=dict(mean='backbone'),
    backbone=dict(
        _delete_=True, type='TorchvisionBackbone', model_name='mobilenet_v2',
        pretrained='weights/mobilenet_v2-b0353104.pth'),
    neck=dict(in_channels=[24, 32, 96, 320]))
custom_imports = dict(imports=['mtpd'])
