# RetinaNet on Swin-T, the first teacher of mechanisms/retinanet_swin_mgd.py.
# Source: the paper's release names it retinanet_swin-t fp16 ms-crop-3x and has
#   neither config nor weights; here mmdet's RetinaNet on Swin-T, with the
#   schedule, crops and AMP of mmdet's Mask R-CNN on Swin-T.
# Expected: not published; not run by us.
# GPU hours: not measured. It trains in mixed precision, on a GPU only.
#   python tools/train.py configs/paper/detectors/retinanet_swin_t.py
_base_ = [
    'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    '../_base_/retinanet_swin.py']
model = dict(_delete_=True, **_base_.retinanet_swin)
_base_.train_pipeline[1].with_mask = False
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
val_evaluator = test_evaluator = dict(metric='bbox')
