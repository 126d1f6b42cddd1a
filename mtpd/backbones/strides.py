"""Which strides a library's model has, and what to say if it cannot serve."""
import difflib
import math
from typing import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtpd.compat.checkpoints import CheckpointUnavailable

DRY_RUN_SIZE = (256, 320)
"""Height and width of the dry run's image, in pixels. Oblong, because the maps
of a channels-last model (N, H, W, C) then fit no stride in both directions."""

STRIDES = (4, 8, 16, 32)
"""Strides that a backbone returns unless its config asks for others."""


def stride_of(shape: Sequence[int]) -> int | None:
    """Stride of a map that a model returns for an image of
    :data:`DRY_RUN_SIZE`.

    The nearest power of two, since unpadded convolutions and rounded-up pools
    lose up to 4 positions at the border: SqueezeNet 1.1 returns 15 positions
    for 256 pixels and Inception v3 returns 60.

    Args:
        shape: Of the map, (N, C, H, W).

    Returns:
        Pixels per position; None if height and width disagree, because such a
        map is not laid out as (N, C, H, W).
    """
    if len(shape) != 4:
        return None
    stride = 2 ** round(math.log2(DRY_RUN_SIZE[0] / shape[2]))
    for side, positions in zip(DRY_RUN_SIZE, shape[2:], strict=True):
        if not -4 <= positions - side / stride <= 1:
            return None
    return stride


def check_pyramid(name: str, shapes: Sequence[Sequence[int]],
                  advice: str) -> list[int]:
    """The strides of a model's maps.

    Args:
        name: Of the model, for the message.
        shapes: Of the maps for an image of :data:`DRY_RUN_SIZE`, in the
            model's order.
        advice: A sentence on what to do if this is no pyramid.

    Raises:
        ValueError: Some map is not (N, C, H, W), or all have one stride.
    """
    strides = [s for s in map(stride_of, shapes) if s is not None]
    if len(strides) < len(shapes) or len(set(strides)) < 2:
        height, width = DRY_RUN_SIZE
        distinct = dict.fromkeys(str(tuple(shape)) for shape in shapes)
        raise ValueError(
            f'{name} returns no feature pyramid: for an image of {height} x '
            f'{width} pixels it returns {", ".join(distinct) or "no maps"}, '
            'but a backbone needs maps (N, C, H, W) of several strides, all '
            f'powers of two. {advice}')
    return strides


def choose_strides(name: str, available: Sequence[int],
                   wanted: Sequence[int] | None) -> tuple[int, ...]:
    """The strides that a backbone returns, ascending.

    Args:
        name: Of the model, for the message.
        available: Strides of the model's maps.
        wanted: As set by the user; None takes those of :data:`STRIDES`.

    Raises:
        ValueError: The model lacks a wanted stride, or ``wanted`` is empty.
    """
    if wanted is None:
        return tuple(s for s in STRIDES if s in available)
    if not isinstance(wanted, (list, tuple)):
        raise ValueError(f'strides={wanted!r} of {name} has to be a list; '
                         f'did you mean ({wanted!r},)?')
    missing = sorted(set(wanted) - set(available))
    if missing or not wanted:
        suffix = f' and none of {missing}' if missing else ''
        raise ValueError(
            f'strides={tuple(wanted)} of {name}: it has maps of strides '
            f'{tuple(sorted(set(available)))}{suffix}. Set strides to some of '
            'these, or leave it out.')
    return tuple(sorted(set(wanted)))


def dry_run_error(name: str, error: Exception, advice: str) -> ValueError:
    """The error to raise if the dry run failed with ``error``."""
    height, width = DRY_RUN_SIZE
    return ValueError(
        f'{name} cannot be used in a detector, whose images come in all '
        f'sizes: for one of {height} x {width} pixels it fails with '
        f'{type(error).__name__}: {_first_line(error)}. {advice}')


def build_error(name: str, library: str, options: dict,
                error: Exception) -> ValueError:
    """The error to raise if the library refused the model with ``error``."""
    return ValueError(
        f'{library} cannot build {name} as a feature extractor with the '
        f'options {dict(options)}: {_first_line(error)}. Correct them, or '
        'choose another model.')


def weights_error(name: str, cure: str,
                  error: Exception) -> CheckpointUnavailable:
    """The error to raise if pretrained weights could not be fetched."""
    return CheckpointUnavailable(
        f'model.backbone: the pretrained weights of {name} could not be '
        f'fetched ({type(error).__name__}: {_first_line(error)}). Connect to '
        f'the network, or set {cure}; tools/get_weights.py makes files for '
        'some models.')


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [''])[0].rstrip('.')


def suggest_names(name: str, known: Sequence[str]) -> str:
    """The last sentence of a message about an unknown model name."""
    matches = difflib.get_close_matches(name, known, 3)
    if matches:
        return f'Did you mean {" or ".join(map(repr, matches))}?'
    return f'It has {len(known)} models, such as {known[0]!r}.'


def freeze_norm_statistics(module: nn.Module) -> None:
    """Put all batch norms into eval mode, so that they keep their running
    statistics."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()
