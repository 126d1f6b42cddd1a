# The fast head: GFL as in mmdet, 1x, except for 96 channels, 2 convolutions
# instead of 4 in each branch, and images of 640x400, half of the usual size.
_base_ = 'mmdet::gfl/gfl_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mtpd'])
model = dict(
    neck=dict(out_channels=96),
    bbox_head=dict(
        in_channels=96, feat_channels=96, stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=16, requires_grad=True)))
scale = (640, 400)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].scale = scale
test_pipeline[1].scale = scale
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
# The learning rate is mmdet's for 16 images per step (8 GPUs of 2).
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
