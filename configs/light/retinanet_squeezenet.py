# RetinaNet on torchvision's SqueezeNet 1.1. Alone, from ImageNet weights:
#   python tools/train.py configs/light/retinanet_squeezenet.py
# With teachers: mtpd_retinanet_squeezenet.py. NOT YET RUN on COCO by us.
# Its maps end at stride 16; FPN computes 32, 64 and 128 from the last one.
_base_ = './_base_/retinanet.py'
model = dict(backbone=dict(
    _delete_=True, type='TorchvisionBackbone',
    model_name='squeezenet1_1', weights='IMAGENET1K_V1'))
