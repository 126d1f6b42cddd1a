"""The student on TXL-PBC: that of BCCD, with other images of blood cells.

850 training and 244 validation images of 3 classes, at 160 pixels. COCO JSON
and images lie in $MTPD_DATA/txl_pbc (data/txl_pbc).
"""
_base_ = '../bccd/student.py'

data_root = '{{$MTPD_DATA:data}}/txl_pbc/'
metainfo = dict(classes=('WBC', 'RBC', 'Platelets'))
scale = (160, 160)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = scale
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = scale
train_dataloader = dict(dataset=dict(
    data_root=data_root, metainfo=metainfo, pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(
    data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=26),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
