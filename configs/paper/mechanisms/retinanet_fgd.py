# RetinaNet-R50 taught by RetinaNet R101 > X101, by FGD.
# Source: the paper's comparison of mechanisms; all settings but the mechanism
#   are those of MGD, the only one with released configs.
# Expected: box AP 41.5; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/retinanet_fgd.py
_base_ = './retinanet_mgd.py'
mtpd = dict(distill=dict(type='FGDLoss'))
