# RetinaNet as in mmdet, 1x, with half the channels after the backbone: 128 in
# FPN and head. The light students with this head change only the backbone.
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mtpd'])
model = dict(
    neck=dict(out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=128))
# The learning rate is mmdet's for 16 images per step (8 GPUs of 2).
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
