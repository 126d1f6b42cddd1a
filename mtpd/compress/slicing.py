"""A smaller detector with the weights of a larger one."""
from typing import Any, Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from torch import Tensor

from mtpd.compat.state_dicts import not_finite
from mtpd.distill.detector import build_detector
from mtpd.randomness import isolate_rng

from .channels import Importance, slice_weights
from .errors import CannotSlice, WidthUnavailable
from .trace import operations, unread_weights


def sliced_detector(original: BaseDetector, model: ConfigDict,
                    keeps_backbone: bool = False,
                    importance: Importance | None = None) -> BaseDetector:
    """A detector of a smaller config whose weights are the most important
    channels of a trained one.

    Args:
        original: The trained detector; its weights are not changed.
        model: The ``model`` part of the smaller config.
        keeps_backbone: Whether both backbones are equal.
        importance: As in :func:`slice_weights`.

    Raises:
        WidthUnavailable: With this width the layers are connected in another
            way.
        CannotSlice: The smaller config is not the larger one with fewer
            channels.
    """
    smaller = built(model)
    missing = sorted(set(original.state_dict()) ^ set(smaller.state_dict()))
    if missing:
        raise CannotSlice([
            f'The two detectors differ in more than widths: {missing[0]} and '
            f'{len(missing) - 1} more tensors are in one of them only. '
            'Change nothing but numbers of channels.'])
    if operations(original, keeps_backbone) != operations(smaller,
                                                          keeps_backbone):
        # torchvision's MobileNets add a block's input to its output wherever
        # both have as many channels, after rounding.
        raise WidthUnavailable([
            'With this width the layers of the smaller model are connected in '
            'another way than those of the original. Choose another width.'])
    weights = slice_weights(original, smaller, keeps_backbone,
                            importance).weights
    if not keeps_backbone:
        weights.update(_first_channels(unread_weights(original), smaller))
    other = [f'{key} ({list(weights[key].shape)}, not {list(value.shape)})'
             for key, value in smaller.state_dict().items()
             if weights[key].shape != value.shape]
    if other:
        raise CannotSlice([
            f'{len(other)} tensors of the slice have another shape than in '
            f'the smaller config, the first is {other[0]}. The trace of '
            'channels cannot follow this detector.'])
    smaller.load_state_dict(weights, strict=True)
    meta: Any = getattr(original, 'dataset_meta', None)
    smaller.dataset_meta = meta or {}
    return smaller


def _first_channels(weights: Mapping[str, Tensor],
                    smaller: BaseDetector) -> dict[str, Tensor]:
    """As much of weights that nothing reads as the smaller detector holds."""
    shapes = smaller.state_dict()
    cut = {}
    for key, value in weights.items():
        cut[key] = value[tuple(map(slice, shapes[key].shape))].clone()
    if cut:
        names = dict.fromkeys('.'.join(key.split('.')[:2]) for key in cut)
        print_log(f'{", ".join(names)}: no output depends on these layers '
                  '(out_indices leaves them out). The slice has them, too, '
                  'with their first channels.', logger='current')
    return cut


def trained(model: Mapping[str, Any], checkpoint: str,
            field: str = 'the checkpoint') -> BaseDetector:
    """A detector with its checkpoint's weights.

    Args:
        model: As the others, see :func:`build_detector`.

    Raises:
        CannotSlice: They are not finite.
        CheckpointMismatch, CheckpointUnavailable, CorruptCheckpoint,
            UnsafeCheckpoint, FileNotFoundError: The checkpoint cannot be used.
    """
    detector = build_detector(model, checkpoint, field)
    bad = not_finite(detector.state_dict())
    if bad:
        raise CannotSlice([f'{checkpoint}: {bad} holds numbers that are not '
                           'finite. Name a checkpoint from before.'])
    return detector


def built(model: ConfigDict) -> BaseDetector:
    """A detector with any weights.

    Raises:
        WidthUnavailable: Its config builds none.
    """
    try:
        with isolate_rng(0):
            return build_detector(model)
    except Exception as error:  # whatever a part of mmdet may raise
        raise WidthUnavailable([
            'The smaller model cannot be built '
            f'({type(error).__name__}: {error}). Choose another width.']) \
            from error
