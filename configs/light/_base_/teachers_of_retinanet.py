# The pool of the light RetinaNets, from mmdet's zoo (box AP as stated there):
# RetinaNet-R50 and -X101, multi-scale 3x, and Mask R-CNN Swin-T. Backward
# Greedy Selection takes Swin-T last and the nearer of the others before it.
_base_ = '../../_base_/checkpoints.py'
mtpd = dict(
    teachers=dict(
        r50=_base_.zoo.retinanet_r50_3x,
        x101=_base_.zoo.retinanet_x101,
        swin_t=_base_.zoo.mask_rcnn_swin_t),
    order='bgs', max_teachers=2,
    # No loss that depends on a map's scale: the pool's families differ in it.
    # 6 is what PKD's authors take below Mask R-CNN Swin.
    distill=dict(type='PKDLoss', loss_weight=6), init_adapters='fitted')
