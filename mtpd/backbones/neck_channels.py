"""A neck's input channels, read from the backbone that feeds it."""
import inspect
from typing import Any, Mapping, MutableMapping

from mmdet.models.necks import YOLOV3Neck
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict

from .from_config import backbone_config, channels_of


def fill_in_channels(cfg: Config | ConfigDict) -> None:
    """Set ``model.neck.in_channels`` to the channels of the backbone's maps.

    Does so for ``TimmBackbone`` and ``TorchvisionBackbone``, and
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
    backbone, neck = backbone_config(cfg), model.get('neck')
    if isinstance(neck, (list, tuple)) and neck:
        neck = neck[0]
    if backbone is None or not isinstance(neck, MutableMapping):
        return
    parameter = _channels_parameter(neck)
    if 'in_channels' in neck or parameter is not None:
        channels = channels_of(backbone)
        neck['in_channels'] = _format_channels(neck, parameter, channels)


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
