# RetinaNet-R50 with the neck and head of RetinaNet-X101 (41.6), taught by it,
# then by Mask R-CNN Swin-T and Swin-S, by PKD; 3 x 12 epochs.
# Why: neck and head of the two agree tensor by tensor, so the student starts
# with a head that reads the very maps that it is drawn to (Kang et al. 2021,
# arXiv 2110.12724, "inheriting strategy"); its backbone has to follow.
# Weight 6 suits the last two stages; X101 alone has 10 in PKD's own runs.
# Expected: aims past 42.0 box AP; NOT YET RUN on COCO by us.
#   python tools/train.py configs/recipes/retinanet_r50_inherit_x101_swin.py
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
          './_base_/swin_teachers.py']
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.retinanet_r50.checkpoint),
    teachers=dict(x101=_base_.zoo.retinanet_x101),
    order=['x101', 'swin_t', 'swin_s'], inherit=('neck', 'head'),
    distill=dict(type='PKDLoss', loss_weight=6))
