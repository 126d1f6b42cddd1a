"""Convolutions of another kind, which a config names in ``conv_cfg``.

mmdet's backbones, necks and heads build whatever is registered here in place
of their convolutions: of low rank, with binary weights, or of binary inputs
and weights. ``convert`` makes their weights from those of a trained detector
and turns them into plain ones again; ``files`` is what the command writes.
"""
from .binary import BinaryWeightConv2d, XNORConv2d, signs_and_scales
from .low_rank import LowRankConv2d

__all__ = ['BinaryWeightConv2d', 'LowRankConv2d', 'XNORConv2d',
           'signs_and_scales']
