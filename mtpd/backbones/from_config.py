"""The backbones of this package in configs."""
from typing import Any, Mapping

import torch
from mmengine.config import Config, ConfigDict

from mtpd.config_types import dict_of
from mtpd.randomness import isolate_rng

from . import timm_backbone, torchvision_backbone
from .normalisation import Normalisation
from .timm_backbone import TimmBackbone
from .torchvision_backbone import TorchvisionBackbone
from .weights_files import is_file

Backbone = TimmBackbone | TorchvisionBackbone


def backbone_config(cfg: Config | ConfigDict) -> Mapping[str, Any] | None:
    """The backbone of a config, if it is one of this package's.

    Args:
        cfg: A whole config, or its ``model`` part.
    """
    model = cfg.get('model', cfg)
    backbone = model.get('backbone') if isinstance(model, Mapping) else None
    if not isinstance(backbone, Mapping) \
            or _wrapper(backbone.get('type')) is None:
        return None
    return backbone


def channels_of(backbone: Mapping[str, Any]) -> tuple[int, ...]:
    """Channels of the maps that a backbone of this config returns; no weights
    are read.

    Args:
        backbone: The config of one of this package's.

    Raises:
        ImportError: It needs timm, which is not installed.
        ValueError: Its config is wrong.
    """
    wrapper, options = _arguments(backbone)
    # timm's models build on the meta device within a quarter of a second;
    # torchvision's RegNet does not build there (torchvision 0.26).
    device = 'meta' if wrapper is TimmBackbone else 'cpu'
    with isolate_rng(0), torch.device(device):
        return wrapper(**options).channels


def normalisation_of(backbone: Mapping[str, Any]) -> Normalisation:
    """The normalisation of the images that its weights were trained with.

    Args:
        backbone: As in :func:`channels_of`.

    Raises:
        ImportError, ValueError: As in :func:`channels_of`.
    """
    wrapper, options = _arguments(backbone)
    model_name = options.pop('model_name')
    library = timm_backbone if wrapper is TimmBackbone else \
        torchvision_backbone
    return library.trained_on(model_name, options)


def starts_from_file(cfg: Config | ConfigDict) -> bool:
    """Whether a model starts from a local file of its backbone's weights, and
    fetches nothing.

    Args:
        cfg: As in :func:`backbone_config`.
    """
    backbone = backbone_config(cfg) or {}
    overlay = dict_of(backbone, 'pretrained_cfg_overlay')
    is_local = is_file(backbone.get('pretrained')) or 'file' in overlay
    return is_local and '://' not in str(cfg.get('model', cfg))


def _wrapper(kind: Any) -> type[Backbone] | None:
    """The class of this package that a backbone's ``type`` names, if any."""
    # The registry is not asked, because it would look for other packages'
    # backbones in these packages.
    name = kind.split('.')[-1] if isinstance(kind, str) else kind
    for wrapper in (TimmBackbone, TorchvisionBackbone):
        if name in (wrapper, wrapper.__name__):
            return wrapper
    return None


def _arguments(backbone: Mapping[str, Any]
               ) -> tuple[type[Backbone], dict[str, Any]]:
    """The class of a backbone, and its arguments."""
    wrapper = _wrapper(backbone['type'])
    assert wrapper is not None
    if not backbone.get('model_name'):
        raise ValueError(f'model_name of {wrapper.__name__} is not set. Set '
                         "the name of a model, such as 'resnet50'.")
    return wrapper, {key: value for key, value in backbone.items()
                     if key not in ('type', '_scope_', 'init_cfg')}
