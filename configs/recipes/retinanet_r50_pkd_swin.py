# RetinaNet-R50 by PKD below Mask R-CNN Swin-T, then Swin-S; 2 x 12 epochs.
# Why: PKD compares no scales, which differ between a RetinaNet and a Mask
# R-CNN; Swin-S alone gives 41.5 in 24 epochs (Cao et al. 2022, arXiv
# 2207.02039), and a weaker teacher before it gave 0.1 to 0.8 AP with other
# mechanisms at equal epochs (arXiv 2308.09105). Weight 6: the authors' there.
# Expected: aims past 42.0 box AP; NOT YET RUN on COCO by us.
#   python tools/train.py configs/recipes/retinanet_r50_pkd_swin.py
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
          './_base_/swin_teachers.py']
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.retinanet_r50.checkpoint),
    distill=dict(type='PKDLoss', loss_weight=6))
