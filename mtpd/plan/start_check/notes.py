"""What stops no training and is hardly meant: schedules, frozen layers,
classes."""
import warnings
from contextlib import suppress
from typing import Any, Iterator, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import PARAM_SCHEDULERS
from mmengine.config import Config
from torch import nn

from mtpd.config_types import dict_of, type_name
from mtpd.distill.hooks.fade import FadeDistillHook
from mtpd.plan.class_names import checkpoint_classes, validated_classes
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan
from mtpd.plan.predictions import predicts_no_boxes
from mtpd.plan.settings import as_list, is_number, is_positive_int

from .checkpoints import checkpoint_notes
from .optimizer import optimizer_notes
from .unread import unread_notes

MAX_STEPS = 20_000
"""A schedule is followed for so many iterations while its rate stays 0."""


def plan_notes(plan: Plan, pool: Mapping[str, BaseDetector],
               batches: int | None) -> list[str]:
    """What a user has hardly meant, one sentence or two each.

    Args:
        plan: The progression.
        pool: The built detectors, by name.
        batches: Of an epoch of the student's training; None if unknown.
    """
    cfg = plan.student.config
    notes = schedule_notes(cfg, batches) \
        + fade_notes(cfg, plan.fade, batches) + checkpoint_notes(cfg) \
        + unread_notes(cfg)
    student = pool.get('student')
    if student is None:
        return notes
    notes += class_notes(plan.student, student) + inherit_notes(plan) \
        + optimizer_notes(cfg, student)
    if predicts_no_boxes(student):
        notes.append(f'{type(student).__name__} predicts masks and no boxes, '
                     'and a progression reports the AP of boxes: it is 0 '
                     'throughout.')
    if plan.student.checkpoint is None and 'backbone' not in plan.inherit:
        notes += frozen_notes(plan.student, student)
    return notes


def schedule_notes(cfg: Config, batches: int | None) -> list[str]:
    """Warm-ups that do not end within a stage, steps that come after it, and
    a learning rate that is never above 0.

    Args:
        cfg: A detector's config.
        batches: As in :func:`plan_notes`.
    """
    notes = []
    for index, entry in enumerate(as_list(cfg.get('param_scheduler'))):
        if isinstance(entry, Mapping):
            length = length_of(cfg, batches, entry.get('by_epoch', True))
            note = '' if length is None else too_long(entry, length)
            notes += [f'param_scheduler[{index}] {note}'] if note else []
    if never_learns(cfg, batches):
        notes.append(
            'The learning rate is 0 in every iteration of a stage, so nothing '
            'is trained. Set optim_wrapper.optimizer.lr and the '
            'param_scheduler.')
    return notes


