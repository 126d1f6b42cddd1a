"""The error that lists what is wrong with a config, and "did you mean".

Messages about single settings are written in ``mtpd.plan.settings``.
"""
import ast
import inspect
import re
from contextlib import suppress
from dataclasses import fields
from typing import Any, Callable, Iterable, Iterator, Mapping

from mtpd.config_types import as_code, closest_name


class PlanError(ValueError):
    """Everything that is wrong with a progression's config.

    Attributes:
        heading: The message's first line.
        problems: One message each.
    """

    heading = 'Cannot start'

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = '' if len(problems) == 1 else f' ({len(problems)} problems)'
        lines = '\n'.join(f'  - {problem}' for problem in problems)
        super().__init__(f'{self.heading}{count}:\n{lines}')

    def __reduce__(self) -> tuple:
        return type(self), (self.problems,)  # from process to process


class NoMeanAP(PlanError):
    """A validation that does not report what stages are compared by."""

    heading = 'The validation cannot be used; what was trained is kept'


def joined_names(name: Any, known: Iterable[str]) -> list[str]:
    """The known names that a name consists of, as Python joins two strings
    with no comma between them; empty if it does not.

    Args:
        name: The unknown name.
        known: The names that exist.
    """
    known = list(known)
    rests = {str(name): list[str]()}  # what is left -> the names before it
    while rests:
        rest, names = rests.popitem()
        for part in known:
            if part and rest == part:
                return [*names, part]
            if part and rest.startswith(part):
                rests[rest.removeprefix(part)] = [*names, part]
    return []


def missing_comma(value: Any, words: str) -> str:
    """``; a comma is missing between 'a' and 'b'`` where a text is two of the
    choices that a form names in quotes; else empty.

    Args:
        value: What a setting has: a text or a list with one.
        words: The form in words.
    """
    choices = re.findall("'([^']*)'", words)
    for part in value if isinstance(value, (list, tuple)) else [value]:
        joined = joined_names(part, choices)
        if isinstance(part, str) and len(joined) > 1:
            return _between(joined)
    return ''


def suggest_value(value: Any, form: Any) -> str:
    """What a value of a wrong form probably means: ``; did you mean 'conv'?``,
    a missing comma, or a full stop.

    Args:
        value: What a setting has.
        form: Its form, a ``mtpd.plan.settings.Form``.
    """
    comma = missing_comma(value, form.words)
    if comma:
        return f'{comma}.'
    for candidate in _candidates(value, form.words):
        if accepts(form, candidate):
            return f'; did you mean {as_code(candidate)}?'
    return '.'


def accepts(form: Any, value: Any) -> bool:
    """Whether a value has a form, and can be converted."""
    try:
        if not form.check(value):
            return False
        form.convert(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def suggest_group(value: Any, kind: type) -> str:
    """As :func:`suggest_value`, of a value in place of a dict of settings:
    each entry is put where it fits.

    Args:
        value: What the config has.
        kind: The dataclass of the settings.
    """
    forms = {entry.name: entry.metadata['form'] for entry in fields(kind)}
    meant: dict[str, Any] = {}
    for item in _unwrapped(value, several=True):
        place = place_of(item, forms)
        if place is None:
            return '.'
        del forms[place[0]]
        meant.update([place])
    required = [parameter.name for parameter
                in inspect.signature(kind).parameters.values()
                if parameter.default is parameter.empty]
    whole = {**dict.fromkeys(required, ...), **meant}
    return f'; did you mean {as_code(whole)}?' if meant else '.'


def place_of(item: Any, forms: Mapping[str, Any]) -> tuple[str, Any] | None:
    """The first setting whose form a value has, and the value; a name such as
    'compile' switches the setting on. None where there is none.

    Args:
        item: The value.
        forms: Setting -> its form.
    """
    if type(item) not in (str, int, float):
        return None
    places = [(name, item) for name in forms if accepts(forms[name], item)]
    if item in forms and accepts(forms[item], True):
        places.append((item, True))
    return next(iter(places), None)


def _unwrapped(value: Any, several: bool = False) -> list[Any]:
    """What a list or ``dict(type=...)`` holds; of a list, one entry unless
    several may be."""
    if isinstance(value, Mapping):
        return [value['type']] if [*value] == ['type'] else []
    if isinstance(value, (list, tuple)):
        return list(value) if several or len(value) == 1 else []
    return [value]


def _candidates(value: Any, words: str) -> Iterator[Any]:
    """What a value may mean, the likelier first."""
    choices = re.findall("'([^']*)'", words)
    for inner in _unwrapped(value):
        yield inner
        if isinstance(inner, str):
            yield closest_name(inner, choices) or inner
            with suppress(ValueError, SyntaxError, MemoryError):
                yield ast.literal_eval(inner)
        if inner is not None:
            yield (inner,)
    if isinstance(value, (list, tuple)):
        yield [closest_name(item, choices) or item for item in value]


def try_keywords(part: Callable, given: Any) -> None:
    """Build a class with keywords, to see whether it takes them.

    Raises:
        TypeError, ValueError: It does not.
    """
    known = inspect.signature(part).parameters
    if isinstance(given, (list, tuple)) and 0 < len(given) <= len(known):
        meant = dict(zip(known, given, strict=False))
        raise ValueError(f'did you mean {as_code(meant)}?')
    if not isinstance(given, Mapping):
        raise ValueError(f'expected a dict with {", ".join(known)}')
    for key in given:
        if key not in known:
            raise ValueError(f'{key!r} is not known'
                             + did_you_mean(key, known, quote=True))
    part(**given)


def did_you_mean(name: Any, known: Iterable[str], prefix: str = '',
                 quote: bool = False) -> str:
    """``; did you mean X?`` if a known name is close, else a list of them; of
    names that are joined, that a comma is missing.

    Args:
        name: The unknown name.
        known: The names that exist.
        prefix: Put before the suggested name.
        quote: Whether the suggested name is quoted.
    """
    known = list(known)
    joined = joined_names(name, known)
    if len(joined) > 1:
        return f'{_between(joined)}.'
    close = closest_name(name, known)
    if close is None:
        return f'. Known: {", ".join(known) or "none"}.'
    suggestion = prefix + close
    return f'; did you mean {suggestion!r}?' if quote \
        else f'; did you mean {suggestion}?'


def _between(names: list[str]) -> str:
    return f'; a comma is missing between {" and ".join(map(repr, names))}'
