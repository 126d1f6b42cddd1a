"""The student and its teachers, built, and whether they fit together."""
import os
import re
import traceback
from dataclasses import replace
from typing import Any, Callable, Collection, Iterator, Mapping

from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.logging import print_log

from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     UnsafeCheckpoint)
from mtpd.config_types import type_name
from mtpd.distill.branch import make_branch
from mtpd.distill.detector import CheckpointMismatch
from mtpd.distill.frozen import FrozenDetector
from mtpd.distill.preprocessor import DistillDataPreprocessor
from mtpd.distill.pyramid import pyramid_channels
from mtpd.distill.teacher_view.steps import unsupported_steps
from mtpd.distill.teacher_view.transform import with_teacher_view
from mtpd.randomness import isolate_rng

from .class_names import checkpoint_classes
from .data_check.sources import inner_datasets
from .detectors import DetectorSpec
from .errors import PlanError, did_you_mean
from .plan import Plan
from .predictions import (box_head_classes, classes_of, input_channels,
                          unmeasurable_aps)
from .student_names import checkpointed_heads, unknown_modules

MAX_PADDING = 256
"""A student's batch may be padded to multiples of this many pixels."""


def build_pool(plan: Plan) -> dict[str, BaseDetector]:
    """Student and teachers, built and strictly loaded; the student first.

    A student without a checkpoint has its own initialisation. Each pair's
    levels and classes are looked at too, and the modules that the student's
    config names, so that the last stage's mistake is found before the first.

    Raises:
        PlanError: With all mismatches.
    """
    pool, problems = examine_pool(plan)
    if problems:
        raise PlanError(problems)
    return pool


def examine_pool(plan: Plan, without_weights: Collection[str] = ()
                 ) -> tuple[dict[str, BaseDetector], list[str]]:
    """The detectors that can be built, by name, and everything that does not
    fit: see :func:`build_pool`.

    Args:
        plan: The progression, or the draft of one.
        without_weights: Detectors that are built with any weights, because
            their checkpoints are not there.
    """
    if not plan.student.config.get('model'):
        return {}, []  # a problem of the settings
    teachers = [plan.teachers[name] for name in plan.used]
    with isolate_rng(0):
        pool, problems = build_all([plan.student, *teachers],
                                   without_weights)
        if 'student' in pool:
            problems += unknown_modules(plan.student.config, pool['student'])
            if plan.distils:
                problems += checkpointed_heads(plan.student.config,
                                               plan.distill)
            for spec in teachers:
                if spec.name in pool and plan.distils:
                    problems += _branch_problems(plan, pool, spec)
                    problems += _image_problems(plan, pool['student'], spec)
            problems += _search_problems(plan, pool)
            problems += _head_problems(plan, pool)
    if not problems:
        for spec in teachers:
            difference = _other_classes(plan.student, spec, pool)
            if difference:
                print_log(f'{difference}. Its maps are matched all the same.',
                          logger='current')
    # A wrong mechanism is the same problem with every teacher.
    return pool, list(dict.fromkeys(problems))


def build_all(specs: list[DetectorSpec], without_weights: Collection[str]
              ) -> tuple[dict[str, BaseDetector], list[str]]:
    """The detectors that can be built, by name, and why others cannot.

    Args:
        specs: The detectors.
        without_weights: As in :func:`examine_pool`.
    """
    pool, problems = {}, []
    for spec in specs:
        channels = input_channels(spec.model)
        if channels != 3:
            problems.append(
                f'{spec.model_field}.backbone takes {channels} channels. '
                'Student and teachers see the same colour images, of 3.')
            continue
        if not spec.model.get('data_preprocessor'):
            problems.append(
                f'{spec.model_field} has no data_preprocessor, and the config '
                'none either, so nothing says how its images are normalised. '
                "Set data_preprocessor=dict(type='DetDataPreprocessor', "
                'mean=..., std=..., bgr_to_rgb=..., pad_size_divisor=32).')
            continue
        try:
            if spec.name not in without_weights:
                pool[spec.name] = _build(spec)
        except (CheckpointMismatch, CheckpointUnavailable, CorruptCheckpoint,
                UnsafeCheckpoint, FileNotFoundError) as error:
            # The model may read files of its own.
            problems.append(str(error) if getattr(error, 'filename', None) in
                            (None, spec.checkpoint)
                            else _not_built(spec, error))
        except Exception as error:  # whatever a part of mmdet may raise
            problems.append(_not_built(spec, error))
            continue
        try:
            if spec.name not in pool:  # the rest is looked at all the same
                pool[spec.name] = replace(spec, checkpoint=None).build()
            pyramid_channels(pool[spec.name])
        except Exception as error:
            pool.pop(spec.name, None)
            problems.append(_not_built(spec, error))
    return pool, problems


