# RetinaNet-R50 with the neck and head of RetinaNet-X101 (41.6), taught by it,
# then by Mask R-CNN Swin-T and Swin-S, by PKD; 3 x 12 epochs.
# Why: the tensors of neck and head have the same shapes in both, so the
# student starts with a head that was trained on the maps that it learns to
# imitate (Kang et al. 2021, arXiv 2110.12724, "inheriting strategy"); only its
# backbone has to adapt. Weight 6 suits the last two stages; PKD's own runs
# have 10 for X101.
# Expected: we aim at more than 42.0 box AP; NOT YET RUN on COCO by us.
#   python tools/train.py configs/recipes/retinanet_r50_inherit_x101_swin.py
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
          './_base_/swin_teachers.py']
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.retinanet_r50.checkpoint),
    teachers=dict(x101=_base_.zoo.retinanet_x101),
    order=['x101', 'swin_t', 'swin_s'], inherit=('neck', 'head'),
    distill=dict(type='PKDLoss', loss_weight=6))
