"""From the student's maps to the teacher's: channels by a 1x1 convolution,
resolution by resampling. Both exist only in training; ``make_branch`` in
branch.py makes them for each teacher."""
from typing import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pyramid import Features, describe_pyramid, grid_of

ADAPTERS = ('auto', 'conv')
"""'auto': a convolution only where channels differ; 'conv': at every level."""

STARTS = ('zero', 'random', 'identity')
"""How a convolution starts, where no fitted map is given."""


def resample(feature: Tensor, size: tuple[int, int]) -> Tensor:
    """A map on another grid: (N, C, H, W) -> (N, C, *size).

    A coarser map is interpolated bilinearly (``align_corners=False``), a finer
    one averaged over areas; where one side is finer and the other coarser,
    bilinearly. All of it is linear with weights that sum to one, so a 1x1
    convolution with bias gives the same before it and after it. Training and
    adaptation cost both use this function.
    """
    own = grid_of(feature)
    if own == tuple(size):
        return feature
    if own[0] >= size[0] and own[1] >= size[1]:
        return F.interpolate(feature, size=size, mode='area')
    return F.interpolate(feature, size=size, mode='bilinear',
                         align_corners=False)


class FeatureAdapter(nn.Module):
    """Takes one level's map to the teacher's channels and grid.

    A 1x1 convolution with bias takes it to the teacher's channels, then
    :func:`resample` to the teacher's grid. The convolution comes first: it
    works on the smaller map, and the order does not change the function.

    Args:
        in_channels: Channels of the student's map.
        out_channels: Channels of the teacher's map.
        adapter: 'auto' leaves the convolution out where the channels are
            equal; 'conv' never does.
        start: How the convolution starts (``mtpd.init_adapters``). 'zero', so
            that it learns before any distillation gradient reaches the
            student; 'random'; or 'identity', channel i from channel i as far
            as both have one.

    Raises:
        ValueError: An unknown ``adapter`` or ``start``.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), section 3.1; the upsampling
        mode is not given there.
    """

    def __init__(self, in_channels: int, out_channels: int,
                 adapter: str = 'auto', start: str = 'zero') -> None:
        super().__init__()
        for name, value, known in (('adapter', adapter, ADAPTERS),
                                   ('init_adapters', start, STARTS)):
            if value not in known:
                raise ValueError(f'mtpd.{name} is {value!r}; it has to be '
                                 f'one of {", ".join(map(repr, known))}.')
        if in_channels == out_channels and adapter == 'auto':
            self.project: nn.Conv2d | nn.Identity = nn.Identity()
            return
        self.project = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        if start in ('zero', 'identity'):
            # On BCCD, over the first steps of stage 2, the distillation loss
            # was 28 times the detection loss from random weights and 5 times
            # from zero. In stage 1 it was 3 times either way, and the final AP
            # was the same.
            for part in self.project.parameters():
                nn.init.zeros_(part)
        if start == 'identity':
            nn.init.dirac_(self.project.weight)

    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Start from a fitted linear map; nothing where there is no
        convolution.

        Args:
            weight: (out_channels, in_channels).
            bias: (out_channels,).
        """
        if isinstance(self.project, nn.Conv2d):
            self.project.load_state_dict({
                'weight': weight[:, :, None, None], 'bias': bias})

    def forward(self, student: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, *size)."""
        return resample(self.project(student), size)


def in_full_precision(feature: Tensor) -> Tensor:
    """float32 for half precision; squares of large maps overflow there."""
    return feature.float() if feature.dtype in (torch.half, torch.bfloat16) \
        else feature


class PyramidAdapter(nn.Module):
    """One :class:`FeatureAdapter` per stride that both pyramids have.

    Args:
        student: stride -> channels of the student's maps.
        teacher: stride -> channels of the teacher's maps; None where the
            mechanism does not need its channels, then maps are resampled only.
        strides: The strides to pair, present in both.
        adapter: See :class:`FeatureAdapter`.
        start: See :class:`FeatureAdapter`.
    """

    levels: Mapping[str, FeatureAdapter]  # ModuleDict is not generic

    def __init__(self, student: Mapping[int, int],
                 teacher: Mapping[int, int] | None, strides: Iterable[int],
                 adapter: str = 'auto', start: str = 'zero') -> None:
        super().__init__()
        self.strides = tuple(strides)
        levels = {}
        for s in self.strides:
            levels[str(s)] = FeatureAdapter(student[s], student[s]) \
                if teacher is None else FeatureAdapter(
                    student[s], teacher[s], adapter, start)
        self.levels = nn.ModuleDict(levels)  # type: ignore[assignment]

    @property
    def convolved_strides(self) -> tuple[int, ...]:
        """The levels that have a convolution."""
        return tuple(s for s in self.strides if isinstance(
            self.levels[str(s)].project, nn.Conv2d))

    def adapt(self, stride: int, student: Tensor, teacher: Tensor) -> Tensor:
        """The student's map of one level with the teacher's channels and grid,
        in the precision of the adapter's own weights (float32).

        Args:
            stride: Of the level, in pixels.
            student: (N, C, H, W).
            teacher: (N, C', H', W').
        """
        return self.levels[str(stride)](in_full_precision(student),
                                        grid_of(teacher))

    def forward(self, student: Features, teacher: Features) -> Features:
        """:meth:`adapt` of all levels."""
        return {s: self.adapt(s, student[s], teacher[s])
                for s in self.strides}

    def start_from(self, fitted: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Start from fitted linear maps.

        Args:
            fitted: Some of the strides -> ``weight`` (C_t, C_s) and
                ``bias`` (C_t).
        """
        for stride, fit in fitted.items():
            self.levels[str(stride)].start_from(**fit)

    def describe(self) -> str:
        """Level by level, for the log: ``stride 8: 1x1 conv 64 -> 256``."""
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
    both = (f'{name} has {describe_pyramid(teacher)}; the student has '
            f'{describe_pyramid(student)}')
    if not shared:
        raise ValueError(
            f'{both}: no stride in common, so no level can be paired. Set '
            'model.neck (num_outs, start_level, strides of its extra levels) '
            'so that the student has a map at a stride of the teacher, or '
            'choose another teacher.')
    if wanted is None:
        return tuple(shared)
    lacking = sorted(set(wanted) - set(shared))
    if lacking:
        raise ValueError(
            f'mtpd.strides asks for {lacking}, which is not shared: {both}. '
            f'Set mtpd.strides={tuple(shared)} or fewer of them.')
    return tuple(sorted(set(wanted)))
