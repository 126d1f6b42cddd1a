"""The plan in words."""
import os
from typing import Mapping

from mmengine.config import Config
from mmengine.dist import get_world_size

from mtpd.backbones import other_normalisation
from mtpd.config_types import dict_of, type_name
from mtpd.distill.losses.mechanism import RECOMMENDED

from .detectors import DetectorSpec, is_url
from .plan import Plan, stage_label
from .settings import as_list
from .unlabelled import images_per_step


def describe_plan(plan: Plan) -> str:
    """The plan line by line, for people."""
    cfg = plan.student.config
    limit = plan.max_teachers
    order = ' > '.join(map(stage_label, plan.order)) if plan.order else (
        'found by Backward Greedy Selection from adaptation costs between '
        'the detectors')
    strides = 'all strides that student and teacher share' \
        if plan.strides is None else f'strides {plan.strides}'
    pool = '\n          '.join(
        _describe_teacher(spec, measured=plan.order is None)
        for spec in plan.teachers.values())
    schedule = ' + '.join(map(_describe_scheduler,
                              as_list(cfg.get('param_scheduler'))))
    lines = [
        f'Student   {architecture(cfg.model)}, from '
        + _describe_start(plan.student),
        f'Pool      {pool}',
        f'Order     {order}'
        + ('' if limit is None else f', at most {limit}'),
        f'Levels    {strides}',
        f'Distill   {dict(plan.distill)}' + (
            ", the default (mtpd.distill='paper' takes the paper's)"
            if plan.distill == RECOMMENDED else '') + _describe_share(plan)
        + _describe_options(plan),
        f'Stages    {_describe_stages(plan)}',
        f'Each stage is one run of {_length(cfg)}, batch '
        f'{cfg.train_dataloader.get("batch_size")} per process, '
        f'{_describe_rate(cfg)}, {schedule}',
        'The learning rate and its warm-up start anew in every stage; '
        f'the {plan.handover} weights are handed on.',
        f'Results   {plan.work_dir}',
        *map('Warning   {}'.format, normalisation_warnings(plan))]
    return '\n'.join(lines)


def normalisation_warnings(plan: Plan) -> list[str]:
    """Detectors to be trained from pretrained weights whose images are not
    normalised as the weights want it, one sentence each. What is trained
    already was trained so.

    Args:
        plan: The progression.
    """
    warnings = []
    for spec in plan.specs.values():
        path = spec.checkpoint
        if path is None or not is_url(path) and not os.path.isfile(path):
            difference = other_normalisation(spec.config)
            if difference:
                warnings.append(f'{spec.name}: {difference}')
    return warnings


def _describe_start(student: DetectorSpec) -> str:
    if student.sliced_from is not None:
        return f'a slice of {student.sliced_from.checkpoint}'
    return student.checkpoint or 'its own initialisation'


def architecture(model: Mapping) -> str:
    """``RetinaNet, ResNet-50``, ``MaskRCNN, SwinTransformer (2, 2, 6, 2)``."""
    backbone = dict_of(model, 'backbone')
    depth = backbone.get('depth', backbone.get('depths', ''))
    if isinstance(depth, int):
        depth = f'-{depth}'
    elif isinstance(depth, (list, tuple)):
        depth = f' {tuple(depth)}'
    elif depth:  # as a backbone of the user's own takes it
        depth = f' {depth}'
    return f'{type_name(model["type"])}, ' \
        f'{type_name(backbone.get("type"))}{depth}'


def _describe_teacher(spec: DetectorSpec, measured: bool) -> str:
    if spec.ap is not None:
        ap = f'AP {spec.ap:g}'
    else:
        ap = 'AP to be measured' if measured else 'AP not declared'
    scale = ''
    if spec.scale != 1:
        change = 'upsampled to its grid' if spec.scale > 1 \
            else 'reduced to its grid by area averaging'
        scale = (f", sees images at {spec.scale} times the student's size; "
                 f"the student's maps are {change}")
    return (f'{spec.name}: {architecture(spec.config.model)}, {ap}{scale}, '
            f'from {spec.checkpoint}')


