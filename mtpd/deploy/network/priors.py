"""The anchors or points at some positions of the maps."""
from typing import Any, Sequence

import torch
from mmdet.models.task_modules.prior_generators import (AnchorGenerator,
                                                        MlvlPointGenerator)
from torch import Tensor


def priors_at(generator: Any, maps: Sequence[Tensor],
              positions: Sequence[Tensor]) -> Tensor:
    """The priors at some positions of each level, one level after the other.

    mmdet makes those of all positions, by thirty operators of ONNX in each
    level. On small images this took longer than the head's convolutions.

    Args:
        generator: Of the head, for anchors or points.
        maps: One of each level, (B, C, H, W); their values are not read.
        positions: Of each level, (B, K): of the cell, row by row, times the
            priors of a cell, plus the prior's number in it.

    Returns:
        (B, all K, 4) boxes, or (B, all K, 2) points, in pixels of the
        network's input.
    """
    # While it is traced, a number of anchors is a tensor.
    counts = {int(count) for count in generator.num_base_priors}
    if len(counts) > 1 or not _is_mmdets(generator):
        grids = generator.grid_priors(
            [level.shape[-2:] for level in maps], device=maps[0].device)
        return torch.cat([grid[places] for grid, places in
                          zip(grids, positions, strict=True)], 1)
    count = counts.pop()
    level = levels_of(positions)
    place = torch.cat(list(positions), 1)
    width = torch.stack([torch._shape_as_tensor(one)[3] for one in maps])
    cell = place if count == 1 else _quotient(place, torch.tensor(count))
    row = _quotient(cell, width[level])
    column = cell - row * width[level]
    strides = torch.tensor(generator.strides, dtype=torch.float)
    shift = torch.stack([column, row], -1).to(strides) * strides[level]
    if isinstance(generator, MlvlPointGenerator):
        return shift + (strides * generator.offset)[level]
    base = torch.cat(generator.base_anchors)
    return torch.cat([shift, shift], -1) + base[
        level * count + (place - cell * count)]


def levels_of(positions: Sequence[Tensor]) -> Tensor:
    """The number of the level of each of some positions, (B, all K)."""
    return torch.cat([torch.full_like(places, number)
                      for number, places in enumerate(positions)], 1)


def _is_mmdets(generator: Any) -> bool:
    """Whether its priors are those of one of mmdet's two common kinds."""
    return any(
        type(generator).grid_priors is kind.grid_priors
        and type(generator).single_level_grid_priors
        is kind.single_level_grid_priors
        for kind in (AnchorGenerator, MlvlPointGenerator))


def _quotient(one: Tensor, other: Tensor) -> Tensor:
    # Nothing is below zero, where the two ways of rounding would differ.
    return torch.div(one, other, rounding_mode='trunc')
