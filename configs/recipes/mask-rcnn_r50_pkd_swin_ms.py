# Mask R-CNN-R50 by PKD, from mmdet's multi-scale 3x student (40.9/37.1 instead
# of 38.2/34.7), images of 640 to 800 pixels' height; 2 x 12 epochs. Why: see
# retinanet_r50_pkd_swin_ms.py. Do not compare it with results of 1x students.
# Expected: we aim at more than 42.6/38.4 box/mask AP; NOT YET RUN on COCO by
# us.
#   python tools/train.py configs/recipes/mask-rcnn_r50_pkd_swin_ms.py
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco.py',
          './_base_/swin_teachers.py']
# 12 epochs, each with COCO once; an epoch of mmdet's 3x has it three times.
train_dataloader = dict(dataset=dict(times=1))
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.mask_rcnn_r50_3x.checkpoint),
    distill=dict(type='PKDLoss'))
