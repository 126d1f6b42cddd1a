# A smaller student of the evidence: half the backbone's channels.
#   python benchmarks/evidence.py --budget full --only gaps
_base_ = './progression.py'

model = dict(
    backbone=dict(base_channels=8), neck=dict(in_channels=[8, 16, 32, 64]))
