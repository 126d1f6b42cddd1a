"""The error that lists what is wrong with a config, and "did you mean".

Messages about single settings are written in ``mtpd.plan.settings``.
"""
import difflib
import inspect
import re
from typing import Any, Callable, Iterable, Mapping


class PlanError(ValueError):
    """Everything that is wrong with a progression's config.

    Attributes:
        heading: The message's first line.
        problems: One message each.
    """

    heading = 'The progression cannot start'

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


def try_keywords(part: Callable, given: Mapping[str, Any]) -> None:
    """Build a class with keywords, to see whether it takes them.

    Raises:
        TypeError, ValueError: It does not.
    """
    known = inspect.signature(part).parameters
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
    close = difflib.get_close_matches(str(name), known, 1)
    if not close:
        return f'. Known: {", ".join(known) or "none"}.'
    suggestion = prefix + close[0]
    return f'; did you mean {suggestion!r}?' if quote \
        else f'; did you mean {suggestion}?'


def _between(names: list[str]) -> str:
    return f'; a comma is missing between {" and ".join(map(repr, names))}'
