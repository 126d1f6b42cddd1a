"""The loss around trained weights, along filter-normalised directions.

A direction is drawn at random, one number per weight, and scaled filter by
filter to given norms (a filter makes one output channel: it is a slice of the
first dimension). Biases and norm layers, which have one dimension, are not
moved, and neither are weights that are not trained (frozen stages).

Why normalise: weights before a batch norm can have any scale without changing
the network's output. A step of a given length changes little in large weights
and much in small ones. Relative to a filter's norm, it means the same in both.

Source:
    Li, Xu, Taylor, Studer, Goldstein, "Visualizing the Loss Landscape of
    Neural Nets", NeurIPS 2018 (arXiv 1712.09913), section 4. Departures: the
    norms may be the mean of two networks' (:func:`common_norms`); weights that
    are not trained are not moved.
"""
from contextlib import contextmanager
from itertools import chain
from typing import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

Direction = Mapping[str, Tensor]
"""Parameter's name -> the tensor that is added to it at coordinate 1."""

Loss = Callable[[], np.ndarray]
"""The loss of the present weights, one value per group of images; every call
has the same random draws."""


def filter_norms(model: nn.Module) -> dict[str, Tensor]:
    """Euclidean norm of every filter that training moves, by parameter:
    (filters,)."""
    return {name: weight.detach().flatten(1).norm(dim=1)
            for name, weight in model.named_parameters()
            if weight.requires_grad and weight.dim() > 1}


def common_norms(first: Mapping[str, Tensor],
                 second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Geometric mean of two networks' filter norms.

    Along a direction of this scale both networks are moved by the same
    vector. Relative to its own norm, each filter of one network is moved by a
    factor more than the mean, and that of the other by the same factor less.

    Args:
        first: From :func:`filter_norms`.
        second: Of the same parameters.
    """
    return {name: (norms * second[name]).sqrt()
            for name, norms in first.items()}


def draw_direction(model: nn.Module, norms: Mapping[str, Tensor], seed: int,
                   index: int) -> dict[str, Tensor]:
    """A random direction, uniform on the sphere of its norm in every filter.

    Args:
        model: For the shapes; any network of the same architecture.
        norms: Of each filter of the direction, by parameter: (filters,).
        seed: Seed and ``index`` alone decide which numbers are drawn, not the
            device and not earlier draws.
        index: From 0; each index is another direction.
    """
    state = np.random.SeedSequence((seed, index)).generate_state(2)
    generator = torch.Generator().manual_seed(
        int(state[0]) << 31 ^ int(state[1]))
    direction = {}
    for name, weight in model.named_parameters():
        if name in norms:
            drawn = torch.randn(weight.shape, generator=generator)
            shape = -1, *[1] * (drawn.dim() - 1)
            drawn /= drawn.flatten(1).norm(dim=1).view(shape)
            scale = norms[name].view(shape)
            direction[name] = drawn.to(scale) * scale
    return direction


@contextmanager
def moving(model: nn.Module) -> Iterator[Callable[..., None]]:
    """Move a model's weights, and put them back bit for bit.

    Yields:
        ``place(*steps)``, where each step is a pair (share, direction): sets
        the weights to their original values plus the sum of share x
        direction. Each call also restores the buffers that forward passes
        have changed.
    """
    tensors = dict(chain(model.named_parameters(), model.named_buffers()))
    centre = {name: tensor.detach().clone()
              for name, tensor in tensors.items()}

    def place(*steps: tuple[float, Direction]) -> None:
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(centre[name])
                for share, direction in steps:
                    if name in direction:
                        tensor.add_(direction[name], alpha=share)

    try:
        yield place
    finally:
        place()


def surface(model: nn.Module, loss: Loss, first: Direction,
            second: Direction, coordinates: Sequence[float]) -> np.ndarray:
    """The loss on a square grid around a model's weights.

    Args:
        model: Its weights are the centre; they are restored afterwards.
        loss: Of the model.
        first: The direction of x.
        second: The direction of y.
        coordinates: Of x and of y.

    Returns:
        (y, x, groups), as ``loss`` gives it, also where it is not finite.
    """
    with moving(model) as place:
        rows = []
        for y in coordinates:
            row = []
            for x in coordinates:
                place((x, first), (y, second))
                row.append(loss())
            rows.append(row)
    return np.array(rows)


def increases(model: nn.Module, loss: Loss,
              directions: Iterable[Direction], radius: float) -> np.ndarray:
    """How much the loss rises at a distance, direction by direction.

    For each direction u it is the mean of both ways, (L(w + r u) + L(w - r u))
    / 2 - L(w): the slope cancels and the curvature remains. The mean over
    random directions is the sharpness of this project. For small r it is
    r^2 / 2 times the sum over filters of norm^2 / size x trace of the
    Hessian's block.

    Args:
        model: Its weights are w; they are restored afterwards.
        loss: Of the model.
        directions: Filter-normalised, so that ``radius`` is relative to the
            filters' norms; each is used once, so that a generator can draw
            them one by one.
        radius: r, above 0.

    Returns:
        (directions, groups), in units of the loss.
    """
    with moving(model) as place:
        centre = loss()
        rows = []
        for direction in directions:
            place((radius, direction))
            ahead = loss()
            place((-radius, direction))
            rows.append((ahead + loss()) / 2 - centre)
    return np.array(rows)
