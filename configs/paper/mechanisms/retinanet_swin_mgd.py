# RetinaNet-R50 taught by RetinaNet Swin-T > Swin-S, by MGD.
# Source: the paper's comparison of mechanisms; start, clipping and teachers as
#   in its released configs.
# Expected: box AP 42.0; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/detectors/retinanet_swin_t.py
#   python tools/train.py configs/paper/detectors/retinanet_swin_s.py
#   python tools/train.py configs/paper/mechanisms/retinanet_swin_mgd.py
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
          '../../_base_/zoo.py']
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
mtpd = dict(
    student=dict(checkpoint=None),  # ImageNet's backbone
    inherit=('neck', 'head'),
    teachers=dict(
        swin_t=dict(
            config='configs/paper/detectors/retinanet_swin_t.py',
            checkpoint='work_dirs/retinanet_swin_t/epoch_36.pth'),
        swin_s=dict(
            config='configs/paper/detectors/retinanet_swin_s.py',
            checkpoint='work_dirs/retinanet_swin_s/epoch_36.pth')),
    order=['swin_t', 'swin_s'],
    distill=dict(type='MGDLoss'))
