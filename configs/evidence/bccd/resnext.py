"""A teacher of the evidence: Faster R-CNN on a small ResNeXt."""
_base_ = './two_stage.py'

model = dict(
    backbone=dict(
        _delete_=True, type='ResNeXt', depth=50, groups=8, base_width=4,
        base_channels=16, num_stages=4, out_indices=(0, 1, 2, 3),
        frozen_stages=-1, norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False, style='pytorch', init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512]))
