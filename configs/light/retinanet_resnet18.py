# RetinaNet on torchvision's ResNet-18. Alone, from ImageNet weights:
#   python tools/train.py configs/light/retinanet_resnet18.py
# With teachers: mtpd_retinanet_resnet18.py. NOT YET RUN on COCO by us.
_base_ = './_base_/retinanet.py'
model = dict(backbone=dict(
    _delete_=True, type='TorchvisionBackbone',
    model_name='resnet18', weights='IMAGENET1K_V1', norm_eval=True))
