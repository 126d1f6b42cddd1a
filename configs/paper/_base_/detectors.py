# The model of mmdet's DetectoRS-R50 as `detectors`. Only the model, because
# mmengine refuses two bases that set the same field.
_base_ = 'mmdet::detectors/detectors_htc-r50_1x_coco.py'
detectors = _base_.model
_base_.clear()
