"""A teacher of the evidence: Faster R-CNN with deformable convolutions."""
_base_ = './two_stage.py'

model = dict(
    backbone=dict(
        depth=50, base_channels=16,
        dcn=dict(type='DCN', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, False, False, True)),
    neck=dict(in_channels=[64, 128, 256, 512]))
