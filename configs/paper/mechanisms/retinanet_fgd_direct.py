# RetinaNet-R50 taught by RetinaNet X101 alone, by FGD, for as many epochs as
# retinanet_fgd.py.
# Source: the paper's comparison of mechanisms, direct; schedule and start as
#   for MGD.
# Expected: box AP 40.7; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/retinanet_fgd_direct.py
_base_ = './retinanet_mgd_direct.py'
mtpd = dict(distill=dict(type='FGDLoss'))
