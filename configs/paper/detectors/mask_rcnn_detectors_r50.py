# Teacher V: DetectoRS' backbone and neck with a Mask R-CNN head.
# Source: the paper's pool; no weights were released. Backbone and neck are
#   those of mmdet's DetectoRS; head, data and 1x schedule are those of its
#   Mask R-CNN-R50.
# Expected: not known to us; not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/detectors/mask_rcnn_detectors_r50.py
_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', '../_base_/detectors.py']
model = dict(
    backbone=dict(_delete_=True, **_base_.detectors.backbone),
    neck=dict(_delete_=True, **_base_.detectors.neck))
