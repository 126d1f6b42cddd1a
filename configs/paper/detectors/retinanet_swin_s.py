# RetinaNet on Swin-S, the last teacher of mechanisms/retinanet_swin_mgd.py.
# Source: the paper's release names it retinanet_swin-s fp16 ms-crop-3x and has
#   neither config nor weights; here mmdet's RetinaNet on Swin-T, with Swin-S
#   as backbone and the schedule, crops and AMP of mmdet's Mask R-CNN on
#   Swin-S.
# Expected: not published; not run by us.
# GPU hours: not measured. It trains in mixed precision, on a GPU only.
#   python tools/train.py configs/paper/detectors/retinanet_swin_s.py
_base_ = [
    'mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    '../_base_/retinanet_swin.py']
_base_.retinanet_swin.backbone = dict(
    _base_.model.backbone, out_indices=(1, 2, 3))
model = dict(_delete_=True, **_base_.retinanet_swin)
_base_.train_pipeline[1].with_mask = False
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
val_evaluator = test_evaluator = dict(metric='bbox')
