"""A teacher of the demo's pool: Mask R-CNN on a small ResNet."""
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    './dataset.py', './schedule.py']

model = dict(
    backbone=dict(
        depth=18, base_channels=24, frozen_stages=-1, norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=64),
    rpn_head=dict(
        in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=5),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(
            in_channels=64, conv_out_channels=32, num_convs=2,
            num_classes=5)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=300, max_per_img=150),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=150)))

train_dataloader = dict(
    dataset=dict(pipeline=_base_.train_pipeline_with_masks))

max_epochs = 8
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=25),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
