"""Keywords and values that a class does not take."""
import inspect
from types import UnionType
from typing import (Any, Callable, Collection, Mapping, Union, get_args,
                    get_origin, get_type_hints)

from mtpd.plan.errors import did_you_mean
from mtpd.plan.settings import is_number, is_positive_int

KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ('True or False', lambda v: isinstance(v, bool)),
    int: ('an integer',
          lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: ('a number', is_number),
    str: ('text', lambda v: isinstance(v, str)),
    type(None): ('None', lambda v: v is None)}
"""Annotations -> the same in words, and whether a value is of that kind."""

DIVISORS = {
    'LoggerHook': ('interval', 'interval_exp_name'), 'EMAHook': ('interval',),
    'MeanTeacherHook': ('interval',), 'DetVisualizationHook': ('interval',)}
"""Hooks -> settings by which they divide; for others 0 means never."""


def unknown_keywords(part: Callable, given: Mapping[str, Any], field: str,
                     others: Collection[str] = (),
                     given_later: Collection[str] = ()) -> list[str]:
    """The keywords of a config that a class or function does not take.

    Args:
        part: The class or function.
        given: Its config, with ``type``.
        field: Where the config stands, for messages.
        others: Keywords that whoever builds it takes out before.
        given_later: Keywords that whoever builds it adds.
    """
    try:
        parameters = inspect.signature(part).parameters.values()
    except (TypeError, ValueError):  # some C functions have none
        return []
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return []
    names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL
             and p.name not in given_later]
    return [f'{field}.{key} is no argument of {part.__name__}'
            + did_you_mean(key, names, prefix=f'{field}.')
            for key in given
            if key not in names and key not in others
            and key not in ('type', '_scope_')]


def wrong_values(part: type, given: Mapping[str, Any],
                 field: str) -> list[str]:
    """The values of a config that are not of the kind that a class's
    annotations say, as far as these are plain values.

    Args:
        part: The class.
        given: As in :func:`unknown_keywords`, and so is ``field``.
    """
    init = part.__init__  # type: ignore[misc]
    hints = get_type_hints(init)
    problems = []
    for key, value in given.items():
        kinds = _kinds(hints.get(key))
        if kinds and not any(KINDS[kind][1](value) for kind in kinds):
            words = ' or '.join(KINDS[kind][0] for kind in kinds)
            problems.append(f'{field}.{key} is {value!r}; it has to be '
                            f'{words}.')
    return problems


def wrong_divisors(part: Callable, given: Mapping[str, Any],
                   field: str) -> list[str]:
    """The intervals in the config of a hook by which it could not divide.

    Args:
        part: The class.
        given: As in :func:`unknown_keywords`, and so is ``field``.
    """
    kind = getattr(part, '__name__', '')
    if kind == 'DetVisualizationHook' and not given.get('draw'):
        return []  # it does nothing
    return [f'{field}.{key} is {given[key]!r}; it has to be an integer of at '
            f'least 1, because {kind} divides by it. A large number makes '
            'it rare.' for key in DIVISORS.get(kind, ())
            if key in given and not is_positive_int(given[key])]


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The plain kinds that an annotation allows; none for any other."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) \
        else (hint,)
    return kinds if all(kind in KINDS for kind in kinds) else ()
