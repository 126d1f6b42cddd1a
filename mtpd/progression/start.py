"""Where a progression starts: seed, first weights, their AP."""
import io
import logging
import os
import shlex
from contextlib import suppress
from dataclasses import replace
from typing import Any, Mapping

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log

from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     UnsafeCheckpoint)
from mtpd.compress import sliced_detector
from mtpd.compress.calibrate import IMAGES, recalibrate
from mtpd.compress.files import plain_checkpoint
from mtpd.compress.first_weights import same_layers
from mtpd.compress.narrow_backbone import setting
from mtpd.compress.slicing import trained
from mtpd.distill.detector import (CheckpointMismatch, build_detector,
                                   load_weights)
from mtpd.distill.inherit import Inheritance, inherit
from mtpd.distill.pyramid import pyramid_channels
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan
from mtpd.plan.predictions import unmeasurable_aps
from mtpd.processes import on_main
from mtpd.randomness import isolate_rng
from mtpd.search.found_order import FoundOrder
from mtpd.search.measure import known_measures, measured_aps
from mtpd.show.detector_aps import describe_aps, describe_unknown

from .pool_training import retraining
from .record import is_started


def slice_student(plan: Plan, pool: dict[str, BaseDetector],
                  has_weights: bool) -> list[str]:
    """Give the student of a pool the weights of the detector that it is a
    slice of, and say what is wrong with that detector.

    Args:
        plan: The progression.
        pool: The built detectors by name.
        has_weights: Whether the larger detector's checkpoint is read; if not,
            only shapes are compared.
    """
    source = plan.student.sliced_from
    if source is None or 'student' not in pool or is_sliced(plan):
        return []
    keeps_backbone = same_layers(source.model.backbone,
                                 plan.student.model.backbone)
    try:
        original = trained(source.model, source.weights,
                           source.checkpoint_field) if has_weights else \
            replace(source, checkpoint=None).build()
        pool['student'] = sliced_detector(original, plan.student.model,
                                          keeps_backbone)
    except PlanError as error:
        return [f'{source.field}: {text}' for text in error.problems]
    except (CheckpointMismatch, CheckpointUnavailable, CorruptCheckpoint,
            UnsafeCheckpoint, FileNotFoundError) as error:
        return [str(error)]
    except Exception as error:  # whatever a part of mmdet may raise
        return [f'{source.field}.config: the model cannot be built '
                f'({type(error).__name__}: {error}).']
    return []


def slice_notes(plan: Plan, pool: Mapping[str, BaseDetector]) -> list[str]:
    """That stages of a sliced student are frozen, which is hardly meant.

    Args:
        plan: The progression.
        pool: The built detectors by name.
    """
    source = plan.student.sliced_from
    if source is None or 'student' not in pool:
        return []
    own = plan.student.model.backbone
    frozen = setting(own, 'frozen_stages')
    if frozen in (None, -1) or same_layers(source.model.backbone, own):
        return []
    return [f'model.backbone.frozen_stages is {frozen}, so what is left of '
            'these stages is not trained. Set -1, as tools/compress.py does.']


def write_slice(plan: Plan, pool: Mapping[str, BaseDetector]) -> None:
    """Measure the batch norms of a sliced student on training images, once,
    and save it.

    Args:
        plan: The progression.
        pool: After :func:`slice_student`.
    """
    source = plan.student.sliced_from
    if source is None or is_sliced(plan):
        return
    student = pool['student']

    def write() -> None:
        images = recalibrate(student, plan.student.config, IMAGES)
        print_log(f'The student is a slice of {source.checkpoint}; its batch '
                  f'norms were measured on {images} images.', logger='current')
        save_atomically(plain_checkpoint(student), plan.student.weights)

    on_main(write)
    load_weights(student, plan.student.weights, plan.student.checkpoint_field)


def is_sliced(plan: Plan) -> bool:
    """Whether the slice that the student starts from is written. That of a
    start that did not come to a stage may be another config's."""
    return os.path.isfile(plan.paths.sliced) and is_started(plan)


def starting_weights(plan: Plan, pool: Mapping[str, BaseDetector],
                     first: str) -> str | None:
    """What the first stage starts from; None for its own initialisation.

    Where the student's checkpoint alone does not say it (weights inherited
    from a teacher, adapters fitted to a student without a checkpoint), a file
    is written once and used again by a resumed run.

    Args:
        plan: The progression.
        pool: The built detectors by name.
        first: The first teacher.

    Raises:
        PlanError: Nothing can be inherited.
    """
    fitted = plan.init_adapters == 'fitted' and plan.distils
    if not plan.inherit and (plan.student.checkpoint or not fitted):
        return plan.student.checkpoint
    path = plan.paths.start
    barrier()
    # Of a start that did not come to a stage it may be another config's.
    if is_main_process() and not (os.path.isfile(path) and is_started(plan)):
        with isolate_rng(plan.seed or 0):
            student = plan.student.build()
            if plan.student.checkpoint is None:
                student.init_weights()
        weights = student.state_dict()
        if plan.inherit:
            inheritance = _inheritance(plan, student, pool[first], first)
            print_log(f'From {first}:\n{inheritance.describe()}',
                      logger='current')
            weights = inheritance.weights
        save_atomically(dict(state_dict=weights), path)
    barrier()
    return path


def starting_ap(plan: Plan, pool: Mapping[str, BaseDetector],
                weights: str | None) -> float | None:
    """Box AP in percent of the first stage's weights; None for none.

    Args:
        plan: The progression.
        pool: The built detectors by name.
        weights: From :func:`starting_weights`.
    """
    if weights is None:
        return None
    student, detector = plan.student, pool['student']
    if weights != student.checkpoint:
        student = replace(student, checkpoint=weights)
        detector = student.build()
    return measured_aps({'student': student}, {'student': detector},
                        student.config, plan.paths.measured)['student']


