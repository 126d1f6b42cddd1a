"""Detectors as `mtpd` sees them: strictly loaded, read at the neck."""
import copy
from typing import Any, Mapping

from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from torch import nn

from mtpd.compat.checkpoints import fetch_checkpoint, read_checkpoint
from mtpd.compat.state_dicts import AmbiguousWeights, find_weights

from .pyramid import describe_pyramid, pyramid_channels


PARTLY = " A student's backbone, or one of other classes, may start from " \
    "model.init_cfg=dict(type='Pretrained', checkpoint=...) with " \
    'checkpoint=None here.'
"""What a student can do that is to get only some of a file's weights."""


class CheckpointMismatch(ValueError):
    """A checkpoint's weights are not those of the model that gets them."""


def build_detector(model: Mapping[str, Any],
                   checkpoint: str | None = None,
                   field: str = 'checkpoint') -> BaseDetector:
    """A detector from its mmdet config, with exactly a checkpoint's weights.

    Args:
        model: The ``model`` part of an mmdet config.
        checkpoint: File or URL; None leaves the weights as constructed.
        field: The config field that names the checkpoint, for messages.

    Raises:
        CheckpointMismatch: A key is missing, unexpected or of another shape.
        TypeError: The config builds something that is not a detector with
            maps between backbone and head.
    """
    # DETR and its kind write into the config that they are built from.
    detector = MODELS.build(ConfigDict(copy.deepcopy(model)))
    if not isinstance(detector, BaseDetector):
        raise TypeError(
            f'{field}: the config builds a {type(detector).__name__}, not an '
            'mmdet detector. Name the config of a detector.')
    if not detector.with_neck:
        raise TypeError(f'{field}: {type(detector).__name__} has no neck, and '
                        "it is the neck's maps that are matched. "
                        + neck_cure(detector, field))
    if checkpoint is not None:
        load_weights(detector, checkpoint, field)
    return detector


def neck_cure(detector: BaseDetector, field: str) -> str:
    """What to do about a detector without a neck.

    Its head may be made for a pyramid, or for the backbone's maps alone, as
    Mask2Former's; only its author knows. A teacher's checkpoint would not have
    the weights of a new neck.

    Args:
        detector: Built.
        field: Where its config or weights are set.
    """
    if field.startswith('mtpd.teachers.'):
        return 'Choose a teacher that has one.'
    try:
        channels = pyramid_channels(detector)
    except ValueError:  # hourglasses give several maps of one stride
        return 'Choose a detector that has one.'
    return (f'Its backbone gives {describe_pyramid(channels)}. Set a neck on '
            "them, such as model.neck=dict(type='FPN', in_channels=["
            + ', '.join(map(str, channels.values()))
            + '], out_channels=256, num_outs=5), with a head for its maps, or '
            'choose a detector that has one.')


def load_weights(detector: nn.Module, checkpoint: str, field: str) -> None:
    """Load a checkpoint's weights strictly and log the matches.

    Args:
        detector: Receives the weights.
        checkpoint: File or URL; :mod:`mtpd.compat.state_dicts` lists the
            formats.
        field: The config field that names it, for messages.

    Raises:
        CheckpointMismatch: Some tensor of either side has no counterpart of
            its shape on the other, or the file holds several detectors
            that fit equally.
    """
    content = read_checkpoint(fetch_checkpoint(checkpoint))
    own = detector.state_dict()
    try:
        weights, notes, _ = find_weights(content, own)
    except AmbiguousWeights as error:
        raise CheckpointMismatch(f'{field}: {checkpoint} {error}') from error
    matched, missing, reshaped = 0, [], []
    for key, value in own.items():
        if key not in weights:
            # torch adds these to checkpoints from before they existed.
            if not key.endswith('num_batches_tracked'):
                missing.append(key)
        elif weights[key].shape == value.shape:
            matched += 1
        else:
            reshaped.append(f'{key}: {tuple(weights[key].shape)} in the file, '
                            f'{tuple(value.shape)} in the model')
    unexpected = [key for key in weights if key not in own]
    # Only torch decides, because modules may rename old keys while they load
    # (mmdet's ResNet heads do); the comparison above is for the message.
    try:
        detector.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        def some(kind: str, names: list[str]) -> str:
            if not names:
                return ''
            more = f', and {len(names) - 2} more' if len(names) > 2 else ''
            return f'\n  {kind}: ' + ', '.join(names[:2]) + more
        raise CheckpointMismatch(
            f'{field}: {checkpoint} is not a checkpoint of this '
            f'{type(detector).__name__}: {matched} of {len(own)} tensors '
            'match.' + some('missing in the file', missing) +
            some('not in the model', unexpected) +
            some('of another shape', reshaped) +
            '\nSet the config that the checkpoint was trained with, or the '
            'checkpoint that belongs to the config.'
            + (PARTLY if field == 'mtpd.student.checkpoint' else '')
        ) from error
    # As mmdet's init_detector does; no module and no tensor.
    detector.dataset_meta = dataset_meta_of(  # type: ignore[assignment]
        content)
    print_log(f'{field}: {matched} of {len(own)} tensors match {checkpoint}'
              + ''.join(f'; {note}' for note in notes), logger='current')


def dataset_meta_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint holds of its data set, such as ``classes``; empty if
    nothing.

    Args:
        checkpoint: Its content, of mmdet 3 or 2.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping):
        return {}
    dataset_meta = dict(meta.get('dataset_meta') or {})
    for holder in (dataset_meta, meta):  # in capitals in mmdet 2
        if holder.get('CLASSES'):
            dataset_meta.setdefault('classes', holder['CLASSES'])
    # None where they were not known, which says less than a config does.
    return {key: value for key, value in dataset_meta.items()
            if value or key not in ('classes', 'CLASSES')}