def inherit_notes(plan: Plan) -> list[str]:
    """What a student that inherits of its first teacher sees or predicts in
    another way.

    Args:
        plan: The progression.
    """
    if not plan.inherit or not plan.order:
        return []
    first = plan.teachers[plan.order[0][0]]
    own, other = plan.student.model, first.model
    notes = []
    if {'backbone', 'alternate_blocks'} & set(plan.inherit) and _differ(
            own, other, 'data_preprocessor',
            ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr')):
        notes.append(f'mtpd.inherit takes the backbone of {first.name}, whose '
                     "data_preprocessor normalises in another way than the "
                     "student's. Set the student's to the same.")
    if 'head' in plan.inherit and any(
            _differ(own, other, head, ('anchor_generator', 'bbox_coder'))
            for head in ('bbox_head', 'rpn_head')):
        notes.append(f'mtpd.inherit takes the head of {first.name}, whose '
                     "anchors or encoding of boxes differ from the student's.")
    return notes


def _differ(own: Mapping[str, Any], other: Mapping[str, Any], part: str,
            keys: Sequence[str]) -> bool:
    """Whether a part that both models have differs in one of its settings."""
    mine, theirs = dict_of(own, part), dict_of(other, part)
    return bool(mine and theirs) and any(
        mine.get(key) != theirs.get(key) for key in keys)


def fade_notes(cfg: Config, fade: Mapping[str, Any] | None,
               batches: int | None) -> list[str]:
    """That distillation fades after the end of a stage.

    Args:
        cfg: The student's config.
        fade: ``mtpd.fade``.
        batches: As in :func:`plan_notes`.
    """
    if not fade:
        return []
    hook = FadeDistillHook(**fade)
    unit = 'epoch' if hook.by_epoch else 'iteration'
    length: float | None = length_of(cfg, batches, hook.by_epoch)
    steps = dict_of(cfg, 'train_cfg').get('max_iters')
    if hook.by_epoch and batches and is_positive_int(steps):
        length = steps / batches
    if length is None or not hook.strength(length):
        return []
    return [f'mtpd.fade goes from {unit} {hook.begin:g} to {hook.end:g}, and '
            f'a stage has {length:g}: at its end distillation has '
            f'{hook.strength(length):.0%} of its strength. Set begin and end '
            'within a stage' + (', or by_epoch=False for iterations.'
                                if hook.by_epoch else '.')]


def frozen_notes(spec: DetectorSpec, detector: BaseDetector) -> list[str]:
    """That layers with random weights are kept as they are.

    Args:
        spec: A detector that starts from its own initialisation.
        detector: Built from it.
    """
    notes = []
    for path, module in detector.named_modules():
        frozen = frozen_parts(module)
        if frozen and not is_pretrained(detector, path):
            field = f'{spec.model_field}.{path}'
            notes.append(
                f'{field} ({type(module).__name__}) starts from random '
                f'weights, and {" and ".join(frozen)}. Set {field}.init_cfg='
                "dict(type='Pretrained', checkpoint=...), or frozen_stages=-1 "
                'and norm_eval=False.')
    return notes


def frozen_parts(module: nn.Module) -> list[str]:
    """What of a module is not trained, in words."""
    frozen = []
    stages = getattr(module, 'frozen_stages', None)
    if isinstance(stages, int) and stages >= 0:
        frozen.append(f'frozen_stages={stages} keeps layers as they were '
                      'drawn')
    norms = [part for part in module.modules()
             if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if norms and getattr(module, 'norm_eval', None) is True:
        frozen.append("norm_eval=True keeps its batch norms' mean 0 and "
                      'variance 1')
    return frozen


def class_notes(spec: DetectorSpec, detector: BaseDetector) -> list[str]:
    """That a student's checkpoint numbers the classes in another way than its
    data.

    Args:
        spec: The student.
        detector: Built from it, with its weights.
    """
    wanted: tuple[str, ...] = ()
    with suppress(PlanError):  # the data check says what is wrong with them
        wanted = validated_classes(spec)
    names = checkpoint_classes(spec, detector)
    if not wanted or not names or names == wanted:
        return []
    shown = [', '.join(classes[:6]) + ', ...' * (len(classes) > 6)
             for classes in (names, wanted)]
    difference = 'in the order' if set(names) == set(wanted) else 'as'
    return [
        f'{spec.checkpoint_field} lists its classes {difference} {shown[0]}, '
        f'and the validation set {shown[1]}: the head takes one class for '
        'another, so that its AP is low at first and it has to learn them '
        "anew. List the categories of the annotation files, and "
        "metainfo.classes, as the checkpoint does, unless that list is known "
        'to be wrong.']


def length_of(cfg: Config, batches: int | None, by_epoch: bool) -> int | None:
    """Epochs or iterations of a stage; None if unknown."""
    train = dict_of(cfg, 'train_cfg')
    lengths = {True: train.get('max_epochs'), False: train.get('max_iters')}
    if batches is not None and is_positive_int(lengths[True]):
        lengths[False] = batches * (lengths[True] or 0)
    length = lengths[bool(by_epoch)]
    return length if is_positive_int(length) else None


def too_long(scheduler: Mapping[str, Any], length: int) -> str:
    """That a schedule is longer than a stage, in words; empty if it is not.

    Args:
        scheduler: Its config.
        length: Of a stage, in its units.
    """
    unit = 'epoch' if scheduler.get('by_epoch', True) else 'iteration'
    late = late_warm_up(scheduler, length, unit) \
        or late_milestones(scheduler, length, unit)
    return late and f'({type_name(scheduler.get("type"))}) {late}'


def late_warm_up(scheduler: Mapping[str, Any], length: int, unit: str) -> str:
    """As :func:`too_long`, of a warm-up."""
    end = scheduler.get('end', length)
    if not _warms_up(scheduler) or not is_number(end) or end < length:
        return ''
    return (f'warms up until {unit} {end:g}, and a stage has {length} {unit}s:'
            ' no stage is trained with the whole learning rate for long, if '
            'at all. Set a smaller end.')


def late_milestones(scheduler: Mapping[str, Any], length: int,
                    unit: str) -> str:
    """As :func:`too_long`, of steps."""
    steps = list(filter(is_number, as_list(scheduler.get('milestones'))))
    if min(steps, default=0) < length:
        return ''
    return (f'has the milestones {steps}, and a stage has {length} {unit}s: '
            'the learning rate is never reduced. Set milestones within a '
            'stage.')


def _warms_up(scheduler: Mapping[str, Any]) -> bool:
    """Whether a scheduler raises the learning rate to the whole one."""
    kind = type_name(scheduler.get('type'))
    if kind == 'ConstantLR':
        return scheduler.get('factor', 1 / 3) < 1
    if kind == 'LinearLR':
        return scheduler.get('start_factor', 1 / 3) < scheduler.get(
            'end_factor', 1)
    return 'WarmupLR' in kind


def never_learns(cfg: Config, batches: int | None) -> bool:
    """Whether the learning rate is 0 in every iteration of a stage."""
    optimizer = dict_of(cfg, 'optim_wrapper.optimizer')
    rate = optimizer.get('lr', 1.)
    if not is_number(rate):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return not any(rates_of(cfg, float(rate), batches))
    except Exception:  # a scheduler of the user's own, or one that is wrong
        return False


def rates_of(cfg: Config, rate: float, batches: int | None) -> Iterator[float]:
    """The learning rate of each iteration of a stage, at least of one."""
    total = length_of(cfg, batches, by_epoch=False)
    if total is None or rate == 0:
        yield rate
        return
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)
    schedulers = built_schedulers(cfg, batches, optimizer)
    for iteration in range(1, min(total, MAX_STEPS) + 1):
        yield optimizer.param_groups[0]['lr']
        ends_epoch = bool(batches) and iteration % (batches or 1) == 0
        for scheduler in schedulers:
            if ends_epoch or not scheduler.by_epoch:
                scheduler.step()


def built_schedulers(cfg: Config, batches: int | None,
                     optimizer: torch.optim.Optimizer) -> list[Any]:
    """mmengine's schedulers of the learning rate, as a stage builds them."""
    schedulers = []
    for entry in as_list(cfg.get('param_scheduler')):
        if type_name(entry['type']).endswith('LR'):
            end = length_of(cfg, batches, entry.get('by_epoch', True))
            schedulers.append(PARAM_SCHEDULERS.build(
                {'end': end, **entry}, default_args=dict(
                    optimizer=optimizer, epoch_length=batches or 1)))
    return schedulers


def is_pretrained(detector: BaseDetector, path: str) -> bool:
    """Whether a module, or one around it, loads weights when it is
    initialised."""
    names = path.split('.')
    around = ['.'.join(names[:length]) for length in range(len(names) + 1)]
    return any(loads_weights(detector.get_submodule(name)) for name in around)


def loads_weights(module: nn.Module) -> bool:
    """Whether a module by itself loads weights when it is initialised."""
    kinds = [type_name(init.get('type'))
             for init in as_list(getattr(module, 'init_cfg', None))]
    # The others are mtpd's own backbones.
    return 'Pretrained' in kinds or bool(
        getattr(module, 'pretrained', None)
        or getattr(module, 'weights', None))
