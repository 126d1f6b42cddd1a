# RetinaNet-R18 of mmdet's zoo (box AP 31.7), which needs no training before
# two detectors of the zoo teach it:
#   python tools/train.py configs/light/mtpd_retinanet_r18-zoo.py
# NOT YET RUN on COCO by us; the pool and its APs: teachers_of_retinanet.py.
_base_ = ['mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
          './_base_/teachers_of_retinanet.py']
custom_imports = dict(imports=['mtpd'])
mtpd = dict(student=dict(checkpoint=_base_.zoo.retinanet_r18.checkpoint))
