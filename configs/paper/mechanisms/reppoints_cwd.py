# RepPoints-R50 taught by RepPoints R101 > X101-DCN, by CWD.
# Source: the paper's comparison of mechanisms; all settings but the mechanism
#   are those of MGD, the only one with released configs.
# Expected: box AP 42.4; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/reppoints_cwd.py
_base_ = './reppoints_mgd.py'
mtpd = dict(distill=dict(type='CWDLoss'))
