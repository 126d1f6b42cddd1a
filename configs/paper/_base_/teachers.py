# Teachers I to IV of the paper, the pool of its published cost graph. mmdet
# has several FCOS, HTC and DetectoRS; we chose those whose AP rises with the
# paper's numbers: docs/configs.md#what-is-guessed.
_base_ = '../../_base_/zoo.py'
mtpd = dict(teachers=dict(
    mask_rcnn=_base_.zoo.mask_rcnn_r50,
    fcos=_base_.zoo.fcos_r50,
    htc=_base_.zoo.htc_r50,
    detectors=_base_.zoo.detectors_r50))
