# RetinaNet on timm's EfficientNet-Lite0. Alone, from ImageNet weights:
#   python tools/train.py configs/light/retinanet_efficientnet-lite0.py
# With teachers: mtpd_retinanet_efficientnet-lite0.py. NOT YET RUN on COCO by
# us.
# These weights are on the hub alone. Without it, python tools/get_weights.py
# efficientnet-lite0 fetches others, and the command gets --cfg-options
#   model.backbone.model_name=tf_efficientnet_lite0
#   model.backbone.pretrained=weights/tf_efficientnet_lite0.pth
_base_ = './_base_/retinanet.py'
model = dict(
    data_preprocessor=dict(mean='backbone'),
    backbone=dict(
        _delete_=True, type='TimmBackbone',
        model_name='efficientnet_lite0.ra_in1k', pretrained=True,
        norm_eval=True))
