# Mask R-CNN-R50 for comparing orders, 3 epochs for each teacher with a
# linearly falling learning rate.
# Source: the paper's comparison of orders. To train another one, add
#   --cfg-options mtpd.order=A,B,C and another --work-dir.
# Expected: not known to us; not run by us.
# GPU hours: not measured.
#   python tools/train.py configs/paper/detectors/mask_rcnn_detectors_r50.py
#   python tools/train.py configs/paper/order_search/mask_rcnn_r50_3e.py
_base_ = '../feature_matching/mask_rcnn_r50_l2.py'
train_cfg = dict(max_epochs=3)
param_scheduler = [
    _base_.param_scheduler[0],  # mmdet's warm-up
    dict(type='LinearLR', start_factor=1, end_factor=0, begin=0, end=3,
         by_epoch=True, convert_to_iter_based=True)]
