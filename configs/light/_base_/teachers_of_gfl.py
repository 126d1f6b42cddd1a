# The pool of the light GFLs, from mmdet's zoo (box AP as stated there): GFL,
# multi-scale 2x. They see images of twice the student's size each way, as
# they were trained on; PKD's weight is its authors' for one-stage detectors.
_base_ = '../../_base_/checkpoints.py'
mtpd = dict(
    teachers=dict(
        r50=dict(_base_.zoo.gfl_r50, scale=2),
        r101=dict(_base_.zoo.gfl_r101, scale=2),
        x101=dict(_base_.zoo.gfl_x101, scale=2)),
    order='bgs', max_teachers=2,
    distill=dict(type='PKDLoss'), init_adapters='fitted')
