"""Defaults that follow from other settings, or from an earlier version."""
import json
from typing import Any, Mapping

from mtpd.distill.auto_weight import default_share
from mtpd.distill.losses.mechanism import RECOMMENDED, mechanism_config

from ..work_dir import WorkDir

_FORMER_SHARE = 4.
"""The default of all progressions whose record does not name their share."""


def former_defaults(work_dir: str) -> dict[str, Any]:
    """The mechanism and the adapter of a progression that was started when
    their defaults were others; it is resumed and shown with them."""
    try:
        with open(WorkDir(work_dir).record) as file:
            recorded = json.load(file)['identity']
            distill, adapter = recorded['distill'], recorded.get('adapter')
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # nothing was started; or it is reported where it is read
    papers = mechanism_config('paper')
    return {**({'distill': papers} if distill == papers else {}),
            **({'adapter': 'auto'} if adapter in ('auto', None) else {})}


def share_in(work_dir: str, settings: Mapping[str, Any]) -> float:
    """The share of an automatic weight that has none of its own: the default,
    or what it was when the progression in the work dir was started."""
    try:
        with open(WorkDir(work_dir).record) as file:
            return float(json.load(file).get('share', _FORMER_SHARE))
    except (OSError, ValueError, TypeError, AttributeError):
        return default_share(settings.get('unlabelled') is not None,
                             _inherits_maps(settings))


def default_adapter(settings: Mapping[str, Any]) -> str:
    """What stands for ``adapter=None``."""
    distill = settings.get('distill', RECOMMENDED)
    recommended = distill == RECOMMENDED or _differs_in_share(distill)
    return 'conv' if recommended and not _inherits_maps(settings) else 'auto'


def _inherits_maps(settings: Mapping[str, Any]) -> bool:
    """Whether the student begins with a neck or head of the teacher's, whose
    maps are then the teacher's."""
    return bool({'neck', 'head'} & {*settings.get('inherit', ())})


def _differs_in_share(distill: Any) -> bool:
    """Whether only the automatic weight has settings of the user's."""
    return (isinstance(distill, Mapping)
            and isinstance(distill.get('loss_weight'), Mapping)
            and {**distill, 'loss_weight': 'auto'} == RECOMMENDED)
