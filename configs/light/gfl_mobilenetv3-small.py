# GFL, 640x400, on timm's MobileNetV3-Small. Alone, from ImageNet weights:
#   python tools/train.py configs/light/gfl_mobilenetv3-small.py
# With teachers: mtpd_gfl_mobilenetv3-small.py. NOT YET RUN on COCO by us.
_base_ = './_base_/gfl.py'
model = dict(backbone=dict(
    _delete_=True, type='TimmBackbone',
    model_name='mobilenetv3_small_100.lamb_in1k', pretrained=True,
    norm_eval=True))
