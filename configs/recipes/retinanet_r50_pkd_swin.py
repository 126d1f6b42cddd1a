# RetinaNet-R50 taught by Mask R-CNN Swin-T, then Swin-S, by PKD; 2 x 12
# epochs.
# Why: PKD does not depend on the scale of the maps, which differs between a
# RetinaNet and a Mask R-CNN. Swin-S alone gives 41.5 in 24 epochs (Cao et al.
# 2022, arXiv 2207.02039), and with other mechanisms a weaker teacher before it
# added 0.1 to 0.8 AP at equal epochs (arXiv 2308.09105). Weight: 6, its
# authors'.
# Expected: we aim at more than 42.0 box AP; NOT YET RUN on COCO by us.
#   python tools/train.py configs/recipes/retinanet_r50_pkd_swin.py
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
          './_base_/swin_teachers.py']
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.retinanet_r50.checkpoint),
    distill=dict(type='PKDLoss', loss_weight=6))
