"""What a config says of the weights that a model begins with."""
from typing import Any, Mapping

from mmengine.config import ConfigDict

from mtpd.config_types import type_name

_SOURCES = ('pretrained', 'weights')
"""Settings of backbones besides ``init_cfg``."""


def same_layers(backbone: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configs of backbones differ at most in where their first
    weights come from and which of them are trained."""
    parts = []
    for config in (backbone, other):
        parts.append({key: value for key, value in config.items() if key not in
                      (*_SOURCES, 'init_cfg', 'frozen_stages')})
    return parts[0] == parts[1]


def without_first_weights(model: ConfigDict) -> bool:
    """Remove what loads weights when a model is initialised.

    Args:
        model: The ``model`` part of a config; it is changed.

    Returns:
        Whether the backbone had such settings.
    """
    had_any = _without_pretrained(model.backbone)
    for key in _SOURCES:
        if model.backbone.get(key):
            model.backbone[key] = None
            had_any = True
    _without_pretrained(model)
    return had_any


def _without_pretrained(part: Any) -> bool:
    """Remove each ``init_cfg`` of the type Pretrained, at any depth."""
    if isinstance(part, (list, tuple)):
        part = dict(enumerate(part))
    if not isinstance(part, dict):
        return False
    init = part.get('init_cfg') or []
    given = [init] if isinstance(init, dict) else list(init)
    kept = [one for one in given
            if type_name(one.get('type')) != 'Pretrained']
    if len(kept) < len(given):
        part['init_cfg'] = kept or None
    inner = [_without_pretrained(value) for value in part.values()]
    return any(inner) or len(kept) < len(given)
