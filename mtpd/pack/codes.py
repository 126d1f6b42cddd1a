"""Weights that share a few values: pruned, and grouped by k-means.

Han, Mao, Dally: Deep Compression, ICLR 2016, sections 2 and 3. Departures:
every tensor loses the same share of its weights, at once; zero is one of the
2 ** bits values; and what lies in the file are the values themselves, which
lzma finds to be few.
"""
from dataclasses import dataclass
from typing import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.prune import L1Unstructured

ROUNDS = 300
"""Of k-means, at most."""


@dataclass(frozen=True)
class Codebook:
    """The values of a tensor's weights.

    Attributes:
        codes: Of each weight, in the tensor's shape, int32: its place in
            ``values``; with ``pruned``, 0 is the value zero, and the others
            begin at 1.
        values: Ascending, (K,), in the tensor's own precision.
        pruned: Whether some weights are zero and stay so.
    """
    codes: Tensor
    values: Tensor
    pruned: bool

    def weights(self, values: Tensor | None = None) -> Tensor:
        """The tensor.

        Args:
            values: Used in place of ``values``.
        """
        table = self.values if values is None else values
        if self.pruned:
            table = torch.cat([table.new_zeros(1), table])
        # Its gradient is summed over the weights of each value.
        return table.index_select(0, self.codes.flatten()).view(
            self.codes.shape)


def codebook(weights: Tensor, bits: int, prune: float = 0) -> Codebook:
    """Let weights share at most ``2 ** bits`` values.

    Args:
        weights: Of any shape, finite.
        bits: From 1 to 16.
        prune: Share of the weights that become zero, those nearest to it,
            rounded down to whole weights. With any, those that are zero
            already stay so, too.
    """
    numbers = weights.detach().cpu()
    codes = np.zeros(weights.numel(), dtype=np.int32)
    kept = np.ones(weights.numel(), dtype=bool)
    if prune:
        mask = L1Unstructured(int(prune * weights.numel())).compute_mask(
            numbers, torch.ones_like(numbers))
        kept = (mask * numbers).flatten().numpy() != 0
    pruned = not kept.all()
    rest = numbers.flatten().double().numpy()[kept]
    centres = k_means(rest, 2 ** bits - pruned)
    codes[kept] = nearest(rest, centres) + pruned
    return Codebook(
        torch.from_numpy(codes).view(weights.shape).to(weights.device),
        torch.from_numpy(centres).to(weights), bool(pruned))


def k_means(numbers: np.ndarray, count: int) -> np.ndarray:
    """The means of k-means for plain numbers, ascending, each of at least one.

    Starts from means that are evenly spread over the range, which the paper
    found best. A group of sorted numbers is what lies between two of them, so
    that a round takes their borders and differences of sums alone. scipy's
    ``kmeans2`` takes 38 s for 590,000 numbers and 64 means, this 0.1 s.

    Args:
        numbers: (N,).
        count: Of means, if there are so many different numbers.
    """
    ordered = np.sort(numbers.astype(np.float64))
    different = np.unique(ordered)
    if len(different) <= count:
        return different
    sums = np.concatenate([[0], np.cumsum(ordered)])
    means = np.linspace(ordered[0], ordered[-1], count)
    borders = np.empty(0)
    for _ in range(ROUNDS):
        before, borders = borders, np.concatenate([
            [0], np.searchsorted(ordered, middles(means)), [len(ordered)]])
        if np.array_equal(before, borders):
            break
        sizes = np.diff(borders)
        means = np.where(sizes > 0, np.diff(sums[borders]) /
                         np.maximum(sizes, 1), means)
    return means[np.unique(nearest(numbers, means))]


def nearest(numbers: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The place of each number's nearest mean.

    Args:
        numbers: (N,).
        means: (K,), ascending.
    """
    return np.searchsorted(middles(means), numbers, side='right')


def middles(means: np.ndarray) -> np.ndarray:
    """Half way between each two neighbours."""
    return (means[1:] + means[:-1]) / 2


def shares_values(key: str, value: Tensor) -> bool:
    """Whether a tensor is a convolution's or a linear layer's: a weight with
    more than one dimension, or a factor of one (``LowRankConv2d``). Biases and
    norms stay."""
    return key.endswith(('weight', '.first', '.second')) and value.dim() > 1 \
        and value.is_floating_point() and value.numel() > 0


def codebooks(weights: Mapping[str, Tensor], bits: int, prune: float
              ) -> dict[str, Codebook]:
    """The codebooks of a detector, by the keys of its tensors.

    Layers that several heads share have one, under all of their keys.

    Args:
        weights: As ``state_dict`` names them.
        bits: As ``prune``, see :func:`codebook`.
    """
    books: dict[str, Codebook] = {}
    known: dict[tuple, Codebook] = {}
    for key, value in weights.items():
        if not shares_values(key, value):
            continue
        place = (value.data_ptr(), value.shape, value.stride())
        if place not in known:
            known[place] = codebook(value, bits, prune)
        books[key] = known[place]
    return books


def decoded(books: Mapping[str, Codebook]) -> dict[str, Tensor]:
    """The tensors of codebooks; one that has several keys is one tensor."""
    tensors = {id(book): book.weights() for book in books.values()}
    return {key: tensors[id(book)] for key, book in books.items()}
