"""What a config says of the checkpoints that its training keeps."""
from typing import Any, Collection, Mapping

from mmengine.config import Config

from mtpd.config_types import dict_of, type_name
from mtpd.plan.errors import did_you_mean
from mtpd.plan.settings import as_list

_FIELD = 'default_hooks.checkpoint'
_SIZES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
"""What mmdet's CocoMetric reports of each metric unless told otherwise."""


def checkpoint_problems(cfg: Config, handover: str) -> list[str]:
    """Metrics by which no best checkpoint can be told.

    Args:
        cfg: The student's config.
        handover: As in the settings.
    """
    named = as_list(dict_of(cfg, _FIELD).get('save_best'))
    if handover == 'best' and len(named) > 1:
        return [f"mtpd.handover is 'best', and {_FIELD}.save_best names "
                f'{len(named)} metrics: {", ".join(map(str, named))}. Name '
                'the one by which the student is to be handed on.']
    known = _reported(cfg)
    return [f'{_FIELD}.save_best: {name!r} is none of the metrics that '
            f'val_evaluator reports{did_you_mean(str(name), known)}'
            for name in named if known and name not in ('auto', *known)]


def checkpoint_notes(cfg: Config) -> list[str]:
    """Settings that a stage does not keep.

    Args:
        cfg: The student's config.
    """
    hook = dict_of(cfg, _FIELD)
    given = [key for key in ('filename_tmpl', 'out_dir', 'published_keys')
             if hook.get(key) is not None]
    if not given:
        return []
    return [f'{_FIELD}.{", ".join(given)} is not used: the stages of a '
            'progression are resumed and handed on by the names in their own '
            'folders.']


def _reported(cfg: Config) -> Collection[str]:
    """The names of all metrics; none where they cannot be known, as of
    evaluators that are not mmdet's CocoMetric."""
    names = []
    for metric in as_list(cfg.get('val_evaluator')):
        if not isinstance(metric, Mapping) \
                or type_name(metric.get('type')) != 'CocoMetric':
            return ()
        kinds = as_list(metric.get('metric', 'bbox'))
        if metric.get('classwise') or not {'bbox', 'segm'}.issuperset(kinds):
            return ()
        names += _names_of(metric, kinds)
    return names


def _names_of(metric: Mapping[str, Any], kinds: list[str]) -> list[str]:
    prefix = metric.get('prefix') or 'coco'
    items = metric.get('metric_items') or _SIZES
    return [f'{prefix}/{kind}_{item}' for kind in kinds for item in items]
