# RetinaNet on timm's EfficientNet-Lite0. Alone, from ImageNet weights:
#   python tools/train.py configs/light/retinanet_efficientnet-lite0.py
# With teachers: mtpd_retinanet_efficientnet-lite0.py. NOT YET RUN on COCO by
# us.
_base_ = './_base_/retinanet.py'
model = dict(backbone=dict(
    _delete_=True, type='TimmBackbone',
    model_name='efficientnet_lite0.ra_in1k', pretrained=True,
    norm_eval=True))
