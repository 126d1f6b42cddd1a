# Student IV before it is taught: Mask R-CNN-R50 at 0.25x input, 333x200.
# Source: the paper's students; mmdet's zoo has no checkpoint of it.
# Expected: box / mask AP 25.8 / 23.0; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/detectors/mask_rcnn_r50_quarter.py
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
_base_.train_pipeline[2].scale = _base_.test_pipeline[1].scale = (333, 200)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
