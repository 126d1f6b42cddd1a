# RepPoints-R50 taught by RepPoints R101 > X101-DCN, by MGD.
# Source: the paper's comparison of mechanisms; start, clipping and teachers as
#   in its released configs.
# Expected: box AP 42.9; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/reppoints_mgd.py
_base_ = ['mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco.py',
          '../../_base_/zoo.py']
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
mtpd = dict(
    student=dict(checkpoint=None),  # ImageNet's backbone
    inherit=('neck', 'head'),
    teachers=dict(
        r101=_base_.zoo.reppoints_r101,
        x101_dcn=_base_.zoo.reppoints_x101_dcn),
    order=['r101', 'x101_dcn'],
    distill=dict(type='MGDLoss'))
