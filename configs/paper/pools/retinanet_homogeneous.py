# RetinaNet-R50 taught by RetinaNets with deeper and wider backbones.
# Source: the paper's homogeneous pool; its members are our reading: mmdet's
#   RetinaNets, among them the two of the paper's released configs.
# Expected: not known to us; not run by us.
# GPU hours: about 3 for the costs in the paper, by gradient descent; training
#   was not measured.
#   python tools/bgs_order.py configs/paper/pools/retinanet_homogeneous.py
#   python tools/train.py configs/paper/pools/retinanet_homogeneous.py
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
          '../../_base_/zoo.py']
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.retinanet_r50.checkpoint),
    teachers=dict(
        r101=_base_.zoo.retinanet_r101,
        x101_32x4d=_base_.zoo.retinanet_x101_32x4d,
        x101_64x4d=_base_.zoo.retinanet_x101),
    order='bgs', max_teachers=2,
    distill=dict(type='FeatureL2Loss', loss_weight=0.5, normalise=True))
