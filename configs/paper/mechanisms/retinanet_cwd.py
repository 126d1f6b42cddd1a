# RetinaNet-R50 taught by RetinaNet R101 > X101, by CWD.
# Source: the paper's comparison of mechanisms; all settings but the mechanism
#   are those of MGD, the only one with released configs.
# Expected: box AP 40.2; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/retinanet_cwd.py
_base_ = './retinanet_mgd.py'
mtpd = dict(distill=dict(type='CWDLoss'))
