"""The student on DeepPCB: that of TXL-PBC, on printed circuit boards.

1000 training and 500 validation images of 6 classes of small defects, at 320
pixels; training crops 160 of them. COCO JSON and images lie in
$MTPD_DATA/deeppcb (data/deeppcb).
"""
_base_ = '../txl/student.py'

data_root = '{{$MTPD_DATA:data}}/deeppcb/'
metainfo = dict(classes=(
    'open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole'))
scale = (320, 320)
train_pipeline = _base_.train_pipeline
train_pipeline[2:3] = [
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomCrop', crop_size=(160, 160))]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = scale
train_dataloader = dict(dataset=dict(
    data_root=data_root, metainfo=metainfo, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(
    data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
model = dict(bbox_head=dict(num_classes=6))
