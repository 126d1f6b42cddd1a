# Mask R-CNN-R50 taught by Cascade Mask R-CNN X101-DCN alone, by FGD, for as
# many epochs as mask_rcnn_fgd.py.
# Source: the paper's comparison of mechanisms, direct; schedule and start as
#   for MGD.
# Expected: box / mask AP 42.1 / 37.8; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/mask_rcnn_fgd_direct.py
_base_ = './mask_rcnn_mgd_direct.py'
mtpd = dict(distill=dict(type='FGDLoss'))
