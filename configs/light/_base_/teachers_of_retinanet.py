# The pool of the light RetinaNets: RetinaNet-R50 and -X101, multi-scale 3x,
# and Mask R-CNN Swin-T, from mmdet's zoo, which states the box APs. Backward
# Greedy Selection puts Swin-T last, after the other teacher with the lower
# cost.
_base_ = '../../_base_/checkpoints.py'
mtpd = dict(
    teachers=dict(
        r50=_base_.zoo.retinanet_r50_3x,
        x101=_base_.zoo.retinanet_x101,
        swin_t=_base_.zoo.mask_rcnn_swin_t),
    order='bgs', max_teachers=2,
    # PKD does not depend on the scale of the maps, which differs between the
    # families of the pool. 6 is its authors' weight for Mask R-CNN Swin.
    distill=dict(type='PKDLoss', loss_weight=6), init_adapters='fitted')
