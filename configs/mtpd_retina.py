# RetinaNet-R50 on COCO, taught progressively by mmdet's public detectors.
#   python tools/bgs_order.py configs/mtpd_retina.py    # who teaches when
#   python tools/train.py configs/mtpd_retina.py        # order, stages, export
# COCO under data/coco/; checkpoints are fetched. Each stage is a 1x schedule.
# --dry-run prints the plan; the run estimates its hours before stage 1.
# Published box AP in mmdet's model zoo: student 36.5; teachers 41.0, 46.0,
# 48.2. Not yet run on COCO by us: loss_weight is a starting point.
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', './_base_/zoo.py']
mtpd = dict(
    student=dict(checkpoint=_base_.zoo.retinanet_r50.checkpoint),
    teachers=dict(
        x101=_base_.zoo.retinanet_x101_1x,
        swin_t=_base_.zoo.mask_rcnn_swin_t,
        swin_s=_base_.zoo.mask_rcnn_swin_s),
    order='bgs', max_teachers=2,
    distill=dict(type='FeatureL2Loss', loss_weight=0.5, normalise=True))
