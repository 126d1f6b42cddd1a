"""Types in configs: a name, an import path or, in pure Python, a class.

mmengine builds all three. It cannot write a class into a config file, so a
pure-Python config (``read_base``) is turned into names once, when it is read.
"""
import inspect
from types import FunctionType
from typing import Any, Mapping

import mmdet.registry
import torch
from mmengine.config import Config
from mmengine.registry import Registry

SCOPE = 'mmdet'
"""The scope in which the names are registered."""


def type_name(kind: Any) -> str:
    """A type's own name: ``RetinaNet`` for the class, ``RetinaNet``,
    ``mmdet.RetinaNet`` and ``mmdet.models.RetinaNet``; empty for None.

    Args:
        kind: The value of ``type`` in a config.
    """
    if kind is None:
        return ''
    return getattr(kind, '__name__', str(kind)).rpartition('.')[-1]


def with_names(cfg: Config) -> Config:
    """A config whose classes and functions are written by name.

    The name is the registered one where mmdet's registries find the same
    class by it, else the import path. A config without a class is returned as
    it is.

    Args:
        cfg: The config; it is not changed.

    Raises:
        ImportError: A pure-Python config imports what does not exist.
    """
    content = _named(cfg._cfg_dict)
    if content is cfg._cfg_dict:
        return cfg
    content['default_scope'] = content.get('default_scope') or SCOPE
    return Config(content, cfg_text=cfg.text, filename=cfg.filename)


def _named(value: Any) -> Any:
    """The value itself where nothing in it has to be named."""
    if isinstance(value, Mapping):
        # items() of mmengine's dict imports what a lazy entry names.
        entries = {key: _named(entry) for key, entry in value.items()}
        stored = dict.values(value) if isinstance(value, dict) \
            else value.values()
        same = all(map(_is, entries.values(), stored))
        return value if same else entries
    if isinstance(value, (list, tuple)):
        items = [_named(item) for item in value]
        return value if all(map(_is, items, value)) else type(value)(items)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix('torch.')
    if inspect.isclass(value) or isinstance(value, FunctionType):
        return _name_of(value)
    return value


def _is(one: Any, other: Any) -> bool:
    return one is other


def _name_of(part: Any) -> Any:
    """How a config file can name a class or function; itself where it is
    defined within a function, so that nothing can."""
    name = part.__name__
    registered = [found for registry in vars(mmdet.registry).values()
                  if isinstance(registry, Registry)
                  and registry.scope == SCOPE
                  and (found := _registered(registry, name)) is not None]
    if registered and all(map(_is, registered, [part] * len(registered))):
        return name
    if '<locals>' in part.__qualname__:
        return part
    return f'{part.__module__}.{part.__qualname__}'


def _registered(registry: Registry | None, name: str) -> Any:
    """What a registry, or the one above it, finds by a name."""
    while registry is not None:
        if name in registry.module_dict:
            return registry.module_dict[name]
        registry = registry.parent
    return None
