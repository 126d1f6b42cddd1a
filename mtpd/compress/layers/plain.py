"""Ordinary convolutions in place of other ones."""
from typing import Any

import torch
from torch import Tensor, nn


def plain_convolution(layer: Any, weight: Tensor) -> nn.Conv2d:
    """An ordinary convolution with the settings and bias of another layer.

    Args:
        layer: Has the attributes of ``nn.Conv2d``.
        weight: Of the new one, (out, in / groups, height, width).
    """
    plain = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size,
        layer.stride, layer.padding, layer.dilation, layer.groups,
        layer.bias is not None, layer.padding_mode, weight.device,
        weight.dtype)
    with torch.no_grad():
        plain.weight.copy_(weight)
        if plain.bias is not None:
            plain.bias.copy_(layer.bias)
    return plain.train(layer.training)
