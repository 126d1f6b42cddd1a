# The model of mmdet's RetinaNet on Swin-T as `retinanet_swin`. Only the model,
# because mmengine refuses two bases that set the same field, and schedule and
# pipelines come from another config.
_base_ = 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py'
retinanet_swin = _base_.model
_base_.clear()
