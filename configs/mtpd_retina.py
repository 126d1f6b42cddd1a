# RetinaNet-R50 on COCO, taught progressively by mmdet's public detectors.
#   python tools/bgs_order.py configs/mtpd_retina.py    # who teaches when
#   python tools/train.py configs/mtpd_retina.py        # order, stages, export
# COCO under data/coco/; checkpoints are fetched. Each stage is a 1x schedule:
# --dry-run prints the plan, the run itself estimates hours before stage 1.
# box AP of student and pool as published in mmdet's model zoo: 36.5; 41.0,
# 46.0, 48.2. Not yet run on COCO by us: loss_weight is a starting point.
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mtpd'])
zoo = 'https://download.openmmlab.com/mmdetection/v2.0/'
mtpd = dict(
    student=dict(checkpoint=zoo + 'retinanet/retinanet_r50_fpn_1x_coco/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth'),  # noqa: E501
    teachers=dict(
        x101=dict(config='mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py', ap=41.0, checkpoint=zoo + 'retinanet/retinanet_x101_64x4d_fpn_1x_coco/retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth'),  # noqa: E501
        swin_t=dict(config='mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py', ap=46.0, checkpoint=zoo + 'swin/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco_20210906_131725-bacf6f7b.pth'),  # noqa: E501
        swin_s=dict(config='mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py', ap=48.2, checkpoint=zoo + 'swin/mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco/mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco_20210903_104808-b92c91f1.pth')),  # noqa: E501
    order='bgs', max_teachers=2,
    distill=dict(type='FeatureL2Loss', loss_weight=0.5, normalise=True))
