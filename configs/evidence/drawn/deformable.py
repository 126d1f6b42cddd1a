"""A teacher of the evidence: Faster R-CNN with deformable convolutions."""
_base_ = './swin.py'

model = dict(
    backbone=dict(
        _delete_=True, type='ResNet', depth=50, base_channels=16,
        num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False,
        style='pytorch', init_cfg=None,
        dcn=dict(type='DCN', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, False, False, True)),
    neck=dict(in_channels=[64, 128, 256, 512]))
