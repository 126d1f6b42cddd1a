# mmdet's DetectoRS-R50, its model alone, as `detectors`: mmengine refuses two
# bases that set one field, and the rest comes from another config.
_base_ = 'mmdet::detectors/detectors_htc-r50_1x_coco.py'
detectors = _base_.model
_base_.clear()
