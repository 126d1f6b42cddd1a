"""What a stage needs of the student's config, besides its parts."""
import os
from typing import Any, Callable, Collection, Iterator, Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.device import (is_cuda_available, is_mlu_available,
                             is_musa_available, is_npu_available)
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from mtpd.config_types import dict_of, type_name
from mtpd.distill.pyramid import batch_norms
from mtpd.plan.data_check import inner_datasets
from mtpd.plan.plan import Plan
from mtpd.plan.predictions import predicts_no_boxes
from mtpd.plan.registered import unknown_keywords
from mtpd.plan.settings import as_list, is_positive_int

from .checkpoints import checkpoint_problems
from .optimizer import optimizer_problems

ENDLESS = ('InfiniteSampler', 'MultiSourceSampler',
           'GroupMultiSourceSampler')
"""Samplers of mmengine and mmdet for loops by iterations."""


_CLIPPING: dict[Any, tuple[Callable, str]] = {
    'norm': (clip_grad_norm_, 'max_norm'),
    'value': (clip_grad_value_, 'clip_value')}
"""mmengine's types of clipping -> torch's function, and what it needs."""


def training_problems(plan: Plan, student: BaseDetector | None) -> list[str]:
    """Why a stage could not be trained, validated or handed on.

    Args:
        plan: The progression.
        student: Built, if it can be.
    """
    cfg = plan.student.config
    problems = _length_problems(cfg) + half_set(cfg) + _seed_problems(cfg) \
        + _loader_problems(cfg) \
        + _scaling_problems(cfg) + _factor_problems(cfg) \
        + _metric_problems(cfg) + _clipping_problems(cfg) \
        + checkpoint_problems(cfg, plan.handover)
    if plan.handover == 'best':
        problems += _unvalidated(cfg)
    if plan.student.checkpoint is None:
        problems += missing_weights(plan.student.model, ('init_cfg',))
    if student is not None and plan.unlabelled is not None \
            and plan.unlabelled.batch_norm == 'running':
        problems += _repeated_norms(student, cfg)
    if student is not None and predicts_no_boxes(student) \
            and plan.handover == 'best':
        problems.append(
            f"mtpd.handover is 'best', and {type(student).__name__} predicts "
            "masks and no boxes, whose AP is 0 throughout. Set it to 'last'.")
    if student is not None:
        problems += optimizer_problems(cfg, student)
        if student.with_mask:
            problems += _without_masks(cfg)
    return problems


def amp_problems(cfg: Mapping[str, Any]) -> list[str]:
    """That mixed precision is asked for and no device here has it."""
    wrapper = dict_of(cfg, 'optim_wrapper').get('type')
    # The devices that mmengine's AmpOptimWrapper asks for.
    if type_name(wrapper) != 'AmpOptimWrapper' \
            or any((is_cuda_available(), is_mlu_available(),
                    is_musa_available(), is_npu_available())):
        return []
    return ['optim_wrapper.type is AmpOptimWrapper (--amp sets it), and '
            'mmengine trains in mixed precision on a GPU, NPU, MLU or MUSA '
            'alone; PyTorch finds none of them here. Train where there is '
            "one, or without --amp and with optim_wrapper.type='OptimWrapper'"
            '.']


def _repeated_norms(student: BaseDetector, cfg: Config) -> list[str]:
    """Batch norms of blocks that are computed again in the backward pass, when
    they no longer stand still for images without labels."""
    named = as_list(cfg.get('activation_checkpointing'))
    was_training = student.training
    student.train()
    repeated = [
        name for name, block in student.named_modules()
        if (getattr(block, 'with_cp', False) or name in named)
        and any(norm.training for norm in batch_norms(block))]
    student.train(was_training)
    if not repeated:
        return []
    return ["mtpd.unlabelled.batch_norm is 'running', and "
            f'{len(repeated)} parts with batch norms, such as {repeated[0]}, '
            'are computed again in the backward pass (with_cp or '
            'activation_checkpointing), where their norms would be in train '
            "mode. Set batch_norm='train', or keep the activations."]


def _length_problems(cfg: Config) -> list[str]:
    train = dict_of(cfg, 'train_cfg')
    given = [key for key in ('max_epochs', 'max_iters') if key in train]
    if train and len(given) != 1:
        return [f'train_cfg sets {" and ".join(given) or "no length"}; a '
                'stage needs one of max_epochs and max_iters.']
    return [f'train_cfg.{key} is {train[key]!r}; it has to be an integer of '
            'at least 1.' for key in given if not is_positive_int(train[key])
            ] + _interval_problems(train)


