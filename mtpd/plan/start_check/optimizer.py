"""Whether the student's optimizer can be made, and what its keys match."""
import copy
import difflib
import logging
from contextlib import contextmanager
from typing import Any, Iterator, Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper

from mtpd.config_types import dict_of, type_name
from mtpd.distill.optim_constructor import PLAIN
from mtpd.plan.errors import did_you_mean
from mtpd.plan.registered import part_problems

CLOSE = 0.8
"""From which likeness on a key is taken for a misspelt name."""


def optimizer_problems(cfg: Mapping[str, Any],
                       student: BaseDetector) -> list[str]:
    """Why no optimizer can be made for the student.

    Args:
        cfg: The student's config.
        student: Built; it is not changed.
    """
    wrapper = copy.deepcopy(dict_of(cfg, 'optim_wrapper'))
    if not wrapper or part_problems(dict(optim_wrapper=wrapper)):
        return []  # which says what is wrong in other words
    wrapper.pop('clip_grad', None)  # it is looked at by itself
    if type_name(wrapper.get('type')) == 'AmpOptimWrapper':
        # It is made on a GPU alone; its own settings have no say here.
        wrapper = {key: wrapper[key] for key in (
            'optimizer', 'constructor', 'paramwise_cfg') if key in wrapper}
    try:
        with quiet():
            build_optim_wrapper(student, wrapper)
    except Exception as error:  # a constructor is a program
        return [unmade(wrapper, error)]
    return []


def unmade(wrapper: Mapping[str, Any], error: Exception) -> str:
    """Why an optimizer is not made, and what to correct."""
    reason = f'{type(error).__name__}: {error}'.removesuffix(': ')
    if 'base_wd' in reason:
        return ('optim_wrapper.paramwise_cfg multiplies the weight decay, '
                'and optim_wrapper.optimizer.weight_decay is not set. Set '
                'it, or take the keys that multiply it out.')
    maker = type_name(wrapper.get('constructor', PLAIN))
    return ('optim_wrapper: the optimizer of the student cannot be made by '
            f'{maker} ({reason}). Correct optim_wrapper.optimizer, '
            'constructor or paramwise_cfg.')


@contextmanager
def quiet() -> Iterator[None]:
    """Without the line that mmengine logs for each parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def optimizer_notes(cfg: Mapping[str, Any],
                    student: BaseDetector) -> list[str]:
    """Keys of ``paramwise_cfg`` that mmengine passes over, because it does not
    know them or no parameter has such a name.

    Keys that resemble no name are left alone: configs are shared by models
    of which some have the part.

    Args:
        cfg: As in :func:`optimizer_problems`.
        student: Built.
    """
    field = 'optim_wrapper.paramwise_cfg'
    given = dict_of(cfg, field)
    constructor = dict_of(cfg, 'optim_wrapper').get('constructor', PLAIN)
    if not isinstance(given, Mapping) or type_name(constructor) != PLAIN:
        return []
    notes = [f'{field}.{key} is not read by {PLAIN}'
             + did_you_mean(key, _SETTINGS, prefix=f'{field}.')
             for key in given if key not in _SETTINGS]
    names = [name for name, _ in student.named_parameters()]
    parts = {part for name in names for part in name.split('.')}
    for key in map(str, dict_of(given, 'custom_keys')):
        close = difflib.get_close_matches(key, parts, 1, CLOSE)
        if close and not any(key in name for name in names):
            notes.append(f'{field}.custom_keys: no parameter of the student '
                         f'has {key!r} in its name, so it has no effect; did '
                         f'you mean {close[0]!r}?')
    return notes


_SETTINGS = ('custom_keys', 'bias_lr_mult', 'bias_decay_mult',
             'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult',
             'dcn_offset_lr_mult', 'bypass_duplicate')
"""What mmengine's default constructor reads of ``paramwise_cfg``."""
