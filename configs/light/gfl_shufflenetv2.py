# GFL, 640x400, on torchvision's ShuffleNetV2. Alone, from ImageNet weights:
#   python tools/train.py configs/light/gfl_shufflenetv2.py
# With teachers: mtpd_gfl_shufflenetv2.py. NOT YET RUN on COCO by us.
_base_ = './_base_/gfl.py'
model = dict(backbone=dict(
    _delete_=True, type='TorchvisionBackbone',
    model_name='shufflenet_v2_x1_0', weights='IMAGENET1K_V1', norm_eval=True))
