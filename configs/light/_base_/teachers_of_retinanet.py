# The pool of the light RetinaNets, from mmdet's zoo (box AP as stated there):
# RetinaNet-R50 and -X101, multi-scale 3x, and Mask R-CNN Swin-T. Backward
# Greedy Selection takes Swin-T last and the nearer of the others before it.
zoo = 'https://download.openmmlab.com/mmdetection/v2.0/'
mtpd = dict(
    teachers=dict(
        r50=dict(config='mmdet::retinanet/retinanet_r50_fpn_ms-640-800-3x_coco.py', ap=39.5, checkpoint=zoo + 'retinanet/retinanet_r50_fpn_mstrain_3x_coco/retinanet_r50_fpn_mstrain_3x_coco_20210718_220633-88476508.pth'),  # noqa: E501
        x101=dict(config='mmdet::retinanet/retinanet_x101-64x4d_fpn_ms-640-800-3x_coco.py', ap=41.6, checkpoint=zoo + 'retinanet/retinanet_x101_64x4d_fpn_mstrain_3x_coco/retinanet_x101_64x4d_fpn_mstrain_3x_coco_20210719_051838-022c2187.pth'),  # noqa: E501
        swin_t=dict(config='mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py', ap=46.0, checkpoint=zoo + 'swin/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco_20210906_131725-bacf6f7b.pth')),  # noqa: E501
    order='bgs', max_teachers=2,
    # No loss that depends on a map's scale: the pool's families differ in it.
    # 6 is what PKD's authors take below Mask R-CNN Swin.
    distill=dict(type='PKDLoss', loss_weight=6), init_adapters='fitted')