def half_set(cfg: Config) -> list[str]:
    """Settings without which mmengine makes no Runner, of which a plan and a
    trial step do without some."""
    problems = []
    for name, needed, instead in (
            ('val', ['val_cfg'], ''),  # the plan says of the others
            ('test', ['test_dataloader', 'test_cfg', 'test_evaluator'],
             ', or all three to None')):
        unset = [key for key in needed if cfg.get(key) is None]
        if unset and (name == 'val' or len(unset) < len(needed)):
            problems.append(
                f'{name}_dataloader, {name}_cfg and {name}_evaluator belong '
                f'together, and {" and ".join(unset)} is not set. Set it'
                f"{instead}; {name}_cfg is usually dict(type='"
                f"{name.title()}Loop').")
    return problems


def _interval_problems(train: Mapping[str, Any]) -> list[str]:
    """Intervals by which mmengine could not divide."""
    intervals = {'val_interval': train.get('val_interval', 1)}
    for index, pair in enumerate(as_list(train.get('dynamic_intervals'))):
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            intervals[f'dynamic_intervals[{index}][1]'] = pair[1]
        else:
            return ['train_cfg.dynamic_intervals has to be a list of pairs '
                    f'(from, interval); its entry {index} is {pair!r}.']
    return [f'train_cfg.{key} is {value!r}; it has to be a number above 0.'
            for key, value in intervals.items()
            if isinstance(value, bool) or not isinstance(value, (int, float))
            or not value > 0]


def _seed_problems(cfg: Config) -> list[str]:
    """A seed that NumPy would not take."""
    seed = dict_of(cfg, 'randomness').get('seed')
    if seed is None or isinstance(seed, int) and 0 <= seed < 2 ** 32:
        return []
    return [f'randomness.seed is {seed!r}; it has to be an integer from 0 to '
            '4294967295.']


def _loader_problems(cfg: Config) -> list[str]:
    problems = []
    sampler = dict_of(cfg, 'train_dataloader.sampler').get('type')
    if 'max_epochs' in dict_of(cfg, 'train_cfg') \
            and type_name(sampler) in ENDLESS:
        problems.append(
            f'train_dataloader.sampler is {type_name(sampler)}, which never '
            'ends an epoch, and train_cfg counts in max_epochs. Set '
            "train_dataloader.sampler.type='DefaultSampler', or train_cfg="
            "dict(type='IterBasedTrainLoop', max_iters=...).")
    for name in ('train_dataloader', 'val_dataloader'):
        loader = dict_of(cfg, name)
        if loader.get('num_workers', 0) == 0:
            for key in ('persistent_workers', 'prefetch_factor'):
                if loader.get(key):
                    problems.append(
                        f'{name}.{key} is {loader[key]!r}, and num_workers is '
                        f'0. PyTorch needs workers for it: take {key} out, or '
                        'set num_workers.')
        limit = loader.get('num_batch_per_epoch')
        if limit is not None and not is_positive_int(limit):
            problems.append(f'{name}.num_batch_per_epoch is {limit!r}; it has '
                            'to be an integer of at least 1, or None.')
        size = loader.get('batch_size', 1)
        if 'batch_sampler' not in loader and not is_positive_int(size):
            problems.append(f'{name}.batch_size is {size!r}; it has to be an '
                            'integer of at least 1.')
    return problems


def _scaling_problems(cfg: Config) -> list[str]:
    """Why mmengine could not scale the learning rate as it is told to."""
    scaling = dict_of(cfg, 'auto_scale_lr')
    base = scaling.get('base_batch_size')
    if not scaling.get('enable') or is_positive_int(base):
        return []
    return [f'auto_scale_lr.enable is set, and base_batch_size is {base!r}; '
            'it has to be an integer of at least 1: the total batch that '
            'optimizer.lr is meant for. Set it, or enable=False.']


def _factor_problems(cfg: Config) -> list[str]:
    """Schedules that begin at 0. mmengine multiplies the present rate, so that
    it cannot leave 0: LinearLR divides by it, ConstantLR does so at its end or
    stays."""
    problems = []
    for index, entry in enumerate(as_list(cfg.get('param_scheduler'))):
        for key in ('start_factor', 'factor'):
            if isinstance(entry, Mapping) and entry.get(key) == 0:
                problems.append(
                    f'param_scheduler[{index}].{key} is 0: mmengine '
                    'multiplies the present learning rate and cannot leave 0. '
                    'Set a small number, such as 0.001.')
    return problems


