"""Weights of other convolutions from plain ones, and back."""
from typing import Any, Iterator

from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn

from mtpd.compress.errors import CannotSlice

from . import BinaryWeightConv2d, LowRankConv2d, XNORConv2d

Layer = LowRankConv2d | BinaryWeightConv2d | XNORConv2d


def layers_of(module: nn.Module) -> Iterator[tuple[str, Layer]]:
    """The layers of this package within a module, by all of their names."""
    for name, layer in module.named_modules(remove_duplicate=False):
        if isinstance(layer, Layer):
            yield name, layer


def start_from(detector: BaseDetector, original: BaseDetector) -> int:
    """Give a detector the weights of one with plain convolutions.

    Args:
        detector: Receives them: the closest ones of low rank, or real weights
            whose signs and scales are taken.
        original: The same detector with plain convolutions.

    Returns:
        The number of convolutions that are of another kind.

    Raises:
        CannotSlice: The two differ in more than these convolutions.
    """
    weights = original.state_dict()
    count = 0
    for name, layer in layers_of(detector):
        weight = weights.pop(f'{name}.weight', None)
        if weight is not None:
            count += 1
            for key, value in layer.start(weight).items():
                weights[f'{name}.{key}'] = value
    _load(detector, weights)
    meta: Any = getattr(original, 'dataset_meta', None)
    detector.dataset_meta = meta or {}
    return count


def merge_into(detector: BaseDetector, layered: BaseDetector) -> int:
    """Give a detector with plain convolutions the weights that do the same as
    those of other ones.

    Args:
        detector: Receives them.
        layered: The same detector with layers of this package.

    Returns:
        The number of convolutions that were merged.

    Raises:
        CannotSlice: The two differ in more than these convolutions.
    """
    weights = layered.state_dict()
    count = 0
    for name, layer in layers_of(layered):
        for key in layer.state_dict():
            if key != 'bias':
                del weights[f'{name}.{key}']
        weights[f'{name}.weight'] = layer.plain_weight()
        count += 1
    _load(detector, weights)
    meta: Any = getattr(layered, 'dataset_meta', None)
    detector.dataset_meta = meta or {}
    return count


def _load(detector: nn.Module, weights: dict[str, Tensor]) -> None:
    own = detector.state_dict()
    other = sorted(set(own) ^ set(weights)) or [
        key for key, value in own.items() if value.shape != weights[key].shape]
    if other:
        raise CannotSlice([
            f'The two models differ in more than convolutions: {other[0]} and '
            f'{len(other) - 1} more tensors are not the same in both. Change '
            'nothing but conv_cfg.'])
    detector.load_state_dict(weights, strict=True)


def use_constant_weights(module: nn.Module) -> None:
    """Replace convolutions with binary weights by plain ones that do the
    same, so that a trace holds numbers in place of signs and scales.

    Args:
        module: It is changed.
    """
    plain: dict[nn.Module, nn.Conv2d] = {}
    for parent in list(module.modules()):
        for name, layer in list(parent._modules.items()):
            if isinstance(layer, BinaryWeightConv2d):
                if layer not in plain:  # which several parents may share
                    plain[layer] = layer.to_plain()
                setattr(parent, name, plain[layer])
