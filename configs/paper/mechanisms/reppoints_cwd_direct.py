# RepPoints-R50 taught by RepPoints X101-DCN alone, by CWD, for as many epochs
# as reppoints_cwd.py.
# Source: the paper's comparison of mechanisms, direct; schedule and start as
#   for MGD.
# Expected: box AP 42.0; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/reppoints_cwd_direct.py
_base_ = './reppoints_mgd_direct.py'
mtpd = dict(distill=dict(type='CWDLoss'))
