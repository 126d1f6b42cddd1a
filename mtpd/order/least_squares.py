"""Linear maps between detectors' feature maps, from moments alone."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .moments import FeatureMoments
from .sums import Moments

ROUNDING = {True: 1e-6, False: 1e-13}
"""Relative rounding error of a summed product, with a factor of about ten to
spare (for float32 products: True; for float64 products: False)."""

POSITIONS_PER_COEFFICIENT = 10
"""With fewer positions per fitted coefficient a held-out error depends more on
the choice of images than on the detectors."""

# A direction of the scaled source channels with a smaller share of a channel's
# variance cannot be distinguished from rounding (float32, float64 products).
_RANK_FLOOR = {True: 1e-7, False: 1e-13}


class LinearMap(NamedTuple):
    """A 1x1 convolution: target = weight @ source + bias.

    Attributes:
        weight: (C_target, C_source), float64.
        bias: (C_target,), float64.
    """

    weight: Tensor
    bias: Tensor


def fit_linear_map(moments: FeatureMoments, stride: int, source: str,
                   target: str, folds: Iterable[int] | None = None
                   ) -> LinearMap:
    """The least-squares 1x1 convolution from one detector's maps to another's.

    See :func:`least_squares` for the solution, its limits and its precision.

    Args:
        moments: Of both detectors.
        stride: Of the maps.
        source: Detector to map from.
        target: Detector to map to.
        folds: The fitting folds; all of them if None.

    Raises:
        ValueError: An unknown stride or detector, or no position.
    """
    fitting = moments.over(
        stride, range(moments.folds) if folds is None else folds,
        (source, target))
    channels = moments.channels[stride][source]
    weights, = least_squares(fitting, [slice(0, channels)],
                             moments.in_float32(stride))
    weight = weights[:, channels:].T
    mean = fitting.mean
    return LinearMap(weight, mean[channels:] - weight @ mean[:channels])


def least_squares(fitting: Moments, sources: Iterable[slice],
                  in_float32: bool) -> Iterator[Tensor]:
    """Weights W that minimise the sum of |y - W^T s|^2 over all positions.

    s are a source's channels and y all channels, both less their means, so
    that no bias column spoils the condition. With D scaling every channel of
    s to variance 1 and V diag(v) V^T the symmetric eigendecomposition of
    D S D, where S is the sum of s s^T and Y that of s y^T:

        W = D V diag(1 / v) V^T D Y

    Eigenvalues are dropped that are below 1e-7 (float32 products; 1e-13 for
    float64) of their mean, which the scaling makes 1, or beyond the rank that
    this many positions can have. Where a source's channels depend on one
    another (duplicated, constant, more than positions) W is the smallest
    solution in scaled channels; a constant channel has weight 0.

    Limits: S holds squares, so half of the digits. Source directions with
    less than the floor of a channel's variance are ignored;
    ``torch.linalg.lstsq`` on the maps themselves would use them, and fit the
    maps' own rounding as well. Near the floor digits are lost gradually;
    float64 maps keep twice as many.

    Precision: of the variants scaled or unscaled, dropped eigenvalues or
    ridge, this came closest to ``lstsq`` in float64. Without the scaling a
    quiet channel falls below the floor though it is well measured; a ridge,
    also a tiny one, changes the costs of ill-conditioned sources by more than
    rounding does.

    Args:
        fitting: Sums over the fitting positions, of all C channels.
        sources: Each source's part of the channels.
        in_float32: Whether any product was taken in float32.

    Yields:
        For each source its W, (C_source, C).
    """
    centred = fitting.about(fitting.mean).outer
    variance = channel_variance(fitting, in_float32)
    scales = torch.where(variance > 0,
                         (variance * fitting.count).rsqrt(), 0.)
    for source in sources:
        scale = scales[source]
        scaled = scale[:, None] * centred[source]
        values, vectors = torch.linalg.eigh(scaled[:, source] * scale)
        kept = values > _RANK_FLOOR[in_float32]
        # Ascending; n centred positions span n - 1 directions at most, and
        # what rounding leaves in the others can lie above the floor.
        kept[:max(0, len(values) - (fitting.count - 1))] = False
        values, vectors = values[kept], vectors[:, kept]
        yield scale[:, None] * (
            vectors @ (vectors.T @ scaled / values[:, None]))


def channel_variance(moments: Moments, in_float32: bool) -> Tensor:
    """(C,), exactly 0 where a channel does not vary beyond rounding."""
    square = moments.outer.diagonal() / moments.count
    variance = square - (moments.total / moments.count).square()
    return torch.where(variance > ROUNDING[in_float32] * square, variance, 0.)
