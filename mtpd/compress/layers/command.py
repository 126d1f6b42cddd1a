"""From a trained detector to the files of one with other convolutions."""
import os
from dataclasses import dataclass, field
from typing import Any, Mapping, NamedTuple

from mmengine.config import Config

from mtpd.compat.config_text import pretty_text
from mtpd.compress.budget import megabytes, parameters
from mtpd.compress.calibrate import recalibrate
from mtpd.compress.compress import (Request, read_detector, read_original,
                                    refuse_overwriting)
from mtpd.compress.errors import CannotSlice
from mtpd.compress.files import (ORIGINAL, Files, Teacher, named_files,
                                 load_from, saved, write_files,
                                 write_together)
from mtpd.compress.slicing import trained
from mtpd.config_types import imported_modules
from mtpd.plan.detectors import DetectorSpec

from .convert import merge_into, start_from
from .model import LAYERS, built_with, with_layers, without_layers

_NAMES = {'LowRankConv2d': 'lowrank', 'BinaryWeightConv2d': 'binary',
          'XNORConv2d': 'xnor'}
_ABOUT = 'with convolutions of the type {}. Its first weights,\n' \
    '# made from those of the trained detector, are'
_PLAIN_CHANNELS = 3
"""Of an image: the convolution that takes it is kept."""


@dataclass(frozen=True, kw_only=True)
class LayerRequest(Request):
    """What is asked for, besides a slice's request.

    Attributes:
        conv_cfg: Type and settings of the convolutions.
        parts: The parts that get them; empty for those that suit the type.
    """
    conv_cfg: Mapping[str, Any]
    parts: tuple[str, ...] = field(default_factory=tuple)


class Layered(NamedTuple):
    """What was made.

    Attributes:
        files: What was written.
        original: Parameters and megabytes of the given detector.
        made: The same of the one that was made.
        changed: Number of convolutions.
        images: Number of images that batch norms saw.
        notes: What was changed besides the convolutions.
    """
    files: tuple[str, ...]
    original: tuple[float, float]
    made: tuple[float, float]
    changed: int
    images: int = 0
    notes: tuple[str, ...] = ()


def replace_layers(request: LayerRequest) -> Layered:
    """Give a trained detector other convolutions and write what is needed to
    train it.

    Args:
        request: What is asked for; ``width``, ``limits`` and ``depth`` are
            not read.

    Raises:
        CannotSlice: With everything that is wrong; nothing was written.
        CheckpointMismatch, CheckpointUnavailable, CorruptCheckpoint,
            UnsafeCheckpoint, FileNotFoundError: The checkpoint cannot be used.
        OSError: The files cannot be written.
    """
    conv_cfg = dict(request.conv_cfg)
    kind = conv_cfg['type']
    if kind not in LAYERS:
        raise CannotSlice([f'--conv-cfg {kind} is not known. It has to be one '
                           f'of {", ".join(LAYERS)}.'])
    cfg = read_original(request)
    conv_cfg.setdefault('plain_channels', _PLAIN_CHANNELS)
    spec = DetectorSpec(ORIGINAL, cfg, None)
    model, notes = with_layers(spec.model, conv_cfg, request.parts)
    detector = built_with(model)
    original = trained(spec.model, request.checkpoint)
    files = files_with(request)
    refuse_overwriting(files, request)
    count = start_from(detector, original)
    if not count:
        raise CannotSlice(['None of the parts has a convolution that would '
                           'be replaced. Name others by --parts.'])
    images = recalibrate(detector, cfg, request.images)
    teachers = {ORIGINAL: Teacher(request.config, request.checkpoint,
                                  request.ap), **request.teachers}
    write_files(files, cfg, model, detector, teachers, _ABOUT.format(kind),
                ['mtpd'])
    return Layered(files, _sizes(original), _sizes(detector), count, images,
                   tuple(notes))


def files_with(request: LayerRequest) -> Files:
    """Where they are written: ``my_lowrank.py`` for half of the rank of
    ``my.py``, ``my_lowrank_r25.py`` for a quarter, ``my_binary.py``."""
    parts = [_NAMES[request.conv_cfg['type']]]
    if request.conv_cfg.get('scheme', 'channel') != 'channel':
        parts.append(request.conv_cfg['scheme'])
    rank = request.conv_cfg.get('rank', 0.5)
    if rank != 0.5:
        parts.append(f'r{100 * rank:g}'.replace('.', '_'))
    return named_files(request.config, request.folder, '_'.join(parts))


def merge_layers(request: Request) -> Layered:
    """Write a detector with other convolutions as one with plain ones that
    finds the same: ``my_plain.py``, an ordinary mmdet config, and
    ``my_plain.pth``.

    Args:
        request: Its config, checkpoint and folder; the rest is not read, but
            for ``overwrite``.

    Raises:
        CannotSlice: No plain convolution does the same, or there is nothing
            to merge.
        CheckpointMismatch, CheckpointUnavailable, CorruptCheckpoint,
            UnsafeCheckpoint, FileNotFoundError: The checkpoint cannot be used.
        OSError: The files cannot be written.
    """
    named = named_files(request.config, request.folder, 'plain')
    config, weights = named.config, named.config.removesuffix('py') + 'pth'
    cfg, problems = read_detector(request)
    if problems:
        raise CannotSlice(problems)
    spec = DetectorSpec(ORIGINAL, cfg, None)
    model, parts = without_layers(spec.model)
    if not parts:
        raise CannotSlice([f'{request.config} has no conv_cfg of the types '
                           f'{", ".join(LAYERS)}, so there is nothing to '
                           'merge.'])
    layered = trained(spec.model, request.checkpoint)
    refuse_overwriting([config, weights], request)
    detector = built_with(model)
    count = merge_into(detector, layered)
    needs_mtpd = any(type(module).__module__.startswith('mtpd.')
                     for module in detector.modules())
    text = _ordinary_config(cfg, model, weights, needs_mtpd)
    write_together({config: text.encode(), weights: saved(detector)})
    return Layered((config, weights), _sizes(layered), _sizes(detector), count)


def _ordinary_config(cfg: Config, model: Mapping[str, Any], weights: str,
                     needs_mtpd: bool) -> str:
    """The whole config with another model, without importing mtpd for layers
    that it no longer has."""
    content = dict(cfg._cfg_dict.items())
    imports = imported_modules(cfg)
    if not needs_mtpd and 'mtpd' in imports:
        imports.remove('mtpd')
        whole = content.pop('custom_imports')
        if imports:
            content['custom_imports'] = {**whole, 'imports': imports}
    content['model'] = dict(model)
    content.pop('load_from', None)
    if content.get('resume'):  # as a resumed run dumps it
        content['resume'] = False
    base = os.path.basename(cfg.filename)
    return f'# {base} with plain convolutions that do the same.\n' \
        + pretty_text(content) + load_from(weights)


def _sizes(detector: Any) -> tuple[float, float]:
    return parameters(detector), megabytes(detector)
