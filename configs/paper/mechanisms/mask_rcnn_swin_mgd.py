# Mask R-CNN-R50 taught by Mask R-CNN Swin-T > Swin-S, by MGD.
# Source: the paper's comparison of mechanisms; start, levels, clipping and
#   teachers as in its released configs.
# Expected: box / mask AP 42.6 / 38.4; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/mask_rcnn_swin_mgd.py
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
          '../../_base_/zoo.py']
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
mtpd = dict(
    student=dict(checkpoint=None),  # ImageNet's backbone
    inherit=('neck', 'head'),
    strides=(4, 8, 16, 32),
    teachers=dict(
        swin_t=_base_.zoo.mask_rcnn_swin_t,
        swin_s=_base_.zoo.mask_rcnn_swin_s),
    order=['swin_t', 'swin_s'],
    distill=dict(type='MGDLoss'))
