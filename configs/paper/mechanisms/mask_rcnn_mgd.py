# Mask R-CNN-R50 taught by Cascade Mask R-CNN R50-DCN > X101-DCN, by MGD.
# Source: the paper's comparison of mechanisms; start, levels, clipping and
#   teachers as in its released configs.
# Expected: box / mask AP 42.5 / 38.2; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/mask_rcnn_mgd.py
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
          '../../_base_/zoo.py']
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
mtpd = dict(
    student=dict(checkpoint=None),  # ImageNet's backbone
    inherit=('neck', 'head'),
    strides=(4, 8, 16, 32),
    teachers=dict(
        cascade_r50=_base_.zoo.cascade_mask_rcnn_r50_dcn,
        cascade_x101=_base_.zoo.cascade_mask_rcnn_x101_dcn),
    order=['cascade_r50', 'cascade_x101'],
    distill=dict(type='MGDLoss'))
