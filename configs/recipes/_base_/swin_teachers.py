# Mask R-CNN Swin-T, then Swin-S, from mmdet's zoo (box / mask AP there: 46.0 /
# 41.7 and 48.2 / 43.2): the teachers of the paper's best results.
# Its RetinaNet-Swin teachers were never released.
_base_ = '../../_base_/zoo.py'
mtpd = dict(
    teachers=dict(
        swin_t=_base_.zoo.mask_rcnn_swin_t,
        swin_s=_base_.zoo.mask_rcnn_swin_s),
    order=['swin_t', 'swin_s'])
