"""TXL-PBC: blood cells, 850 training and 244 validation images, 3 classes, at
160 pixels. COCO JSON and images lie in $MTPD_DATA/txl_pbc (data/txl_pbc).
"""
_base_ = 'mmdet::_base_/default_runtime.py'

data_root = '{{$MTPD_DATA:data}}/txl_pbc/'
metainfo = dict(classes=('WBC', 'RBC', 'Platelets'))
scale = (160, 160)

# Blood cells have no orientation.
flip = dict(type='RandomFlip', prob=0.75,
            direction=['horizontal', 'vertical', 'diagonal'])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    flip,
    dict(type='PackDetInputs')]
strong_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=scale, ratio_range=(0.8, 1.3),
         keep_ratio=True),
    dict(type='RandomCrop', crop_size=scale, allow_negative_crop=True),
    flip,
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                    'scale_factor'))]

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'annotations/instances_val.json',
    metric='bbox')
test_evaluator = val_evaluator

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=10))
default_hooks = dict(
    logger=dict(interval=13),
    checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
