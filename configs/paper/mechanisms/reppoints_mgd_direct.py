# RepPoints-R50 taught by RepPoints X101-DCN alone, by MGD, for as many epochs
# as reppoints_mgd.py.
# Source: the paper's comparison of mechanisms, direct; one run of 24 epochs
#   with mmdet's 2x decay, as MGD's authors train, not two 1x runs.
# Expected: box AP 42.3; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/reppoints_mgd_direct.py
_base_ = './reppoints_mgd.py'
train_cfg = dict(max_epochs=24)
_base_.param_scheduler[1].update(end=24, milestones=[16, 22])
mtpd = dict(order=['x101_dcn'])
