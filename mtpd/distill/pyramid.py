"""A detector's maps: their strides and channels, and how to record them."""
import math
from contextlib import contextmanager
from functools import wraps
from typing import Any, Callable, Iterator, Mapping
from weakref import WeakKeyDictionary

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn

from mtpd.randomness import isolate_rng

Features = dict[int, Tensor]
"""Maps of one batch: stride in pixels of the input -> (N, C, H, W)."""


@contextmanager
def record_output(module: nn.Module) -> Iterator[list[Any]]:
    """Collect what ``module`` returns while the block runs, call by call.

    ``detector.loss()`` runs backbone and neck itself; calling
    ``extract_feat`` beside it would do all of that work twice.
    """
    outputs: list[Any] = []
    handle = module.register_forward_hook(
        lambda _module, _args, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def evaluation_mode(*detectors: nn.Module) -> Iterator[None]:
    """Within the block, detectors are in eval mode; after it, each of their
    modules is in the mode that it had before."""
    modes = {module: module.training for detector in detectors
             for module in detector.modules()}
    # Setting 300 modules takes as long as a small detector's forward.
    if any(modes.values()):
        for detector in detectors:
            detector.eval()
    try:
        yield
    finally:
        # One by one: train() would also reset modules in eval on purpose.
        for module, mode in modes.items():
            if module.training != mode:
                module.training = mode


def batch_norms(detector: nn.Module) -> list[nn.Module]:
    """A detector's layers that normalise by statistics of a batch."""
    return [module for module in detector.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def once_per_detector(
        measure: Callable[[BaseDetector], dict[int, int]]
) -> Callable[[BaseDetector], dict[int, int]]:
    """Remember what a function has measured, as long as the detector lives.

    A copy of the detector is another detector. So is, in truth, one whose
    neck was replaced after it was measured; no part of mtpd does that.
    """
    measured: WeakKeyDictionary[BaseDetector, dict[int, int]] = \
        WeakKeyDictionary()

    @wraps(measure)
    def remembered(detector: BaseDetector) -> dict[int, int]:
        if detector not in measured:
            measured[detector] = measure(detector)
        return dict(measured[detector])

    return remembered


@once_per_detector
def pyramid_channels(detector: BaseDetector) -> dict[int, int]:
    """Stride -> channels of a detector's maps, from one dry forward pass.

    Leaves the detector's mode, buffers and every random generator as they
    were.

    Raises:
        ValueError: The neck does not return maps of distinct strides.
    """
    # More than 256 pixels only for levels that cannot be distinguished there
    # (SSDLite's of strides 256 and 512 have one position each).
    for side in (256, 1024):
        strides, maps = dry_pass(detector, side=side)
        if len(set(strides)) == len(strides):
            break
    else:
        raise ValueError(
            f'The neck of {type(detector).__name__} returns maps of equal '
            f'stride {strides}: levels are paired by stride, so each may '
            'occur once. Choose a detector with an FPN-like neck.')
    return {stride: m.shape[1]
            for stride, m in zip(strides, maps, strict=True)}


def dry_pass(detector: BaseDetector,
             further: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
             = lambda maps: maps, side: int = 256
             ) -> tuple[list[int], tuple[Tensor, ...]]:
    """Strides of a detector's maps, and the maps of one black image.

    Args:
        detector: Its mode, its buffers and every random generator are left as
            they were.
        further: Applied to the maps, in the same mode.
        side: Of the image in pixels, a multiple of every stride up to P8
            and of Swin's patch x window sizes; in a smaller one P7 would have
            one position.

    Raises:
        ValueError: There is no feature pyramid.
    """
    device = next(detector.parameters()).device
    with evaluation_mode(detector), torch.no_grad(), isolate_rng(0):
        maps = detector.extract_feat(torch.zeros(1, 3, side, side,
                                                 device=device))
        if not isinstance(maps, (tuple, list)) or not all(
                isinstance(m, Tensor) and m.dim() == 4 for m in maps):
            raise ValueError(
                f'{type(detector).__name__}.extract_feat returns no feature '
                'pyramid (a tuple of maps N, C, H, W), so there is nothing to '
                'match. Choose a detector with an FPN-like neck.')
        results = further(tuple(maps))
    return [_stride(side, m.shape[-1]) for m in maps], results


def _stride(side: int, positions: int) -> int:
    """Pixels per position; pools without padding lose a few of them at the
    border (SqueezeNet makes 15 of 256 pixels at stride 16)."""
    power = 2 ** round(math.log2(side / positions))
    return power if abs(side // power - positions) <= positions // 8 \
        else round(side / positions)


def grid_of(feature: Tensor) -> tuple[int, int]:
    """(H, W) of a map or a batch of images (..., H, W)."""
    height, width = feature.shape[-2:]
    return height, width


def describe_pyramid(channels: Mapping[int, int]) -> str:
    """``stride 8: 256 channels, stride 16: 256 channels``."""
    return ', '.join(f'stride {s}: {c} channels'
                     for s, c in channels.items()) or 'no map'


def by_stride(maps: tuple[Tensor, ...], strides: tuple[int, ...]) -> Features:
    """Name a neck's output maps by the strides of the dry pass."""
    if len(maps) != len(strides):
        raise ValueError(f'The neck returned {len(maps)} maps; its dry pass '
                         f'had {len(strides)}, at strides {strides}.')
    return dict(zip(strides, maps, strict=True))
