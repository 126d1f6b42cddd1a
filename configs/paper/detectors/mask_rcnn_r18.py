# Student III before it is taught: Mask R-CNN-R18.
# Source: the paper's students; mmdet's zoo has no checkpoint of it.
# Expected: box AP 33.3; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/detectors/mask_rcnn_r18.py
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(
        depth=18, init_cfg=dict(checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[64, 128, 256, 512]))
