"""Settings of all trainings on BCCD; each config sets its own length."""
_base_ = 'mmdet::_base_/default_runtime.py'

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
