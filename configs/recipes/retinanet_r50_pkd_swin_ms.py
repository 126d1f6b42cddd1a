# retinanet_r50_pkd_swin.py from mmdet's multi-scale 3x student (39.5 instead
# of 36.5), images of 640 to 800 pixels' height; 2 x 12 epochs. Why: the
# teachers were trained on many scales, and the student learns from them about
# other scales only if its own images vary; it also starts 3.0 AP higher. Do
# not compare it with results of 1x students.
# Expected: we aim at more than 42.0 box AP; NOT YET RUN on COCO by us.
#   python tools/train.py configs/recipes/retinanet_r50_pkd_swin_ms.py
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_ms-640-800-3x_coco.py',
          './_base_/swin_teachers.py']
# 12 epochs, each with COCO once; an epoch of mmdet's 3x has it three times.
train_dataloader = dict(dataset=dict(times=1))
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.retinanet_r50_3x.checkpoint),
    distill=dict(type='PKDLoss', loss_weight=6))