def teacher_aps(plan: Plan, pool: Mapping[str, BaseDetector]
                ) -> dict[str, float | None]:
    """Box AP in percent of each teacher of an order by hand, as declared or
    else measured; None where it cannot be measured, or where no teacher takes
    part. The log says why.

    Args:
        plan: The progression.
        pool: The built detectors by name.
    """
    aps = {name: spec.ap for name, spec in plan.teachers.items()}
    reasons = unmeasurable_aps(plan, pool)
    for name in plan.used if plan.distils else ():
        if aps[name] is not None:
            continue
        field = plan.teachers[name].field
        try:
            reason = next((reason for reason in reasons
                           if reason.startswith(f'{field}.ap ')), '')
            if not reason:
                aps[name] = measured_aps(
                    plan.specs, {name: pool[name]}, plan.student.config,
                    plan.paths.measured)[name]
        # Whatever may be raised: an order by hand does not need the AP.
        except Exception as error:
            reason = ' '.join(getattr(error, 'problems', ())) \
                or f'{field}: {type(error).__name__}: {error}'
        if reason:
            print_log(f'The AP of {name} was not measured. {reason}',
                      logger='current', level=logging.WARNING)
    return aps


def known_aps(plan: Plan) -> dict[str, float | None]:
    """Box AP in percent of the student and of each teacher, as declared, or as
    an earlier run in the work dir has measured it or order.json says it; None
    where it is not known. Nothing is measured or downloaded.

    Args:
        plan: The progression.
    """
    aps: dict[str, float | None] = {}
    found = None
    with suppress(OSError, KeyError, TypeError, ValueError):
        found = FoundOrder.read(plan.paths.order_file)
    for name, spec in plan.specs.items():
        aps[name] = spec.ap
        if spec.ap is None and spec.checkpoint and os.path.isfile(
                spec.checkpoint):
            aps[name] = known_measures(spec, plan.student.config,
                                       plan.paths.measured).get('ap')
            if found is not None and aps[name] is None:
                aps[name] = found.ap_of(name, spec.hash())
    return aps


def describe_known_aps(plan: Plan) -> str:
    """The table of :func:`known_aps` with its warnings, and for an order by
    hand which APs are not known; empty where there is nothing to say.

    Args:
        plan: The progression.
    """
    aps = known_aps(plan)
    teachers = {name: aps[name] for name in plan.teachers}
    parts = []
    if {*aps.values()} != {None}:
        parts.append(describe_aps(aps['student'], teachers,
                                  plan.declares_aps, retraining(plan)))
    unknown = unknown_aps(plan, aps)
    if unknown:
        mixed = len({spec.ap is None for spec in plan.teachers.values()}) > 1
        parts.append(describe_unknown(unknown, mixed, search_command(plan)))
    return '\n'.join(parts)


def unknown_aps(plan: Plan, aps: Mapping[str, float | None]) -> list[str]:
    """The student and the teachers of an order by hand whose AP is not known;
    a search for the order measures them by itself.

    Args:
        plan: The progression.
        aps: From :func:`known_aps`.
    """
    if plan.order is None or not plan.distils:
        return []
    return [name for name in ('student', *plan.used)
            if aps[name] is None and plan.specs[name].checkpoint]


def search_command(plan: Plan) -> str:
    """What to type to measure everybody's AP and costs."""
    return shlex.join(['python', 'tools/bgs_order.py',
                       plan.student.config.filename or 'CONFIG',
                       '--work-dir', plan.work_dir])


def save_atomically(content: Any, path: str) -> None:
    """``torch.save`` to a file that appears whole or not at all."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    atomic_write(path, buffer.getvalue())


def inherit_problems(plan: Plan,
                     pool: Mapping[str, BaseDetector]) -> list[str]:
    """Why nothing can be inherited of the first teacher, where the config
    says which one that is.

    Args:
        plan: The progression.
        pool: The built detectors by name.
    """
    if not plan.inherit or not plan.order:
        return []
    first = plan.order[0][0]
    if 'student' not in pool or first not in pool:
        return []
    try:
        _inheritance(plan, pool['student'], pool[first], first)
    except PlanError as error:
        return error.problems
    return []


def _inheritance(plan: Plan, student: BaseDetector, teacher: BaseDetector,
                 name: str) -> Inheritance:
    strides, others = (tuple(pyramid_channels(detector))
                       for detector in (student, teacher))
    if 'neck' in plan.inherit and strides != others:
        # A Mask R-CNN's fpn_convs.0 makes stride 4, a RetinaNet's stride 8,
        # and both have the same name and shape.
        raise PlanError([
            f'mtpd.inherit: the neck of {name} makes maps of strides '
            f'{others}, the student\'s of {strides}, so layers of one name '
            "are not of one level. Leave 'neck' out, or take a first teacher "
            'of the same strides.'])
    try:
        inheritance = inherit(student.state_dict(), teacher.state_dict(),
                              plan.inherit)
    except ValueError as error:
        raise PlanError([str(error)]) from error
    return inheritance


def build_student(plan: Plan, checkpoint: str | None,
                  field: str) -> BaseDetector:
    """The student with the weights of a checkpoint.

    Args:
        plan: The progression.
        checkpoint: File or URL; None for weights as constructed.
        field: What names the checkpoint, for messages.
    """
    with isolate_rng(0):
        return build_detector(plan.student.model, checkpoint, field)
