"""Types in configs: a name, an import path or, in pure Python, a class.

mmengine builds all three. It cannot write a class into a config file, so a
pure-Python config (``read_base``) is turned into names once, when it is read.
"""
import difflib
import inspect
import re
from types import FunctionType
from typing import Any, Iterable, Mapping, Sequence

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
    class by it, else the import path. What a pure-Python config imports or
    defines to be written with, modules and functions, is left out, as mmengine
    does in configs of the older form. A config without any of these is
    returned as it is.

    Args:
        cfg: The config; it is not changed.

    Raises:
        ImportError: A pure-Python config imports what does not exist.
    """
    kept = {key: value for key, value in cfg.items()
            if not (inspect.ismodule(value) or inspect.isroutine(value))}
    content = _named(cfg._cfg_dict if len(kept) == len(cfg) else kept)
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


def closest_name(name: Any, known: Iterable[str]) -> str | None:
    """The known name that was probably meant; None if none is close.

    Small letters, punctuation and a missing "Loss" count for little: ``cwd``
    is ``CWDLoss``.

    Args:
        name: What was written.
        known: The names that exist.
    """
    known = list(known)
    close = difflib.get_close_matches(str(name), known, 1)
    if close:
        return close[0]
    plain: dict[str, str] = {}
    for one in known:
        plain.setdefault(plain_name(one), one)
    close = difflib.get_close_matches(plain_name(str(name)), plain, 1)
    return plain[close[0]] if close else None


def plain_name(name: str) -> str:
    """A name in small letters and digits alone, without "loss" at its end."""
    plain = re.sub('[^a-z0-9]', '', name.lower())
    return plain.removesuffix('loss') or plain


def as_code(value: Any) -> str:
    """A value as it is written in a config: ``dict(type='PKDLoss')``."""
    if value is ...:
        return '...'
    if isinstance(value, Mapping):
        parts = [f'{key}={as_code(part)}' for key, part in value.items()]
        return f'dict({", ".join(parts)})'
    if isinstance(value, list):
        return f'[{", ".join(map(as_code, value))}]'
    return repr(value)


def wrong_shapes(cfg: Mapping[str, Any], dicts: Sequence[str],
                 lists: Sequence[str]) -> dict[str, str]:
    """The parts of a config that are text or a list where a dict has to be,
    or no list where that has to be: field -> what is wrong.

    Args:
        cfg: The config.
        dicts: Fields that have to be a dict, if they are set, such as
            ``optim_wrapper.optimizer``.
        lists: Fields that have to be a list.
    """
    problems = {}
    for field in dicts:
        value = value_of(cfg, field)
        if isinstance(value, (str, list, tuple)):
            problems[field] = no_dict(field, value)
    for field in lists:
        value = value_of(cfg, field)
        if isinstance(value, (str, Mapping)):
            problems[field] = (f'{field} is {as_code(value)}; it has to be a '
                               'list; did you mean '
                               f'{as_code([meant_dict(value)])}?')
    return problems


def value_of(cfg: Mapping[str, Any], field: str) -> Any:
    """A field of a config, such as ``optim_wrapper.optimizer``; None where it
    is not set."""
    value: Any = cfg
    for key in field.split('.'):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def dict_of(cfg: Config | Mapping[str, Any], field: str) -> Any:
    """The dict in a field of a config, such as ``optim_wrapper.optimizer``;
    an empty one where it, or one around it, is not set.

    Args:
        cfg: The config.
        field: Keys, with dots between them.
    """
    part: Any = cfg
    for key in field.split('.'):
        part = part.get(key) or {}
    return part


def imported_modules(cfg: Config | Mapping[str, Any]) -> list[str]:
    """The modules of ``custom_imports``, which mmengine also takes as one
    name.

    Args:
        cfg: A whole config.
    """
    names = dict_of(cfg, 'custom_imports').get('imports') or []
    return [names] if isinstance(names, str) else list(names)


def no_dict(field: str, value: Any, known: Iterable[str] = ()) -> str:
    """That a field is text or a list, and the dict that is probably meant.

    Args:
        field: Where the value stands.
        value: The text or list.
        known: The types that exist.
    """
    meant = meant_dict(value)
    if meant is None:
        return f'{field} is {as_code(value)}; it has to be a dict.'
    kind = meant.get('type', '')
    meant['type'] = closest_name(kind, known) or kind
    return (f'{field} is {as_code(value)}; it has to be a dict; did you mean '
            f'{as_code(meant)}?')


def meant_dict(value: Any) -> dict[str, Any] | None:
    """The dict that a text, or a list of one entry, probably stands for."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return {'type': value}
    return dict(value) if isinstance(value, Mapping) else None
