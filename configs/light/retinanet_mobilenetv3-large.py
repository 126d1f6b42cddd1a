# RetinaNet on timm's MobileNetV3-Large. Alone, from ImageNet weights:
#   python tools/train.py configs/light/retinanet_mobilenetv3-large.py
# With teachers: mtpd_retinanet_mobilenetv3-large.py. NOT YET RUN on COCO by
# us.
_base_ = './_base_/retinanet.py'
model = dict(backbone=dict(
    _delete_=True, type='TimmBackbone',
    model_name='mobilenetv3_large_100.ra_in1k', pretrained=True,
    norm_eval=True))