def _clipping_problems(cfg: Config) -> list[str]:
    """Settings that torch's clipping of gradients does not take."""
    field = 'optim_wrapper.clip_grad'
    clip = dict_of(cfg, field)
    if not clip:
        return []
    kind = clip.get('type', 'norm')
    if kind not in _CLIPPING:
        return [f'{field}.type is {kind!r}; it has to be '
                + ' or '.join(map(repr, _CLIPPING)) + '.']
    function, needed = _CLIPPING[kind]
    problems = unknown_keywords(function, clip, field,
                                given_later=('parameters',))
    if needed not in clip and not problems:
        problems.append(f'{field}.{needed} is not set. Set it to a number.')
    return problems


def _metric_problems(cfg: Config) -> list[str]:
    """That no evaluator reports the mean AP of boxes, which every stage ends
    with. Evaluators of other types than mmdet's own two are not judged."""
    metrics = [metric for metric in as_list(cfg.get('val_evaluator'))
               if isinstance(metric, Mapping)]
    problems = []
    for metric in metrics:
        kind = type_name(metric.get('type'))
        problem = ''
        if kind == 'CocoMetric':
            problem = _without_coco_map(metric)
        elif kind == 'VOCMetric' and metric.get('metric', 'mAP') != 'mAP':
            problem = f"metric is {metric['metric']!r}. Set metric='mAP'"
        else:
            return []
        if not problem:
            return []
        problems.append(f'val_evaluator: no mean AP of boxes is reported, and '
                        f'each stage ends with it: {problem}.')
    return problems


def _without_coco_map(metric: Mapping[str, Any]) -> str:
    if metric.get('format_only'):
        return 'format_only=True measures nothing. Take it out'
    items = metric.get('metric_items')
    if items is not None and 'mAP' not in items:
        return f"metric_items are {list(items)}. Add 'mAP' to them"
    return ''


def _unvalidated(cfg: Config) -> list[str]:
    train = dict_of(cfg, 'train_cfg')
    length = train.get('max_epochs') or train.get('max_iters')
    begin = train.get('val_begin', 1)
    if not is_positive_int(length) or begin <= length:
        return []
    return [f"mtpd.handover is 'best', and train_cfg.val_begin {begin} lies "
            f'after the end of a stage ({length}), so no validation says '
            "which weights are best. Set val_begin to less, or 'last'."]


def missing_weights(model: Mapping[str, Any],
                    keys: Collection[str] = ('init_cfg', 'pretrained')
                    ) -> list[str]:
    """Files of first weights that are not there.

    Args:
        model: The ``model`` part of a detector's config, which starts from
            them.
        keys: Which settings are looked at; a backbone's ``pretrained`` is
            read where it is built with its first weights.
    """
    problems = []
    for field, path, key in _weights_files(model, 'model'):
        if key in keys and '://' not in path \
                and not os.path.isfile(os.path.expanduser(path)):
            problems.append(
                f'{field}: there is no file {path} in {os.getcwd()}. Correct '
                f'the path, or set {key}=None.')
    return problems


def _weights_files(part: Any, field: str) -> Iterator[tuple[str, str, str]]:
    """Every file of first weights in a model's config: its field, the file,
    and the setting without which it is not read."""
    if not isinstance(part, Mapping):
        return
    for key, value in part.items():
        if key == 'init_cfg':
            for init in filter(_is_file_of_weights, as_list(value)):
                yield f'{field}.init_cfg.checkpoint', init['checkpoint'], key
        elif key == 'pretrained' and isinstance(value, str):
            yield f'{field}.{key}', value, key
        else:
            yield from _weights_files(value, f'{field}.{key}')
    file = dict_of(part, 'pretrained_cfg_overlay').get('file')
    if part.get('pretrained') and isinstance(file, str):
        yield f'{field}.pretrained_cfg_overlay.file', file, 'pretrained'


def _is_file_of_weights(init: Any) -> bool:
    return isinstance(init, Mapping) and isinstance(
        init.get('checkpoint'), str) \
        and type_name(init.get('type')) == 'Pretrained'


def _without_masks(cfg: Config) -> list[str]:
    """Training data sets that load no masks, for a student that learns
    them."""
    loader = dict_of(cfg, 'train_dataloader')
    problems = []
    for field, dataset in inner_datasets(dict_of(loader, 'dataset'),
                                         'train_dataloader.dataset'):
        loads = [step for step in dataset.get('pipeline') or []
                 if type_name(step.get('type')).endswith('Annotations')]
        if loads and not any(map(_loads_masks, loads)):
            problems.append(
                f"{field}.pipeline: the student's mask head learns from "
                'masks, and LoadAnnotations loads none. Set with_mask=True, '
                'or take the mask head out of the model.')
    return problems


def _loads_masks(step: Mapping[str, Any]) -> bool:
    # mmdet's other loaders, such as that of panoptic labels, load masks.
    return bool(step.get('with_mask',
                         type_name(step['type']) != 'LoadAnnotations'))
