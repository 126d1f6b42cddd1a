# RetinaNet-R50 taught by RetinaNet Swin-S alone, by MGD, for as many epochs as
# retinanet_swin_mgd.py.
# Source: the paper's comparison of mechanisms, direct; one run of 24 epochs
#   with mmdet's 2x decay, as MGD's authors train, not two 1x runs.
# Expected: not known to us; not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/detectors/retinanet_swin_s.py
#   python tools/train.py configs/paper/mechanisms/retinanet_swin_mgd_direct.py
_base_ = './retinanet_swin_mgd.py'
train_cfg = dict(max_epochs=24)
_base_.param_scheduler[1].update(end=24, milestones=[16, 22])
mtpd = dict(order=['swin_s'])