def _describe_share(plan: Plan) -> str:
    weight = plan.distill.get('loss_weight')
    if weight == 'auto' or isinstance(weight, Mapping) \
            and 'share' not in weight:
        return f", its gradient {plan.share:g} times detection's"
    return ''


def _describe_options(plan: Plan) -> str:
    """The options that differ from their defaults."""
    text = ''
    if plan.adapter != 'auto':
        text += ', adapters with a convolution at every level'
    if plan.init_adapters is not None:
        text += f', adapters start {plan.init_adapters}'
    if plan.fast_teacher:
        values = [f'{key}={value}' for key, value in plan.fast_teacher.items()]
        text += '\nTeachers  run with ' + ', '.join(values)
    if plan.inherit:
        text += (f'\nInherits  {", ".join(plan.inherit)} of the first '
                 'teacher, as far as names and shapes agree')
    if plan.unlabelled is not None:
        text += f'\nBeside    {_describe_unlabelled(plan)}'
    if plan.fade:
        unit = 'epoch' if plan.fade.get('by_epoch', True) else 'iteration'
        text += (f'\nFades     from {unit} {plan.fade["begin"]:g} of every '
                 f'stage until {unit} {plan.fade["end"]:g}; after it the '
                 'student trains without a teacher')
    return text


def _describe_unlabelled(plan: Plan) -> str:
    settings = plan.unlabelled
    assert settings is not None
    place = settings.ann_file or settings.folder or type_name(
        (settings.dataset or {}).get('type'))
    if not plan.distils:
        return f'images without labels of {place}, which no teacher uses'
    count = images_per_step(settings, plan.student.config)
    return (f'{count} images without labels of {place} in each step of a '
            'process: the distillation loss is the mean over all images, the '
            'detection loss that of the labelled ones')


def _describe_stages(plan: Plan) -> str:
    if plan.order is not None:
        names = [stage_label(stage) for stage in plan.order]
    else:
        count = min(plan.max_teachers or len(plan.teachers),
                    len(plan.teachers))
        names = [f'teacher {i + 1} of the order' for i in range(count)]
    length = _length(plan.student.config)
    stages = [f'{i}: {name}, {length}' for i, name in enumerate(names, 1)]
    return '; '.join(stages) + (
        '' if plan.order else ' (fewer if the order stops before)')


def _length(cfg: Config) -> str:
    train = cfg.train_cfg
    count, unit = (train.max_epochs, 'epoch') if 'max_epochs' in train \
        else (train.max_iters, 'iteration')
    return f'{count} {unit}' + ('' if count == 1 else 's')


def _describe_rate(cfg: Config) -> str:
    """The optimizer and the learning rate that is trained with: the config's,
    scaled as mmengine does by ``auto_scale_lr``."""
    optimizer = dict_of(cfg.optim_wrapper, 'optimizer')
    rate = optimizer.get('lr', 'of its own default')
    scaled = '' if isinstance(rate, str) else scaled_rate(cfg, rate)
    return f'{type_name(optimizer.get("type"))} lr {scaled or rate}'


def scaled_rate(cfg: Config, rate: float) -> str:
    """The learning rate after ``auto_scale_lr`` and how it comes about; empty
    where it is not scaled.

    Args:
        cfg: The student's config.
        rate: As the optimizer has it.
    """
    scaling = dict_of(cfg, 'auto_scale_lr')
    base = scaling.get('base_batch_size')
    batch = cfg.train_dataloader.get('batch_size')
    if not (scaling.get('enable') and base and batch):
        return ''
    count = get_world_size()
    return (f'{rate * count * batch / base:g} (optimizer.lr {rate} scaled by '
            f'auto_scale_lr: batch {batch} in each of {count} '
            f'process{"es" * (count != 1)}, base_batch_size {base})')


def _describe_scheduler(scheduler: Mapping) -> str:
    unit = 'epoch' if scheduler.get('by_epoch', True) else 'iteration'
    if 'milestones' in scheduler:
        span = f'at {unit}s {list(scheduler["milestones"])}'
    else:
        end = scheduler.get('end', scheduler.get('T_max', 'the last'))
        span = f'{unit}s {scheduler.get("begin", 0)} to {end}'
    return f'{type_name(scheduler["type"])} ({span})'
