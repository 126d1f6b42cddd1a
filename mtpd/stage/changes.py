"""What a config that a run is resumed with says otherwise than before.

Optimizer and schedules go on as the checkpoint holds them.
"""
import logging
from typing import Any, Mapping

from mmengine.config import Config
from mmengine.logging import print_log

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.config_types import dict_of, type_name
from mtpd.plan.errors import PlanError
from mtpd.plan.settings import as_list


def compare_with_checkpoint(cfg: Config, checkpoint: str) -> None:
    """Warn of settings that a resumed run does not take over.

    Args:
        cfg: The run's config.
        checkpoint: The one that it resumes from, with the config that it was
            written with; without one, nothing is compared.

    Raises:
        PlanError: The checkpoint's optimizer or schedules cannot be the
            config's.
    """
    text = read_checkpoint(checkpoint)['meta'].get('cfg')
    if not text:
        return
    before = Config.fromstring(text, '.py')
    problems = _other_kinds(before, cfg)
    if problems:
        raise PlanError([
            f'{problem}, by {checkpoint}, which cannot go on so. Set it as it '
            'was, or choose another work_dir.' for problem in problems])
    for name in _other_values(before, cfg):
        print_log(f'{name} differs from what {checkpoint} was trained with. '
                  'The run goes on with what the checkpoint holds; a new '
                  'value holds for stages that have not begun.',
                  logger='current', level=logging.WARNING)


def _other_kinds(before: Config, now: Config) -> list[str]:
    """Settings that decide which numbers a checkpoint holds."""
    old, new = _kinds(before), _kinds(now)
    return [f'{name} is {value!r} and was {old[name]!r}'
            for name, value in new.items() if old[name] != value]


def _kinds(cfg: Config) -> dict[str, Any]:
    wrapper = dict_of(cfg, 'optim_wrapper')
    return {
        'optim_wrapper.optimizer.type': type_name(
            _optimizer(cfg).get('type')),
        'optim_wrapper.paramwise_cfg': wrapper.get('paramwise_cfg'),
        'optim_wrapper.constructor': wrapper.get('constructor'),
        'param_scheduler': [type_name(entry.get('type'))
                            for entry in _schedulers(cfg)]}


def _other_values(before: Config, now: Config) -> list[str]:
    """Names of settings whose values a checkpoint overrules."""
    names = [f'optim_wrapper.optimizer.{key}'
             for key in sorted({*_optimizer(before), *_optimizer(now)})
             if key != 'type'
             and _optimizer(before).get(key) != _optimizer(now).get(key)]
    for index, (old, new) in enumerate(zip(
            _schedulers(before), _schedulers(now), strict=True)):
        if _without_type(old) != _without_type(new):
            names.append(f'param_scheduler[{index}]')
    return names


def _optimizer(cfg: Config) -> Mapping[str, Any]:
    return dict_of(cfg, 'optim_wrapper.optimizer')


def _schedulers(cfg: Config) -> list[Mapping[str, Any]]:
    return [entry for entry in as_list(cfg.get('param_scheduler'))
            if isinstance(entry, Mapping)]


def _without_type(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != 'type'}
