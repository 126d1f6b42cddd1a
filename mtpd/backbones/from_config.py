"""The backbones of this package in configs."""
from typing import Any, Mapping

import torch
from mmengine.config import Config, ConfigDict

from mtpd.randomness import isolate_rng

from .timm_backbone import TimmBackbone
from .torchvision_backbone import TorchvisionBackbone

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


def example_of(backbone: Mapping[str, Any]) -> Backbone:
    """A backbone as its config says, to be asked for what it is like; no
    weights are read, and timm's have no values.

    Args:
        backbone: Of one of this package's.

    Raises:
        ImportError: It needs timm, which is not installed.
        ValueError: Its config is wrong.
    """
    wrapper = _wrapper(backbone['type'])
    assert wrapper is not None
    if not backbone.get('model_name'):
        raise ValueError(f'model_name of {wrapper.__name__} is not set. Set '
                         "the name of a model, such as 'resnet50'.")
    options = {key: value for key, value in backbone.items()
               if key not in ('type', '_scope_', 'init_cfg')}
    # timm's models build on the meta device within a quarter of a second;
    # torchvision's RegNet does not build there (torchvision 0.26).
    device = 'meta' if wrapper is TimmBackbone else 'cpu'
    with isolate_rng(0), torch.device(device):
        return wrapper(**options)


def _wrapper(kind: Any) -> type[Backbone] | None:
    """The class of this package that a backbone's ``type`` names, if any."""
    # The registry is not asked, because it would look for other packages'
    # backbones in these packages.
    name = kind.split('.')[-1] if isinstance(kind, str) else kind
    for wrapper in (TimmBackbone, TorchvisionBackbone):
        if name in (wrapper, wrapper.__name__):
            return wrapper
    return None
