"""The smaller model of a detector, as an ordinary mmdet config."""
import copy
from typing import Any, Iterator, NamedTuple

from mmengine.config import ConfigDict

from mtpd.config_types import dict_of, type_name
from mtpd.plan.predictions import input_channels

from .errors import CannotSlice
from .first_weights import without_first_weights
from .narrow_backbone import (Scale, narrow_backbone, setting, unfreeze,
                              unusual_layers)

NECKS = ('FPN', 'PAFPN', 'CSPNeXtPAFPN', 'YOLOXPAFPN')
DENSE_HEADS = ('RetinaHead', 'FreeAnchorRetinaHead', 'FSAFHead',
               'PISARetinaHead', 'FCOSHead', 'GFLHead', 'ATSSHead', 'PAAHead',
               'RPNHead', 'RTMDetHead', 'RTMDetSepBNHead', 'YOLOXHead')
ROI_HEADS = ('StandardRoIHead', 'DynamicRoIHead', 'PISARoIHead',
             'CascadeRoIHead')
_EXTRACTORS = ('SingleRoIExtractor',)
_ROI_PARTS = {
    'bbox_roi_extractor': _EXTRACTORS, 'mask_roi_extractor': _EXTRACTORS,
    'bbox_head': ('ConvFCBBoxHead', 'Shared2FCBBoxHead',
                  'Shared4Conv1FCBBoxHead'),
    'mask_head': ('FCNMaskHead',)}

_HIDDEN = ('feat_channels', 'conv_out_channels', 'fc_out_channels')
"""The settings of heads that are widths of their own."""
_KNOWN_PARTS = {'type', '_scope_', 'backbone', 'neck', 'bbox_head', 'rpn_head',
                'roi_head', 'train_cfg', 'test_cfg', 'data_preprocessor',
                'init_cfg'}


class Narrowed(NamedTuple):
    """A smaller model.

    Attributes:
        model: The ``model`` part of its config.
        notes: What is not exactly as wide as was asked for, or is changed
            besides widths, in words.
        keeps_backbone: Whether the backbone is as wide as it was.
    """
    model: ConfigDict
    notes: tuple[str, ...]
    keeps_backbone: bool


def narrowed(model: ConfigDict, width: float) -> Narrowed:
    """The same detector with a share of the channels.

    Backbone, neck and heads all get this share; what the heads predict and the
    number of layers stay. A backbone whose widths no setting of its config
    says is kept as it is. No part loads weights any more: those of the whole
    width do not fit.

    Args:
        model: The ``model`` part of a detector's config; it is not changed.
        width: Above 0 and up to 1.

    Raises:
        WidthUnavailable: The backbone cannot have this width.
        CannotSlice: With every part that cannot be made smaller.
    """
    if not 0 < width <= 1:
        raise CannotSlice([f'The width is {width:g}; it has to be above 0 and '
                           'at most 1, such as 0.5 for half of the channels.'])
    problems = unsupported_parts(model)
    if problems:
        raise CannotSlice(problems)
    model = copy.deepcopy(model)
    scale = Scale(width)
    keeps_backbone = narrow_backbone(model, scale)
    if without_first_weights(model) and keeps_backbone:
        unfreeze(model.backbone, scale)
    wide = model.neck.out_channels
    model.neck.out_channels = scale(model.neck, 'out_channels', 'model.neck')
    for field, head in heads_of(model):
        for key in _HIDDEN:
            if isinstance(setting(head, key), int):
                head[key] = scale(head, key, field)
        for key in ('in_channels', 'out_channels'):
            if setting(head, key) == wide:
                head[key] = model.neck.out_channels
    return Narrowed(model, tuple(scale.notes), keeps_backbone)


def heads_of(model: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """Field and config of everything behind the neck."""
    for key in ('bbox_head', 'rpn_head'):
        if model.get(key):
            yield f'model.{key}', model[key]
    roi_head = dict_of(model, 'roi_head')
    for key in _ROI_PARTS:
        for place, part in _places(roi_head.get(key)):
            yield f'model.roi_head.{key}{place}', part


def _places(value: Any) -> Iterator[tuple[str, Any]]:
    """A part, or each of a list of parts with its place in brackets."""
    if isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield f'[{i}]', part
    elif value:
        yield '', value


def unsupported_parts(model: ConfigDict) -> list[str]:
    """Why a model cannot be made smaller, part by part."""
    problems = []
    strange = [key for key, part in model.items()
               if key not in _KNOWN_PARTS and part]
    if strange:
        problems.append(
            f'model is a {model.type} with {", ".join(strange)}. Only '
            'detectors of one or two stages that consist of backbone, neck '
            'and heads can be sliced.')
    elif not model.get('bbox_head') and not model.get('rpn_head'):
        problems.append(f'model is a {model.type} without bbox_head or '
                        'rpn_head; one of them is needed.')
    channels = input_channels(model)
    if channels != 3:
        problems.append(f'model.backbone takes {channels} channels. Only '
                        'detectors of colour images (3 channels) can be '
                        'sliced.')
    problems += _unsupported('model.neck', model.get('neck'), NECKS)
    if model.get('roi_head'):
        problems += _unsupported('model.roi_head', model.roi_head, ROI_HEADS)
        problems += _other_roi_parts(model.roi_head)
    for field, part in heads_of(model):
        problems += _unsupported(field, part, _kinds_of(field))
    return problems


def _other_roi_parts(roi_head: ConfigDict) -> list[str]:
    """The parts of a RoI head besides boxes and masks."""
    problems = []
    for key, part in roi_head.items():
        if part and key.endswith(('_head', '_extractor')) \
                and key not in _ROI_PARTS:
            problems.append(f'model.roi_head.{key} cannot be sliced. Choose a '
                            'detector without it.')
    return problems


def _kinds_of(field: str) -> tuple[str, ...]:
    """What a part behind the neck may be, by its field."""
    _, _, name = field.partition('model.roi_head.')
    return _ROI_PARTS.get(name.partition('[')[0], DENSE_HEADS)


def _unsupported(field: str, part: Any, kinds: tuple[str, ...]) -> list[str]:
    known = ', '.join(kinds)
    if not isinstance(part, ConfigDict):
        what = f'a list of {len(part)} parts' if part else 'missing'
        return [f'{field} is {what}; one of {known} can be sliced.']
    kind = type_name(part.type)
    if kind not in kinds:
        return [f'{field} is a {kind}, which cannot be sliced. It has to be '
                f'one of {known}.']
    return [f'{field} cannot be sliced: {reason}.'
            for reason in unusual_layers(part)]
