"""How adaptation costs are measured: the part ``mtpd.costs`` of a config."""
import difflib
from dataclasses import asdict, dataclass, fields
from typing import Any, Mapping

from mtpd.order.costs import TWO_ERRORS


@dataclass(frozen=True)
class CostSettings:
    """The settings, with their defaults.

    Attributes:
        images: How many images, evenly spread over the split; 'all'; or
            'auto', until every decision is certain. None for all, unless a
            result of fewer is there whose decisions are all certain.
        split: Whose images, 'train' or, as in the paper, 'val'.
        certainty: How often a decision between equal costs may not look
            certain: of 1, two standard errors as it stands here.
        sequential: GiB of maps on disk for detectors that do not fit together:
            one runs after the other, chunk by chunk; None runs all at once.
    """
    images: int | str | None = None
    split: str = 'train'
    certainty: float = TWO_ERRORS
    sequential: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


# Setting -> what it has to be, and whether a value is that.
_RULES = {
    'images': ("'all', 'auto' or a number of images",
               lambda v: v in (None, 'all', 'auto') or _whole(v)),
    'split': ("'train' or 'val'", lambda v: v in ('train', 'val')),
    'certainty': ('above 0 and below 1; two standard errors are 0.9545',
                  lambda v: _number(v) and 0 < v < 1),
    'sequential': ('GiB of disk space for maps, above 0, or None',
                   lambda v: v is None or _number(v) and v > 0),
}


def read_cost_settings(given: Any) -> tuple[CostSettings, list[str]]:
    """``mtpd.costs`` and what is wrong with it.

    Args:
        given: As it stands in the config; None where it does not.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        return CostSettings(), [f'mtpd.costs is {given!r}; it has to be '
                                "dict(images=..., split=..., ...)."]
    known = [field.name for field in fields(CostSettings)]
    problems = []
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            problems.append(
                f'mtpd.costs.{key} is not known'
                + (f'; did you mean mtpd.costs.{near[0]}?' if near
                   else f'. Known: {", ".join(known)}.'))
        elif not _RULES[key][1](value):
            problems.append(f'mtpd.costs.{key} is {value!r}; it has to be '
                            f'{_RULES[key][0]}.')
    if problems:
        return CostSettings(), problems
    return CostSettings(**given), []


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) \
        and value >= 1
