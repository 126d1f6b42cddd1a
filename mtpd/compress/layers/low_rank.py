"""A convolution of low rank: two thin ones, one after the other."""
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from .plain import plain_convolution

SCHEMES = ('channel', 'spatial')

_ATTRIBUTES = (
    'in_channels', 'out_channels', 'kernel_size', 'stride', 'padding',
    'dilation', 'groups', 'padding_mode', 'transposed', 'output_padding',
    '_reversed_padding_repeated_twice')
"""What mmcv and mmdet read of a convolution, besides weight and bias."""


@MODELS.register_module()
class LowRankConv2d(nn.Module):
    """A convolution whose weights, as a matrix, are of low rank.

    Two convolutions without anything between them do the same:

    - ``channel``: the whole kernel to ``rank`` channels, then 1 x 1
      (Denton et al., Exploiting Linear Structure Within Convolutional
      Networks, NIPS 2014; Zhang et al., Accelerating Very Deep Convolutional
      Networks, TPAMI 2016). Half of the rank of a 3 x 3 convolution with as
      many channels at both ends has 56% of its parameters.
    - ``spatial``: a column of the kernel, then a row (Jaderberg et al.,
      Speeding up Convolutional Neural Networks with Low Rank Expansions, BMVC
      2014, scheme 2). A quarter of the rank has half of the parameters; half
      of it has all.

    They are one and the same for 1 x 1, where half of the rank saves nothing
    if both ends have as many channels. Random first weights have the variance
    of ``kaiming_init``, whatever the ``init_cfg`` of the model says about
    convolutions.

    Args:
        in_channels, out_channels, kernel_size: As all that follow in
            ``args`` and ``kwargs``, those of ``nn.Conv2d``.
        rank: Share of the full rank, above 0 and up to 1; it is rounded, and
            at least 1. The full rank, with which every convolution can be
            written so, is the lesser side of the matrix: (out x in * height *
            width) or (out * width x in * height).
        scheme: ``channel`` or ``spatial``.
        plain_channels: A convolution of at most so many input channels is
            kept whole, as ``first``. With 3 that is the first of a backbone.

    Raises:
        ValueError: ``groups`` is not 1, or ``rank`` or ``scheme`` is none.
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: str | tuple[int, int]
    dilation: tuple[int, int]
    padding_mode: str
    _reversed_padding_repeated_twice: list[int]

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any,
                 *args: Any, rank: float = 0.5, scheme: str = 'channel',
                 plain_channels: int = 0, **kwargs: Any) -> None:
        super().__init__()
        like = nn.Conv2d(in_channels, out_channels, kernel_size, *args,
                         **{**kwargs, 'device': 'meta'})
        _check(like.groups, rank, scheme)
        for name in _ATTRIBUTES:
            setattr(self, name, getattr(like, name))
        height, width = like.kernel_size
        # Of the second convolution; the first has the rest of the kernel.
        row = width if scheme == 'spatial' else 1
        column = height, width // row
        self.second: nn.Parameter | None = None
        if in_channels <= plain_channels:
            self.first = nn.Parameter(torch.empty(like.weight.shape))
        else:
            full = min(out_channels * row, in_channels * column[0] * column[1])
            count = max(1, round(rank * full))
            self.first = nn.Parameter(torch.empty(count, in_channels, *column))
            self.second = nn.Parameter(torch.empty(out_channels, count, 1,
                                                   row))
        self.bias = None if like.bias is None \
            else nn.Parameter(torch.empty(out_channels))
        self.init_weights()

    def init_weights(self) -> None:
        """Random weights; mmcv's ConvModule then leaves them alone."""
        height, width = self.kernel_size
        variance = 2 / (self.out_channels * height * width)
        if self.second is None:
            nn.init.normal_(self.first, std=variance ** 0.5)
        else:
            # The product sums over the rank.
            each = (variance / len(self.first)) ** 0.25
            nn.init.normal_(self.first, std=each)
            nn.init.normal_(self.second, std=each)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def weight(self) -> Tensor:
        """The weights of the ordinary convolution that does the same, (out,
        in, height, width)."""
        if self.second is None:
            return self.first
        product = torch.einsum('orab,ricd->oiacbd', self.second, self.first)
        return product.reshape(self.out_channels, self.in_channels,
                               *self.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        x, padding = self._padded(x)
        steps = tuple(zip(self.stride, padding, self.dilation, strict=True))
        if self.second is None:
            return _convolve(x, self.first, self.bias, steps)
        # Each axis belongs to the convolution that has its side of the kernel.
        one = (1, 0, 1)
        if self.second.shape[-1] == self.kernel_size[1] > 1:
            x = _convolve(x, self.first, None, (steps[0], one))
            return _convolve(x, self.second, self.bias, (one, steps[1]))
        x = _convolve(x, self.first, None, steps)
        return _convolve(x, self.second, self.bias, (one, one))

    def _padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The input, padded where convolutions cannot do it, and the zeros
        that are left for them to add."""
        if self.padding_mode == 'zeros' and not isinstance(self.padding, str):
            return x, self.padding
        mode = 'constant' if self.padding_mode == 'zeros' \
            else self.padding_mode
        return functional.pad(x, self._reversed_padding_repeated_twice,
                              mode), (0, 0)

    # What mmcv calls where it joins a convolution with the batch norm behind
    # it (efficient_conv_bn_eval).
    def _conv_forward(self, x: Tensor, weight: Tensor,
                      bias: Tensor | None) -> Tensor:
        x, padding = self._padded(x)
        return functional.conv2d(x, weight, bias, self.stride, padding,
                                 self.dilation)

    def plain_weight(self) -> Tensor:
        """The weights of the ordinary convolution that does the same."""
        return self.weight.detach()

    def to_plain(self) -> nn.Conv2d:
        """The ordinary convolution that does the same."""
        return plain_convolution(self, self.plain_weight())

    def start(self, weight: Tensor) -> dict[str, Tensor]:
        """This layer's tensors, besides the bias, closest to a trained
        convolution's, by singular values.

        Args:
            weight: Of the trained convolution, (out, in, height, width).
        """
        if self.second is None:
            return {'first': weight}
        rank, inputs, high, wide = self.first.shape
        row = self.second.shape[-1]
        matrix = weight.double().reshape(-1, inputs, high, row, wide) \
            .permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        roots = values[:rank].sqrt()
        second = (left[:, :rank] * roots).reshape(-1, row, rank)
        first = (roots[:, None] * right[:rank]).reshape(self.first.shape)
        return {'first': first.to(weight),
                'second': second.transpose(1, 2)[:, :, None].to(weight)}


def _check(groups: int, rank: float, scheme: str) -> None:
    """Raises a ValueError of the first value that cannot be."""
    if isinstance(rank, bool) or not isinstance(rank, (int, float)) \
            or not 0 < rank <= 1:
        raise ValueError(f'The rank of LowRankConv2d is {rank!r}; it has to '
                         'be above 0 and at most 1, such as 0.5 for half of '
                         'the full rank.')
    if scheme not in SCHEMES:
        raise ValueError(f'The scheme of LowRankConv2d is {scheme!r}; it has '
                         f'to be {" or ".join(SCHEMES)}.')
    if groups != 1:
        raise ValueError(f'A convolution has {groups} groups, and '
                         'LowRankConv2d takes those of one group only. Leave '
                         'conv_cfg out of this part of the model.')


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None,
              steps: tuple[tuple[int, int, int], ...]) -> Tensor:
    """A convolution by stride, padding and dilation of each axis."""
    stride, padding, dilation = zip(*steps, strict=True)
    return functional.conv2d(x, weight, bias, stride, padding, dilation)
