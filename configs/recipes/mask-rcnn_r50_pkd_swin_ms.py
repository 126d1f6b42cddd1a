# Mask R-CNN-R50 by PKD, from mmdet's multi-scale 3x student (40.9/37.1 instead
# of 38.2/34.7), images of 640 to 800 pixels' height; 2 x 12 epochs. Why: as
# retinanet_r50_pkd_swin_ms.py. Not to be compared with results of 1x students.
# Expected: aims past 42.6/38.4 box/mask AP; NOT YET RUN on COCO by us.
#   python tools/train.py configs/recipes/mask-rcnn_r50_pkd_swin_ms.py
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco.py',
          './_base_/swin_teachers.py']
# 12 epochs of COCO once each; mmdet's 3x shows it three times in an epoch.
train_dataloader = dict(dataset=dict(times=1))
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.mask_rcnn_r50_3x.checkpoint),
    distill=dict(type='PKDLoss'))
