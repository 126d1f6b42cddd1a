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
    """Set ``model.neck.in_channels`` to the channels of the backbone's maps.

    Does so for :class:`TimmBackbone` and :class:`TorchvisionBackbone`, and
    replaces a value that is set: it was inherited from ``_base_`` and belongs
    to another backbone. Of several necks the first is changed. A neck without
    this argument, and a config with another backbone, stay as they are.

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
    if wrapper is None:
        return
    parameter = _channels_parameter(neck)
    if 'in_channels' in neck or parameter is not None:
        channels = _map_channels(wrapper, backbone)
        neck['in_channels'] = _format_channels(neck, parameter, channels)


def _wrapper(kind: Any) -> type | None:
    """The class of this package that a backbone's ``type`` names, if any."""
    # The registry is not asked, because it would look for other packages'
    # backbones in these packages.
    name = kind.split('.')[-1] if isinstance(kind, str) else kind
    for wrapper in (TimmBackbone, TorchvisionBackbone):
        if name in (wrapper, wrapper.__name__):
            return wrapper
    return None


def _map_channels(wrapper: type, backbone: Mapping) -> tuple[int, ...]:
    """Channels of the maps that a backbone of this config returns."""
    if not backbone.get('model_name'):
        raise ValueError(f'model_name of {wrapper.__name__} is not set. Set '
                         "the name of a model, such as 'resnet50'.")
    options = {key: value for key, value in backbone.items()
               if key not in ('type', '_scope_', 'init_cfg')}
    # timm's models build on the meta device within a quarter of a second;
    # torchvision's RegNet does not build there (torchvision 0.26).
    device = 'meta' if wrapper is TimmBackbone else 'cpu'
    with isolate_rng(0), torch.device(device):
        return wrapper(**options).channels


def _format_channels(neck: Mapping, parameter: inspect.Parameter | None,
                     channels: tuple[int, ...]) -> Any:
    """The channels as a neck takes them: one number, a list or a tuple."""
    given = neck.get('in_channels')
    if isinstance(given, int) or parameter is not None \
            and parameter.annotation is int:
        # A neck that takes one map, such as YOLOF's, takes the last.
        return channels[-1]
    if _neck_class(neck) is YOLOV3Neck:
        channels = channels[::-1]  # it begins with the coarsest map
    # SSDNeck compares a tuple with a tuple; FPN asks for a list.
    return channels if isinstance(given, tuple) else list(channels)


def _channels_parameter(neck: Mapping) -> inspect.Parameter | None:
    """``in_channels`` in the signature of the neck's class, or of the parent
    that receives its keyword arguments."""
    neck_class = _neck_class(neck)
    if neck_class is None:
        return None
    for parent in inspect.getmro(neck_class):
        # mypy takes the class for an instance.
        init = parent.__init__  # type: ignore[misc]
        parameters = inspect.signature(init).parameters
        if 'in_channels' in parameters:
            return parameters['in_channels']
        kinds = {parameter.kind for parameter in parameters.values()}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return None
    return None


def _neck_class(neck: Mapping) -> type | None:
    kind = neck.get('type')
    return MODELS.get(kind) if isinstance(kind, str) else kind
