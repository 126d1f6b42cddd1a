"""Detectors as `mtpd` sees them: strictly loaded, read at the neck."""
import copy
import math
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Mapping

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from torch import Tensor, nn

from mtpd.compat.checkpoints import fetch_checkpoint, read_checkpoint
from mtpd.randomness import isolate_rng

Features = dict[int, Tensor]
"""Maps of one batch: stride in pixels of the input -> (N, C, H, W)."""


class CheckpointMismatch(ValueError):
    """A checkpoint's weights are not those of the model that gets them."""


def build_detector(model: Mapping[str, Any],
                   checkpoint: str | None = None,
                   field: str = 'checkpoint') -> BaseDetector:
    """A detector from its mmdet config, with exactly a checkpoint's weights.

    Args:
        model: The ``model`` part of an mmdet config.
        checkpoint: File or URL; None leaves the weights as constructed.
        field: The config field that names the checkpoint, for messages.

    Raises:
        CheckpointMismatch: A key is missing, unexpected or of another shape.
        TypeError: The config builds something that is not a detector with
            maps between backbone and head.
    """
    # DETR and its kind write into the config that they are built from.
    detector = MODELS.build(ConfigDict(copy.deepcopy(model)))
    if not isinstance(detector, BaseDetector):
        raise TypeError(
            f'{field}: the config builds a {type(detector).__name__}, not an '
            'mmdet detector. Name the config of a detector.')
    if not detector.with_neck:
        raise TypeError(
            f'{field}: {type(detector).__name__} has no neck, and it is the '
            "neck's maps that are matched. Its backbone gives "
            f'{describe_pyramid(pyramid_channels(detector))}. Set a neck on '
            "them, such as model.neck=dict(type='FPN', in_channels=["
            + ', '.join(map(str, pyramid_channels(detector).values()))
            + '], out_channels=256, num_outs=5), or choose a detector that '
            'has one.')
    if checkpoint is not None:
        load_weights(detector, checkpoint, field)
    return detector


def load_weights(detector: nn.Module, checkpoint: str, field: str) -> None:
    """Load a checkpoint's ``state_dict`` strictly and say how much matched.

    Args:
        detector: Receives the weights.
        checkpoint: File or URL, with or without a ``state_dict`` entry.
        field: The config field that names it, for messages.

    Raises:
        CheckpointMismatch: Some tensor of either side has no counterpart of
            its shape on the other.
    """
    content = read_checkpoint(fetch_checkpoint(checkpoint))
    weights = content.get('state_dict', content)
    weights = {key.removeprefix('module.'): value
               for key, value in weights.items()}
    own = detector.state_dict()
    # torch fills these in for checkpoints from before they existed.
    missing = [key for key in own if key not in weights
               and not key.endswith('num_batches_tracked')]
    unexpected = [key for key in weights if key not in own]
    reshaped = [f'{key}: {tuple(weights[key].shape)} in the file, '
                f'{tuple(own[key].shape)} in the model'
                for key in own if key in weights
                and weights[key].shape != own[key].shape]
    matched = len([key for key in own if key in weights]) - len(reshaped)
    # Modules may rename old keys while they load (mmdet's ResNet heads do), so
    # only torch decides; what was compared above is for the message.
    try:
        detector.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        def some(kind: str, names: list[str]) -> str:
            more = f', and {len(names) - 4} more' if len(names) > 4 else ''
            return f'\n  {kind}: ' + ', '.join(names[:4]) + more if names \
                else ''
        raise CheckpointMismatch(
            f'{field}: {checkpoint} is not a checkpoint of this '
            f'{type(detector).__name__}: {matched} of {len(own)} tensors '
            'match.' + some('missing in the file', missing) +
            some('not in the model', unexpected) +
            some('of another shape', reshaped) +
            '\nSet the config that the checkpoint was trained with, or the '
            "checkpoint that belongs to the config (a student's backbone or "
            'other classes may start from model.init_cfg=dict('
            "type='Pretrained', checkpoint=...) with checkpoint=None here)."
        ) from error
    print_log(f'{field}: {matched} of {len(own)} tensors match {checkpoint}',
              logger='current')


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


def pyramid_channels(detector: BaseDetector) -> dict[int, int]:
    """Stride -> channels of a detector's maps, seen in one dry forward pass.

    Leaves the detector's mode, buffers and every random generator as they
    were.

    Raises:
        ValueError: The neck does not return maps of distinct strides.
    """
    # Beyond 256 pixels only for levels that cannot be told apart there
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
        further: What to make of the maps, in the same mode.
        side: Of the image in pixels, a multiple of every stride up to P8
            and of Swin's patch x window sizes; in a smaller one P7 would have
            one position.

    Raises:
        ValueError: There is no feature pyramid.
    """
    device = next(detector.parameters()).device
    modes = {module: module.training for module in detector.modules()}
    detector.eval()
    with torch.no_grad(), isolate_rng(0):
        maps = detector.extract_feat(torch.zeros(1, 3, side, side,
                                                 device=device))
        if not isinstance(maps, (tuple, list)) or not all(
                isinstance(m, Tensor) and m.dim() == 4 for m in maps):
            raise ValueError(
                f'{type(detector).__name__}.extract_feat returns no feature '
                'pyramid (a tuple of maps N, C, H, W), so there is nothing to '
                'match. Choose a detector with an FPN-like neck.')
        made = further(tuple(maps))
    for module, mode in modes.items():
        module.training = mode
    return [_stride(side, m.shape[-1]) for m in maps], made


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
    """Name a neck's output maps by the strides that the dry pass has found."""
    if len(maps) != len(strides):
        raise ValueError(f'The neck returned {len(maps)} maps, {len(strides)} '
                         f'at strides {strides} were seen in the dry pass.')
    return dict(zip(strides, maps, strict=True))