def _build(spec: DetectorSpec) -> BaseDetector:
    detector = spec.build()
    if spec.checkpoint is None:
        detector.init_weights()
    return detector


def _not_built(spec: DetectorSpec, error: Exception) -> str:
    """Why a model cannot be built, in words."""
    text = str(error)
    if text.startswith(spec.field):
        return text
    unknown = re.search(r"(\w+) is not in the [\w:]*model registry", text)
    # mmcv calls a layer that it does not find None.
    layer = next(_unknown_layers(spec.model), None) \
        if 'Cannot find None' in text else None
    if isinstance(error, FileNotFoundError) and error.filename:
        where = _field_of(spec.model, lambda _, value:
                          value == error.filename) or 'a part'
        text = f'{where} names the file {error.filename}, which is not in ' \
            f'{os.getcwd()}. Correct the path.'
    elif unknown or layer is not None:
        name = unknown.group(1) if unknown else str(layer)
        text = f'the type {name!r} is not known' + did_you_mean(
            name, MODELS.module_dict, quote=True)
    else:
        # mmdet's asserts say nothing but their own line.
        line = traceback.extract_tb(error.__traceback__)[-1].line
        text = f'{type(error).__name__}: {text or line}' \
            + eps_cure(text, spec.model)
    return f'{spec.model_field} cannot be built: {text}'


def eps_cure(text: str, model: Mapping[str, Any]) -> str:
    """Which setting to change where a batch norm refuses an eps of 0; empty
    for other errors.

    Args:
        text: Of the error.
        model: The ``model`` part of a config.
    """
    eps = _field_of(model, lambda key, value: key == 'eps' and value == 0)
    if not eps or 'eps must be positive' not in text:
        return ''
    return f', and {eps} is 0. Set it to a small number, such as 1e-5.'


def _field_of(part: Any, is_meant: Callable[[Any, Any], bool]) -> str:
    """The first key within a part of a model's config that is meant, as
    ``neck.in_channels``; empty if none is.

    Args:
        part: The part.
        is_meant: Of a key and its value.
    """
    entries = part.items() if isinstance(part, Mapping) else \
        enumerate(part) if isinstance(part, (list, tuple)) else ()
    for key, inner in entries:
        deeper = _field_of(inner, is_meant)
        if deeper or is_meant(key, inner):
            return f'{key}.{deeper}' if deeper else str(key)
    return ''


