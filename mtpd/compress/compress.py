"""From a trained detector to the files of a smaller one."""
import copy
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Iterable, Mapping, NamedTuple

from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mtpd.compat.checkpoints import fetch_checkpoint
from mtpd.distill.inherit import inherit
from mtpd.plan.detectors import DetectorSpec, is_url, load_config
from mtpd.plan.errors import PlanError
from mtpd.plan.pool import build_all

from .budget import (Measure, megabytes, parameters, slice_of_width, widest,
                     widest_slice)
from .calibrate import IMAGES, image_problems, recalibrate
from .channels import torch_pruning
from .errors import CannotSlice, WidthUnavailable
from .files import (ORIGINAL, Files, Teacher, config_files, files_of,
                    refuse_existing, write_files)
from .first_weights import without_first_weights
from .narrow import narrowed
from .narrow_backbone import setting
from .slicing import built, trained


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for.

    Attributes:
        config: Of the original: a file, or ``mmdet::family/name.py``.
        checkpoint: Its weights, file or URL.
        folder: Of the new files.
        width: Share of the channels; None to have it found by ``limits``.
        limits: Unit (``parameters``, ``MB`` or ``ms``) -> the largest value.
        depth: Layers of the new backbone; None for those of the original.
        ap: Box AP of the original in percent, for the order of the teachers.
        teachers: The pool besides the original, by name.
        images: Number of training images for the batch norms.
        overwrite: Whether existing files are replaced.
    """
    config: str
    checkpoint: str
    folder: str
    width: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    depth: int | None = None
    ap: float | None = None
    teachers: Mapping[str, Teacher] = field(default_factory=dict)
    images: int = IMAGES
    overwrite: bool = False


class Compressed(NamedTuple):
    """What was made.

    Attributes:
        files: What was written.
        width: Share of the channels.
        original: Parameters and megabytes of the original.
        smaller: The same of the slice.
        images: Number of images that its batch norms saw.
        notes: What is not exactly as was asked for.
    """
    files: Files
    width: float
    original: tuple[float, float]
    smaller: tuple[float, float]
    images: int
    notes: tuple[str, ...]


def compress(request: Request, latency: Measure) -> Compressed:
    """Slice a trained detector and write what is needed to train the slice.

    Args:
        request: What is asked for.
        latency: Milliseconds that a detector takes for one image.

    Raises:
        CannotSlice: With everything that is wrong; nothing was written.
        CheckpointMismatch, CheckpointUnavailable, CorruptCheckpoint,
            UnsafeCheckpoint, FileNotFoundError: The checkpoint cannot be used.
        OSError: The files cannot be written.
    """
    torch_pruning()  # or it would be missed after all the rest
    cfg = read_original(request)
    whole = DetectorSpec(ORIGINAL, cfg, None).model
    model = _with_depth(whole, request.depth)
    if request.width is not None:
        with suppress(WidthUnavailable):  # until others can be named
            narrowed(model, request.width)  # what cannot be sliced comes first
    original = trained(whole, request.checkpoint)
    if request.width is not None:
        _check_name(request, request.width)
    sizes = parameters(original), megabytes(original)
    if request.depth is not None:
        original = _shallower(original, model, request.depth)
    if request.width is None:
        measures = {'parameters': parameters, 'MB': megabytes, 'ms': latency}
        made = widest_slice(original, model, widest(
            model, measures, request.limits, request.depth is not None))
    else:
        made = slice_of_width(original, model, request.width)
    files = _check_name(request, made.width)
    images = recalibrate(made.detector, cfg, request.images)
    teachers = {ORIGINAL: Teacher(request.config, request.checkpoint,
                                  request.ap), **request.teachers}
    write_files(files, cfg, made.model, made.detector, teachers)
    return Compressed(files, made.width, sizes,
                      (parameters(made.detector), megabytes(made.detector)),
                      images, made.notes)


def _check_name(request: Request, width: float) -> Files:
    files = files_of(request.config, request.folder, width, request.depth)
    refuse_overwriting(files, request)
    return files


def refuse_overwriting(files: Iterable[str], request: Request) -> None:
    """Raise if something would be overwritten that should not be: with
    ``overwrite``, what the request reads.

    Args:
        files: What will be written.
        request: What is asked for.

    Raises:
        CannotSlice: One of them exists.
    """
    original = Teacher(request.config, request.checkpoint)
    sources = []
    for detector in (original, *request.teachers.values()):
        sources += [detector.checkpoint, *config_files(detector.config)]
    refuse_existing(files, sources, request.overwrite)


def read_original(request: Request) -> Config:
    """The config of the original.

    Raises:
        CannotSlice: With everything in the request that cannot be used.
    """
    cfg, problems = read_detector(request)
    problems += teacher_problems(request)
    if not problems:
        problems += image_problems(cfg)
    if problems:
        raise CannotSlice(problems)
    return cfg


def read_detector(request: Request) -> tuple[Config, list[str]]:
    """The config of the original, and why it or its checkpoint cannot be used.

    Raises:
        CannotSlice: There is no config.
    """
    try:
        cfg = load_config(request.config)
    except OSError as error:
        raise CannotSlice([f'There is no config {request.config} '
                           f'({error}).']) from error
    problems = []
    if not cfg.get('model'):
        problems.append(f'{request.config} has no model. Name the config of '
                        'a detector.')
    elif not cfg.model.get('backbone'):
        problems.append(f'{request.config}: model is a {cfg.model.type} '
                        'without a backbone of its own. Name the config of '
                        'the detector in it.')
    if 'mtpd' in cfg:
        problems.append(
            f'{request.config} is the config of a progression. Name the plain '
            'config of its student: student.py in its work dir.')
    if not is_url(request.checkpoint) and not os.path.isfile(
            os.path.expanduser(request.checkpoint)):
        problems.append(f'There is no checkpoint {request.checkpoint}.')
    return cfg, problems


def teacher_problems(request: Request) -> list[str]:
    """What is wrong with the pool, teacher by teacher."""
    problems = []
    for name, teacher in request.teachers.items():
        problems += [f'--teacher {name}: {text}'
                     for text in _problems_of(name, teacher)]
    aps = [request.ap, *(one.ap for one in request.teachers.values())]
    if None in aps and aps.count(None) < len(aps):
        problems.append('An AP is given for some teachers and not for all. '
                        'Give all of them (--ap for the original), or none '
                        'to have all measured.')
    return problems


def _problems_of(name: str, teacher: Teacher) -> list[str]:
    problems = []
    if name in (ORIGINAL, 'student'):
        problems.append('this name is taken. Choose another.')
    try:
        cfg = load_config(teacher.config)
        if cfg.get('model'):
            spec = DetectorSpec(name, cfg, teacher.checkpoint)
            _, wrong = build_all([spec], ())
            return problems + [text.replace(spec.field, f'--teacher {name}')
                               for text in wrong]
        problems.append(f'{teacher.config} has no model.')
    except (OSError, PlanError) as error:
        problems.append(str(error))
    try:
        fetch_checkpoint(teacher.checkpoint)
    except (OSError, RuntimeError) as error:
        problems.append(str(error))
    return problems


def _with_depth(model: ConfigDict, depth: int | None) -> ConfigDict:
    if depth is None:
        return model
    kind = model.backbone.type
    if setting(model.backbone, 'depth') is None:
        raise CannotSlice([f'--depth: model.backbone is a {kind}, which has '
                           'no depth to choose.'])
    depths = getattr(MODELS.get(kind), 'arch_settings', {})
    if depths and depth not in depths:
        raise CannotSlice([f'--depth {depth}: model.backbone is a {kind}, '
                           'which has one of the depths '
                           f'{", ".join(map(str, depths))}.'])
    model = copy.deepcopy(model)
    model.backbone.depth = depth
    without_first_weights(model)
    return model


def _shallower(original: BaseDetector, model: ConfigDict,
               depth: int) -> BaseDetector:
    """The original with every second block of the stages that are shorter."""
    detector = built(model)
    try:
        inherited = inherit(detector.state_dict(), original.state_dict(),
                            ('alternate_blocks', 'neck', 'head'))
    except ValueError as error:
        raise CannotSlice([
            f'--depth {depth}: no stage of the original is twice as deep, so '
            'there are no blocks to leave out.']) from error
    if inherited.left:
        raise CannotSlice([
            f'--depth {depth}: the blocks are of another kind than those of '
            f'the original ({next(iter(inherited.left))}). Choose a depth of '
            'the same kind: 18 or 34, or else 50, 101 or 152.'])
    detector.load_state_dict(inherited.weights)
    detector.dataset_meta = original.dataset_meta
    print_log(inherited.describe(), logger='current')
    return detector
