"""A teacher on TXL-PBC of another family: a small Swin transformer from random
weights, trained on all labels."""
_base_ = './wide_24.py'

model = dict(
    backbone=dict(
        _delete_=True, type='SwinTransformer', embed_dims=32,
        depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 8), window_size=4,
        out_indices=(0, 1, 2, 3), drop_path_rate=0.1, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256]))
