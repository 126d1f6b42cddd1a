"""A neck's input channels, read from the backbone that feeds it."""
import inspect
from typing import Any, Mapping, MutableMapping

import torch
from mmdet.models.necks import YOLOV3Neck
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict

from mtpd.randomness import isolate_rng

from .timm_backbone import TimmBackbone
from .torchvision_backbone import TorchvisionBackbone


def fill_in_channels(cfg: Config | ConfigDict) -> None:
    """Set ``model.neck.in_channels`` from the model that a backbone names.

    Only for :class:`TimmBackbone` and :class:`TorchvisionBackbone`, and there
    always: what a config inherits from its ``_base_`` belongs to another
    backbone. Of several necks the first is meant. A neck without such an
    argument, and any other config, stays as it is.

    Args:
        cfg: A whole config, or its ``model`` part; changed in place.

    Raises:
        ImportError: The backbone needs timm, which is not installed.
        ValueError: The backbone's config is wrong.
    """
    model = cfg.get('model', cfg)
    if not isinstance(model, Mapping):
        return
    backbone, neck = model.get('backbone'), model.get('neck')
    if isinstance(neck, (list, tuple)) and neck:
        neck = neck[0]
    if not isinstance(backbone, Mapping) \
            or not isinstance(neck, MutableMapping):
        return
    wrapper = _wrapper(backbone.get('type'))
    if wrapper is None or not _takes_channels(neck):
        return
    neck['in_channels'] = _as_the_neck_takes_it(neck, _channels(wrapper,
                                                                backbone))


def _wrapper(kind: Any) -> type | None:
    """Which of the two a backbone's ``type`` is."""
    # By name and not by the registry, which would look for other packages'
    # backbones in these packages.
    name = kind.split('.')[-1] if isinstance(kind, str) else kind
    for wrapper in (TimmBackbone, TorchvisionBackbone):
        if name in (wrapper, wrapper.__name__):
            return wrapper
    return None


def _channels(wrapper: type, backbone: Mapping) -> tuple[int, ...]:
    if not backbone.get('model_name'):
        raise ValueError(f'model_name of {wrapper.__name__} is not set. Set '
                         "the name of a model, such as 'resnet50'.")
    options = {key: value for key, value in backbone.items()
               if key not in ('type', '_scope_', 'init_cfg')}
    # timm's models build on the meta device within a quarter of a second;
    # of torchvision's, RegNet does not (torchvision 0.26).
    device = 'meta' if wrapper is TimmBackbone else 'cpu'
    with isolate_rng(0), torch.device(device):
        return wrapper(**options).channels


def _takes_channels(neck: Mapping) -> bool:
    return 'in_channels' in neck or _parameter(neck) is not None


def _parameter(neck: Mapping) -> inspect.Parameter | None:
    """``in_channels`` of the neck's class, or of the class that it passes
    its keywords on to."""
    kind = _class(neck)
    for parent in inspect.getmro(kind) if kind else ():
        # Of a class in hand, which mypy takes for an instance of one.
        made = parent.__init__  # type: ignore[misc]
        parameters = inspect.signature(made).parameters
        if 'in_channels' in parameters:
            return parameters['in_channels']
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return None
    return None


def _class(neck: Mapping) -> type | None:
    kind = neck.get('type')
    return MODELS.get(kind) if isinstance(kind, str) else kind


def _as_the_neck_takes_it(neck: Mapping,
                          channels: tuple[int, ...]) -> Any:
    """One number for necks of one map (YOLOF's takes the last), all of them
    otherwise, in the neck's order."""
    given = neck.get('in_channels')
    parameter = _parameter(neck)
    if isinstance(given, int) or parameter is not None \
            and parameter.annotation is int:
        return channels[-1]
    if _class(neck) is YOLOV3Neck:
        channels = channels[::-1]  # it begins with the coarsest map
    # SSDNeck compares a tuple with a tuple, FPN asks for a list.
    return channels if isinstance(given, tuple) else list(channels)
