# Mask R-CNN-R50 taught by Cascade Mask R-CNN X101-DCN alone, by CWD, for as
# many epochs as mask_rcnn_cwd.py.
# Source: the paper's comparison of mechanisms, direct; schedule and start as
#   for MGD.
# Expected: box / mask AP 41.0 / 37.0; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/mask_rcnn_cwd_direct.py
_base_ = './mask_rcnn_mgd_direct.py'
mtpd = dict(distill=dict(type='CWDLoss'))
