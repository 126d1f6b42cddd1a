# Mask R-CNN-R50 taught by Mask R-CNN Swin-T, then Swin-S, by PKD; 2 x 12
# epochs.
# Why: the paper's 42.6/38.4 is MGD with these two (arXiv 2308.09105). PKD does
# not depend on the scale of the maps, so it needs no weight that was tuned for
# these teachers (arXiv 2207.02039). Weight: 6, its authors' for two-stage
# detectors and the default.
# Expected: we aim at more than 42.6/38.4 box/mask AP; NOT YET RUN on COCO by
# us.
#   python tools/train.py configs/recipes/mask-rcnn_r50_pkd_swin.py
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
          './_base_/swin_teachers.py']
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.mask_rcnn_r50.checkpoint),
    distill=dict(type='PKDLoss'))
