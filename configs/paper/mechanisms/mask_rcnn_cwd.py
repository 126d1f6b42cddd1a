# Mask R-CNN-R50 taught by Cascade Mask R-CNN R50-DCN > X101-DCN, by CWD.
# Source: the paper's comparison of mechanisms; all settings but the mechanism
#   are those of MGD, the only one with released configs.
# Expected: box / mask AP 41.2 / 37.2; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/mask_rcnn_cwd.py
_base_ = './mask_rcnn_mgd.py'
mtpd = dict(distill=dict(type='CWDLoss'))
