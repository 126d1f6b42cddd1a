"""The student and its teachers, built, and whether they fit together."""
from typing import Any, Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.logging import print_log

from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     UnsafeCheckpoint, fetch_checkpoint,
                                     read_checkpoint)
from mtpd.distill.auto_weight import is_disabled
from mtpd.distill.branch import make_branch
from mtpd.distill.detector import CheckpointMismatch, build_detector
from mtpd.distill.frozen import FrozenDetector
from mtpd.distill.preprocessor import DistillDataPreprocessor
from mtpd.distill.pyramid import pyramid_channels
from mtpd.distill.teacher_view.steps import unsupported_steps
from mtpd.distill.teacher_view.transform import with_teacher_view
from mtpd.randomness import isolate_rng

from .plan import DetectorSpec, Plan, PlanError, inner_datasets
from .student_names import unknown_modules

MOST_PADDING = 256
"""A student's batch may be padded to multiples of so many pixels."""


def build_pool(plan: Plan) -> dict[str, BaseDetector]:
    """Student and teachers, built and strictly loaded; the student first.

    A student without a checkpoint has its own initialisation. Each pair's
    levels and classes are looked at too, and the modules that the student's
    config names, so that the last stage's mistake is found before the first.

    Raises:
        PlanError: With all mismatches.
    """
    specs = [plan.student, *(plan.teachers[n] for n in plan.used)]
    pool, problems = {}, []
    with isolate_rng(0):
        for spec in specs:
            try:
                pool[spec.name] = build_detector(
                    spec.model, spec.checkpoint, f'{spec.field}.checkpoint')
                if spec.checkpoint is None:
                    pool[spec.name].init_weights()
            except (CheckpointMismatch, CheckpointUnavailable,
                    CorruptCheckpoint, UnsafeCheckpoint, TypeError,
                    FileNotFoundError) as error:
                problems.append(str(error))
        if 'student' in pool:
            problems += unknown_modules(plan.student.config, pool['student'])
            for spec in specs[1:]:
                if spec.name in pool:
                    problems += _unpairable(plan, pool, spec)
    if problems:
        # A wrong mechanism is the same problem with every teacher.
        raise PlanError(list(dict.fromkeys(problems)))
    _say_other_classes(plan, specs)
    return pool


def _unpairable(plan: Plan, pool: Mapping[str, BaseDetector],
                teacher: DetectorSpec) -> list[str]:
    """Why a teacher cannot teach this student: levels, heads, mechanism,
    preprocessing, pipeline."""
    if is_disabled(plan.distill):
        return []
    problems = []
    student = pool['student']
    try:
        branch = make_branch(
            student, FrozenDetector(pool[teacher.name]), teacher.name,
            plan.distill, plan.strides, plan.adapter,
            None if plan.init_adapters == 'fitted' else plan.init_adapters)
        if branch.mechanism.uses_scores:
            problems += _other_classes(plan.student, teacher)
    except ValueError as error:
        problems.append(str(error))
    try:
        padding = DistillDataPreprocessor(
            student.data_preprocessor,
            {teacher.name: teacher.model.data_preprocessor},
            {teacher.name: teacher.scale}).divisor
        if padding > MOST_PADDING:
            problems.append(
                f'{teacher.field}.scale is {teacher.scale}: for grids to line '
                "up, the student's batches would be padded to multiples of "
                f'{padding} pixels. Choose a fraction of small numbers, such '
                'as 2, 3/2 or 4/3.')
        if teacher.scale != 1:
            dataset = plan.student.config.train_dataloader.dataset
            with_teacher_view(dataset, [teacher.scale])
            for _, inner in inner_datasets(dataset, ''):
                problems += unsupported_steps(inner.pipeline)
            problems += [
                f'custom_hooks has a {hook["type"]}, which puts another '
                'pipeline in the place of the one that makes images of '
                f"{teacher.field}'s scale {teacher.scale}. Remove the hook or "
                'the scale.' for hook in
                plan.student.config.get('custom_hooks') or []
                if 'switch_pipeline' in hook]
    except (TypeError, ValueError) as error:
        problems.append(str(error))
    return problems


def common_strides(plan: Plan,
                   pool: Mapping[str, BaseDetector]) -> tuple[int, ...]:
    """The strides that student and every teacher share, ascending.

    Raises:
        PlanError: There is none.
    """
    feature_maps = {name: pyramid_channels(d) for name, d in pool.items()}
    shared = set.intersection(*(set(p) for p in feature_maps.values()))
    if plan.strides is not None:
        shared &= set(plan.strides)
    if not shared:
        raise PlanError(['The pool has no stride in common: ' + '; '.join(
            f'{name} {sorted(p)}' for name, p in feature_maps.items()) +
            '. Costs of one order are compared on one set of levels: take out '
            'the teacher that does not fit, or set mtpd.order by hand.'])
    return tuple(sorted(shared))


def unmeasurable_aps(plan: Plan) -> list[str]:
    """Why the student's validation set cannot tell some teachers' APs."""
    own = len(classes_of(plan.student)) \
        or _head_classes(plan.student.config.model)
    other = {n: _head_classes(t.config.model)
             for n, t in plan.teachers.items()}
    return [
        f'mtpd.teachers.{n}.ap is not known and cannot be measured: it '
        f'predicts {count} classes, the validation set has {own}. Declare ap '
        'for every teacher.' for n, count in other.items()
        if own and count not in (None, own)]


def classes_of(spec: DetectorSpec) -> tuple[str, ...]:
    """Classes by config, else by checkpoint, else unknown (empty)."""
    metainfo = spec.config.get('val_dataloader', {}).get(
        'dataset', {}).get('metainfo') or {}
    classes = metainfo.get('classes')
    if classes is None and spec.checkpoint is not None:
        meta = read_checkpoint(fetch_checkpoint(spec.checkpoint)).get(
            'meta', {})
        dataset_meta = meta.get('dataset_meta') or {}
        classes = dataset_meta.get('classes', dataset_meta.get(
            'CLASSES', meta.get('CLASSES')))
    return tuple(classes or ())


def _head_classes(model: Mapping[str, Any]) -> int | None:
    """``num_classes`` of a detector's box head, None where it has none."""
    head = model.get('bbox_head') or (model.get('roi_head') or {}).get(
        'bbox_head') or {}
    if isinstance(head, (list, tuple)):  # cascades have one head per step
        head = head[-1]
    return head.get('num_classes')


def _other_classes(student: DetectorSpec,
                   teacher: DetectorSpec) -> list[str]:
    own, theirs = classes_of(student), classes_of(teacher)
    if not own or not theirs or own == theirs:
        return []
    return [f'mtpd.distill compares classification maps, and {teacher.field} '
            f"was trained on other classes than the student's ({len(theirs)}, "
            f'not {len(own)}, or in another order). Choose a mechanism on '
            'feature maps, or another teacher.']


def _say_other_classes(plan: Plan, specs: list[DetectorSpec]) -> None:
    for spec in specs[1:]:
        own, theirs = classes_of(plan.student), classes_of(spec)
        if _other_classes(plan.student, spec):
            print_log(
                f'{spec.field} was trained on other classes than the '
                f"student's ({len(theirs)}, not {len(own)}, or in another "
                'order). Its maps are matched all the same: no head takes '
                'part.', logger='current')
