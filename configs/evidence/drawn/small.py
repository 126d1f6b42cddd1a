# A smaller student of the evidence: half the backbone's channels.
#   python benchmarks/evidence.py --dataset drawn --budget full --only gaps
_base_ = './progression.py'

model = dict(
    backbone=dict(base_channels=2), neck=dict(in_channels=[2, 4, 8, 16]))
