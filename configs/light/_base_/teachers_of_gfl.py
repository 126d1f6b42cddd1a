# The pool of the light GFLs, from mmdet's zoo (box AP as stated there): GFL,
# multi-scale 2x. They see pictures of twice the student's size each way, as
# they were trained on; PKD's weight is its authors' for one-stage detectors.
zoo = 'https://download.openmmlab.com/mmdetection/v2.0/gfl/'
mtpd = dict(
    teachers=dict(
        r50=dict(config='mmdet::gfl/gfl_r50_fpn_ms-2x_coco.py', ap=42.9, scale=2, checkpoint=zoo + 'gfl_r50_fpn_mstrain_2x_coco/gfl_r50_fpn_mstrain_2x_coco_20200629_213802-37bb1edc.pth'),  # noqa: E501
        r101=dict(config='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py', ap=44.7, scale=2, checkpoint=zoo + 'gfl_r101_fpn_mstrain_2x_coco/gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth'),  # noqa: E501
        x101=dict(config='mmdet::gfl/gfl_x101-32x4d_fpn_ms-2x_coco.py', ap=45.9, scale=2, checkpoint=zoo + 'gfl_x101_32x4d_fpn_mstrain_2x_coco/gfl_x101_32x4d_fpn_mstrain_2x_coco_20200630_102002-50c1ffdb.pth')),  # noqa: E501
    order='bgs', max_teachers=2,
    distill=dict(type='PKDLoss'), init_adapters='fitted')
