# Mask R-CNN Swin-T, then Swin-S, from mmdet's zoo (box / mask AP there: 46.0 /
# 41.6 and 48.2 / 43.2): the pair that the paper's best results are taught by.
# Its RetinaNet-Swin teachers were never released.
zoo = 'https://download.openmmlab.com/mmdetection/v2.0/'
mtpd = dict(
    teachers=dict(
        swin_t=dict(config='mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py', ap=46.0, checkpoint=zoo + 'swin/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco_20210906_131725-bacf6f7b.pth'),  # noqa: E501
        swin_s=dict(config='mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py', ap=48.2, checkpoint=zoo + 'swin/mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco/mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco_20210903_104808-b92c91f1.pth')),  # noqa: E501
    order=['swin_t', 'swin_s'])
