# Mask R-CNN-R50 taught by Cascade Mask R-CNN R50-DCN > X101-DCN, by FGD.
# Source: the paper's comparison of mechanisms; all settings but the mechanism
#   are those of MGD, the only one with released configs.
# Expected: box / mask AP 42.4 / 38.0; as published, not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/mechanisms/mask_rcnn_fgd.py
_base_ = './mask_rcnn_mgd.py'
mtpd = dict(distill=dict(type='FGDLoss'))
