# mmdet's RetinaNet on Swin-T, its model alone, as `retinanet_swin`: mmengine
# refuses two bases that set one field, and schedule and pipelines come from
# another config.
_base_ = 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py'
retinanet_swin = _base_.model
_base_.clear()
