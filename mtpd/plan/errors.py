"""The error that lists what is wrong with a config, and "did you mean".

Messages about single settings are written in ``mtpd.plan.settings``.
"""
import difflib
from typing import Any, Iterable


class PlanError(ValueError):
    """Everything that is wrong with a progression's config.

    Attributes:
        problems: One message each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = '' if len(problems) == 1 else f' ({len(problems)} problems)'
        lines = '\n'.join(f'  - {problem}' for problem in problems)
        super().__init__(f'The progression cannot start{count}:\n{lines}')

    def __reduce__(self) -> tuple:
        return type(self), (self.problems,)  # from process to process


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
        return ('; a comma is missing between '
                + ' and '.join(map(repr, joined)) + '.')
    close = difflib.get_close_matches(str(name), known, 1)
    if not close:
        return f'. Known: {", ".join(known) or "none"}.'
    suggestion = prefix + close[0]
    return f'; did you mean {suggestion!r}?' if quote \
        else f'; did you mean {suggestion}?'
