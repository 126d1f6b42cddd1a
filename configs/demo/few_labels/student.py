"""The demo's student: 60 labelled images of 900."""
_base_ = '../student.py'

folder = 'work_dirs/few_labels/'
data_root = folder + 'data/'
seed = int('{{$DEMO_SEED:0}}')
randomness = dict(seed=seed)
drawn_shapes = dict(
    folder=data_root, train=900, val=200, size=_base_.scale, seed=0)
train_dataloader = dict(dataset=dict(data_root=data_root, indices=60))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=25),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True)]
