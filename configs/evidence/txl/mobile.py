# A student of the pretrained teacher's own family, with all labels: a
# RetinaNet on a third of MobileNetV2's width, from random weights.
_base_ = './labels_850.py'

model = dict(
    backbone=dict(
        _delete_=True, type='MobileNetV2', widen_factor=0.35,
        out_indices=(1, 2, 4, 6)),
    neck=dict(in_channels=[8, 16, 32, 112]))
