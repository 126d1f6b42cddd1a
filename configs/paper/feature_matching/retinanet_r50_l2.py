# Student I: RetinaNet-R50 taught by HTC > DetectoRS, by feature matching.
# Source: the paper's feature matching, order III IV.
# Expected: box AP 36.5 > 37.9 > 39.9; as published, not run by us, with a loss
#   weight that the paper does not give (ours: docs/method.md).
# GPU hours: not measured.
#   python tools/train.py configs/paper/feature_matching/retinanet_r50_l2.py
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
          '../_base_/teachers.py']
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.retinanet_r50.checkpoint),
    order=['htc', 'detectors'],
    distill=dict(type='FeatureL2Loss', loss_weight=0.5, normalise=True))
