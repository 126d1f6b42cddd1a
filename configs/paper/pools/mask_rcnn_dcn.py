# Mask R-CNN-R50 taught by detectors with deformable convolutions.
# Source: the paper's DCN pool; its members are our reading: mmdet's public
#   detectors of that kind, among them the two of the paper's released configs.
# Expected: not known to us; not run by us.
# GPU hours: about 3 for the costs in the paper, by gradient descent; training
#   was not measured.
#   python tools/bgs_order.py configs/paper/pools/mask_rcnn_dcn.py
#   python tools/train.py configs/paper/pools/mask_rcnn_dcn.py
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
          '../../_base_/zoo.py']
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.mask_rcnn_r50.checkpoint),
    teachers=dict(
        r50=_base_.zoo.mask_rcnn_r50_dcn,
        r101=_base_.zoo.mask_rcnn_r101_dcn,
        cascade_r50=_base_.zoo.cascade_mask_rcnn_r50_dcn,
        cascade_r101=_base_.zoo.cascade_mask_rcnn_r101_dcn,
        cascade_x101=_base_.zoo.cascade_mask_rcnn_x101_dcn),
    order='bgs', max_teachers=2,
    distill=dict(type='FeatureL2Loss', loss_weight=0.5, normalise=True))
