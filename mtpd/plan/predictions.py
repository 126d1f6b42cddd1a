"""What a detector takes and predicts, and whether its AP can be measured."""
import traceback
from typing import Any, Mapping

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample

from mtpd.compat.checkpoints import fetch_checkpoint, read_checkpoint
from mtpd.config_types import dict_of
from mtpd.distill.detector import dataset_meta_of

from .class_names import label_map, validated_classes
from .data_check.classes import head_classes
from .detectors import DetectorSpec
from .errors import PlanError
from .plan import Plan


def unmeasurable_aps(plan: Plan,
                     pool: Mapping[str, BaseDetector] | None = None
                     ) -> list[str]:
    """Why the student's validation set cannot measure some teachers' APs.

    Args:
        plan: The progression.
        pool: The detectors that are built, by name; of others the checkpoint
            is read.
    """
    pool = pool or {}
    try:
        wanted = validated_classes(plan.student)
    except PlanError:
        return []  # the data check says what is wrong with them
    count = len(wanted or classes_of(plan.student, pool.get('student'))) \
        or box_head_classes(plan.student.config.model)
    problems = []
    for name in plan.used:
        teacher = plan.teachers[name]
        try:
            by_name = label_map(plan.student, teacher, pool.get(name))
        except PlanError as error:
            problems += error.problems
            continue
        predicted = box_head_classes(teacher.config.model)
        if name in pool and predicts_no_boxes(pool[name]):
            problems.append(
                f'mtpd.teachers.{name}.ap is not known and cannot be '
                f'measured: {type(pool[name]).__name__} predicts masks and no '
                'boxes. Declare ap for every teacher.')
        elif by_name is None and count and predicted not in (None, count):
            problems.append(
                f'mtpd.teachers.{name}.ap is not known and cannot be '
                f'measured: it predicts {predicted} classes, the validation '
                f'set has {count}. Declare ap for every teacher.')
    return problems


def predicts_no_boxes(detector: BaseDetector) -> bool:
    """Whether a detector predicts masks alone, as SOLO does; its boxes are
    zeros in mmdet, and so is their AP."""
    masks, boxes, proposals = (getattr(detector, f'with_{what}', False)
                               for what in ('mask', 'bbox', 'rpn'))
    return masks and not (boxes or proposals)


def input_channels(model: Mapping[str, Any]) -> int:
    """The channels of the images that a backbone takes.

    Args:
        model: The ``model`` part of a config.
    """
    backbone = dict_of(model, 'backbone')
    for key in ('in_channels', 'in_chans'):  # the second is timm's
        if isinstance(backbone.get(key), int):
            return int(backbone[key])
    return 3


def classes_of(spec: DetectorSpec,
               detector: BaseDetector | None = None) -> tuple[str, ...]:
    """Classes by config, else by checkpoint, else unknown (empty).

    Args:
        spec: The detector.
        detector: Built from it, if it is; then no file is read.
    """
    validation = dict_of(spec.config, 'val_dataloader.dataset')
    classes = dict_of(validation, 'metainfo').get('classes')
    if classes is None and spec.checkpoint is not None:
        meta = getattr(detector, 'dataset_meta', None) \
            if detector is not None else dataset_meta_of(
                read_checkpoint(fetch_checkpoint(spec.checkpoint)))
        classes = (meta or {}).get('classes')
    return tuple(classes or ())


def box_head_classes(model: Mapping[str, Any]) -> int | None:
    """``num_classes`` of a detector's last box head, None where it has
    none.

    Args:
        model: The ``model`` part of a config.
    """
    return next((count for field, count in reversed([*head_classes(model)])
                 if 'bbox_head' in field), None)


def predict(detector: BaseDetector, batch: Mapping[str, Any], field: str,
            purpose: str, instead: str = '') -> list[DetDataSample]:
    """What a detector predicts of a batch of the validation set.

    Args:
        detector: On the device, in eval mode.
        batch: Of the loader.
        field: The detector's, for messages.
        purpose: What it is for, such as ``as the validation does``.
        instead: What else can be done if it cannot.

    Raises:
        PlanError: It cannot.
    """
    try:
        return list(detector.val_step(batch))
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # whatever a head of mmdet may raise
        text = str(error) or traceback.extract_tb(
            error.__traceback__)[-1].line
        raise PlanError([
            f'{field}: {type(detector).__name__} cannot predict '
            f'{len(batch["inputs"])} images of val_dataloader, {purpose} '
            f'({type(error).__name__}: {text}). Compare the model, the '
            "test pipeline (also PackDetInputs' meta_keys) and "
            "val_dataloader.batch_size with the detector's own mmdet "
            f'config{instead}.']) from error
