# Mask R-CNN-R50 taught by ResNeXt detectors.
# Source: the paper's ResNeXt pool; its members are our reading: mmdet's public
#   detectors of that kind.
# Expected: not known to us; not run by us.
# GPU hours: about 3 for the costs in the paper, by gradient descent; training
#   was not measured.
#   python tools/bgs_order.py configs/paper/pools/mask_rcnn_resnext.py
#   python tools/train.py configs/paper/pools/mask_rcnn_resnext.py
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
          '../../_base_/zoo.py']
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.mask_rcnn_r50.checkpoint),
    teachers=dict(
        x101_32x4d=_base_.zoo.mask_rcnn_x101_32x4d,
        x101_64x4d=_base_.zoo.mask_rcnn_x101_64x4d,
        cascade_x101_64x4d=_base_.zoo.cascade_mask_rcnn_x101_64x4d),
    order='bgs', max_teachers=2,
    distill=dict(type='FeatureL2Loss', loss_weight=0.5, normalise=True))
