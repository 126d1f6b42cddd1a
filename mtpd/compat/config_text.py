"""The text of a config, with numbers that are not finite.

mmengine writes ``float('inf')``, as in ``clip_grad=dict(max_norm=...)``, as
``inf``, a name that its own ``Config.fromfile`` does not know (seen in
mmengine 0.10.7; to be removed once it writes what it reads).
"""
import math
from typing import Any, Mapping

from mmengine.config import Config

_MARK = '<not finite: {}>'
_VALUES = ('inf', '-inf', 'nan')


def pretty_text(content: Mapping[str, Any]) -> str:
    """The text of a config file.

    Args:
        content: Its values; a whole config's are ``cfg._cfg_dict``.
    """
    text: str = Config(_marked(dict(content.items()))).pretty_text
    for value in _VALUES:
        text = text.replace(repr(_MARK.format(value)), f"float('{value}')")
    return text


def _marked(value: Any) -> Any:
    """The same with a string for each number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _marked(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_marked, value))
    if isinstance(value, float) and not math.isfinite(value):
        return _MARK.format(float(value))
    return value
