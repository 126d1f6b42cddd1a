# Mask R-CNN-R50 with the RPN, box and mask head of Mask R-CNN Swin-T, taught
# by it and then by Swin-S, by MGD; 2 x 12 epochs.
# Why: the tensors of these heads have the same shapes, and the heads were
# trained on the maps that the student learns to imitate (Kang et al. 2021,
# arXiv 2110.12724, "inheriting strategy"). The student keeps its own neck: the
# lateral convolutions of the two necks take other channels.
# Expected: we aim at more than 42.6/38.4 box/mask AP; NOT YET RUN on COCO by
# us.
#   python tools/train.py configs/recipes/mask-rcnn_r50_inherit_swin.py
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
          './_base_/swin_teachers.py']
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.mask_rcnn_r50.checkpoint),
    inherit=('head',), distill=dict(type='MGDLoss'))
