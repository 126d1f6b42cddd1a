# The pool of the light GFLs: GFL, multi-scale 2x, from mmdet's zoo, which
# states the box APs. These teachers see images of twice the student's width
# and height, as in their training. PKD's weight is its authors' for one-stage
# detectors.
_base_ = '../../_base_/checkpoints.py'
mtpd = dict(
    teachers=dict(
        r50=dict(_base_.zoo.gfl_r50, scale=2),
        r101=dict(_base_.zoo.gfl_r101, scale=2),
        x101=dict(_base_.zoo.gfl_x101, scale=2)),
    order='bgs', max_teachers=2,
    distill=dict(type='PKDLoss'), init_adapters='fitted')
