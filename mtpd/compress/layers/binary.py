"""Convolutions whose weights, or inputs and weights, are signs.

Rastegari et al., XNOR-Net: ImageNet Classification Using Binary Convolutional
Neural Networks, ECCV 2016, sections 3.1 and 3.2.
"""
from typing import Any, Mapping

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from .plain import plain_convolution


def straight_through_sign(values: Tensor) -> Tensor:
    """1 where a value is at least 0, else -1. The gradient passes as if it
    were the value itself, where that is in [-1, 1], and is 0 elsewhere.

    Args:
        values: Of any shape.
    """
    signs = (values >= 0).to(values.dtype) * 2 - 1
    if not (torch.is_grad_enabled() and values.requires_grad):
        return signs
    passed = values.clamp(-1, 1)
    return signs + (passed - passed.detach())


def binary_weights(weights: Tensor) -> Tensor:
    """The signs of weights, times the mean absolute weight of each filter.

    Both factors have a gradient: the exact derivative of the product, where
    the paper writes 1/n for that of the scale.

    Args:
        weights: (out, in / groups, height, width).
    """
    scale = weights.abs().mean((1, 2, 3), keepdim=True)
    return straight_through_sign(weights) * scale


@MODELS.register_module()
class BinaryWeightConv2d(nn.Conv2d):
    """A convolution with binary weights (BWN): a sign for each weight and a
    scale for each filter.

    ``weight`` holds the real weights, which are trained and stored; the
    binary ones follow from them in every pass. Saved as they are, they take
    as much room as before, and PyTorch and onnxruntime have no faster kernel
    for them.

    Args:
        in_channels, out_channels, kernel_size: As all that follow in
            ``kwargs``, those of ``nn.Conv2d``, with groups of any number.
        plain_channels: A convolution of at most so many input channels is
            an ordinary one. With 3 that is the first of a backbone, which
            the paper keeps.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any,
                 *args: Any, plain_channels: int = 0, **kwargs: Any) -> None:
        super().__init__(in_channels, out_channels, kernel_size, *args,
                         **kwargs)
        self.is_plain = in_channels <= plain_channels

    @property
    def takes_signs(self) -> bool:
        """Whether only signs and scales of its weights count."""
        return not self.is_plain

    # Not forward(): mmcv calls this one where it joins a convolution with the
    # batch norm behind it (efficient_conv_bn_eval).
    def _conv_forward(self, input: Tensor, weight: Tensor,
                      bias: Tensor | None) -> Tensor:
        if not self.is_plain:
            weight = binary_weights(weight)
        return super()._conv_forward(input, weight, bias)

    def plain_weight(self) -> Tensor:
        """The weights of the ordinary convolution that does the same."""
        weight = self.weight.detach()
        return weight if self.is_plain else binary_weights(weight)

    def to_plain(self) -> nn.Conv2d:
        """The ordinary convolution that does the same."""
        return plain_convolution(self, self.plain_weight())

    def start(self, weight: Tensor) -> dict[str, Tensor]:
        """This layer's tensors, besides the bias, in place of a trained
        convolution's.

        Args:
            weight: Of the trained convolution.
        """
        return {'weight': weight}


@MODELS.register_module()
class XNORConv2d(nn.Conv2d):
    """A convolution with binary inputs and weights (XNOR-Net).

    The input passes through a batch norm of this layer's own before its sign
    is taken, as in the paper's block: mmdet's convolutions come after a ReLU,
    and there all signs are 1. The scale of the weights is kept. The paper's
    second scale, the mean absolute input around each position, is left out:
    the batch norm makes it nearly the same everywhere. As with
    :class:`BinaryWeightConv2d`, nothing is faster without a kernel of its
    own.

    Args:
        in_channels, out_channels, kernel_size: As all that follow in
            ``kwargs``, those of ``nn.Conv2d``, with groups of any number.
        plain_channels: A convolution of at most so many input channels is
            an ordinary one, without the batch norm.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any,
                 *args: Any, plain_channels: int = 0, **kwargs: Any) -> None:
        super().__init__(in_channels, out_channels, kernel_size, *args,
                         **kwargs)
        self.norm = None if in_channels <= plain_channels \
            else nn.BatchNorm2d(in_channels)

    @property
    def takes_signs(self) -> bool:
        """Whether only signs and scales of its weights count."""
        return self.norm is not None

    def _conv_forward(self, input: Tensor, weight: Tensor,
                      bias: Tensor | None) -> Tensor:
        if self.norm is not None:
            input = straight_through_sign(self.norm(input))
            weight = binary_weights(weight)
        return super()._conv_forward(input, weight, bias)

    def plain_weight(self) -> Tensor:
        """The weights of the ordinary convolution that does the same.

        Raises:
            ValueError: There is none, since the input's sign is taken.
        """
        if self.norm is not None:
            raise ValueError('XNORConv2d takes the sign of its input, which '
                             'no ordinary convolution does')
        return self.weight.detach()

    def to_plain(self) -> nn.Conv2d:
        """The ordinary convolution that does the same.

        Raises:
            ValueError: There is none, since the input's sign is taken.
        """
        return plain_convolution(self, self.plain_weight())

    def start(self, weight: Tensor) -> dict[str, Tensor]:
        """This layer's tensors, besides the bias, in place of a trained
        convolution's; its batch norm has to be measured.

        Args:
            weight: Of the trained convolution.
        """
        tensors = {'weight': weight}
        if self.norm is not None:
            for key, value in self.norm.state_dict().items():
                tensors[f'norm.{key}'] = value
        return tensors


def signs_and_scales(module: nn.Module, weights: Mapping[str, Tensor]
                     ) -> dict[str, Tensor]:
    """The weights of all binary layers below a module as these compute with
    them; with them in their place, the outputs are the same.

    Args:
        module: Such as a detector.
        weights: Of the module, by its keys.

    Returns:
        Key -> signs times the scales.
    """
    found = {}
    for name, layer in module.named_modules():
        if isinstance(layer, (BinaryWeightConv2d, XNORConv2d)) \
                and layer.takes_signs:
            key = f'{name}.weight'
            found[key] = binary_weights(weights[key].detach())
    return found