def _unknown_layers(part: Any) -> Iterator[Any]:
    """The types of convolutions, norms and activations within a part of a
    model's config that no registry has."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key in ('conv_cfg', 'norm_cfg', 'act_cfg') and value:
                kind = value.get('type')
                if isinstance(kind, str) and MODELS.get(kind) is None:
                    yield kind
            yield from _unknown_layers(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _unknown_layers(value)


def _search_problems(plan: Plan,
                     pool: Mapping[str, BaseDetector]) -> list[str]:
    """Why the search for the order would not come to an end."""
    if plan.order is not None or len(pool) <= len(plan.teachers):
        return []  # no search, or its problem is another one
    problems = []
    try:
        common_strides(plan, pool)
    except PlanError as error:
        problems += error.problems
    declared = [spec.ap for spec in plan.teachers.values()
                if spec.ap is not None]
    if not declared:
        problems += unmeasurable_aps(plan, pool)
    elif max(declared) <= 0:
        problems.append('mtpd.teachers: the declared ap of every teacher is '
                        '0, so none is the best. Declare their APs in '
                        'percent, or none to have all measured.')
    return problems


def _other_classes(student: DetectorSpec, teacher: DetectorSpec,
                   pool: Mapping[str, BaseDetector]) -> str:
    """That a teacher knows other classes than the student, in words; empty if
    both know the same, or it is unknown."""
    names = classes_of(student, pool[student.name])
    # A config may name the student's data, with another's weights.
    others = checkpoint_classes(teacher, pool[teacher.name]) \
        or classes_of(teacher, pool[teacher.name])
    if not names or not others or names == others:
        return ''
    return (f'{teacher.field} was trained on other classes than the '
            f"student's ({len(others)}, not {len(names)}, or in another "
            'order)')


def _head_problems(plan: Plan, pool: Mapping[str, BaseDetector]) -> list[str]:
    """That a head is inherited whose outputs mean other classes. Of a head
    with another number of classes, the layers before them are taken."""
    if 'head' not in plan.inherit or not plan.order \
            or plan.order[0][0] not in pool:
        return []
    first = plan.teachers[plan.order[0][0]]
    difference = _other_classes(plan.student, first, pool)
    own, others = map(box_head_classes, (plan.student.model, first.model))
    if not difference or own != others:
        return []
    return [f'mtpd.inherit takes the head of {first.name}, and {difference}. '
            "Leave 'head' out, or take another first teacher."]


def _branch_problems(plan: Plan, pool: Mapping[str, BaseDetector],
                     teacher: DetectorSpec) -> list[str]:
    """Why levels, heads or mechanism of a teacher do not fit the student."""
    start = None if plan.init_adapters == 'fitted' else plan.init_adapters
    try:
        branch = make_branch(
            pool['student'], FrozenDetector(pool[teacher.name]), teacher.name,
            plan.distill, plan.strides, plan.adapter, start)
    except ValueError as error:
        return [str(error)]
    except Exception as error:  # a mechanism of the user's own
        return [f'mtpd.distill cannot be used with {teacher.field} '
                f'({type(error).__name__}: {error}).']
    difference = _other_classes(plan.student, teacher, pool)
    if not branch.mechanism.uses_scores or not difference:
        return []
    return [f'mtpd.distill compares classification maps, and {difference}. '
            'Choose a mechanism on feature maps, or another teacher.']


def _image_problems(plan: Plan, student: BaseDetector,
                    teacher: DetectorSpec) -> list[str]:
    """Why a teacher's images cannot be made beside the student's."""
    problems = []
    try:
        padding = DistillDataPreprocessor(
            student.data_preprocessor,
            {teacher.name: teacher.model.data_preprocessor},
            {teacher.name: teacher.scale}).divisor
        if padding > MAX_PADDING:
            problems.append(
                f'{teacher.field}.scale is {teacher.scale}: for grids to line '
                "up, the student's batches would be padded to multiples of "
                f'{padding} pixels. Choose a fraction of small numbers, such '
                'as 2, 3/2 or 4/3.')
        if teacher.scale != 1:
            problems += _scale_problems(plan, teacher)
    except (AttributeError, TypeError, ValueError) as error:
        problems.append(str(error))
    return problems


def _scale_problems(plan: Plan, teacher: DetectorSpec) -> list[str]:
    """Why a pipeline cannot make images of a teacher's scale.

    Raises:
        TypeError, ValueError: The data set has no pipeline to change.
    """
    cfg = plan.student.config
    dataset = cfg.train_dataloader.dataset
    with_teacher_view(dataset, [teacher.scale])
    problems = []
    for _, inner in inner_datasets(dataset, ''):
        problems += unsupported_steps(inner.pipeline)
    for hook in cfg.get('custom_hooks') or []:
        if 'switch_pipeline' in hook:
            problems.append(
                f'custom_hooks has a {type_name(hook["type"])}, which '
                'replaces the pipeline that makes images of '
                f"{teacher.field}'s scale {teacher.scale}. Remove the hook or "
                'the scale.')
    return problems


def common_strides(plan: Plan,
                   pool: Mapping[str, BaseDetector]) -> tuple[int, ...]:
    """The strides that student and every teacher share, ascending.

    Raises:
        PlanError: There is none.
    """
    pyramids = {name: pyramid_channels(d) for name, d in pool.items()}
    shared = set.intersection(*map(set, pyramids.values()))
    if plan.strides is not None:
        shared &= set(plan.strides)
    if not shared:
        strides = [f'{name} {sorted(channels)}'
                   for name, channels in pyramids.items()]
        raise PlanError(['The pool has no stride in common: '
                         + '; '.join(strides)
                         + '. Costs of one order are compared on one set of '
                         'levels: take out the teacher that does not fit, or '
                         'set mtpd.order by hand.'])
    return tuple(sorted(shared))
