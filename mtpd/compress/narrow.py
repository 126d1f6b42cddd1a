"""The smaller model of a detector, as an ordinary mmdet config."""
import copy
import inspect
import math
from typing import Any, Callable, Iterator, NamedTuple

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mtpd.config_types import dict_of, type_name
from mtpd.randomness import isolate_rng

from .errors import CannotSlice, WidthUnavailable
from .first_weights import without_first_weights

NECKS = ('FPN', 'PAFPN')
DENSE_HEADS = ('RetinaHead', 'FreeAnchorRetinaHead', 'FSAFHead',
               'PISARetinaHead', 'FCOSHead', 'GFLHead', 'ATSSHead', 'PAAHead',
               'RPNHead')
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
    scale = _Scale(width)
    keeps_backbone = _narrow_backbone(model, scale)
    if without_first_weights(model) and keeps_backbone:
        _unfreeze(model.backbone, scale)
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


_WHOLE = 'Widths are rounded to whole channels.'


class _Scale:
    """Scales one setting after the other, and notes what was rounded."""

    def __init__(self, width: float) -> None:
        self.width = width
        self.notes: list[str] = []

    def __call__(self, part: ConfigDict, key: str, field: str) -> int:
        channels = setting(part, key)
        multiple = norm_groups(part)
        exact = channels * self.width
        count = min(channels, max(1, round(exact / multiple)) * multiple)
        if count != exact and multiple > 1:
            self.notes.append(
                f'{field}.{key} is {count}, a multiple of the {multiple} '
                f'groups of its GroupNorm, and not {exact:g}.')
        elif count != exact and _WHOLE not in self.notes:
            self.notes.append(_WHOLE)
        return count


# ------------------------------------------------------------------- backbones


_MULTIPLIED = 'mobilenet_v'
"""Models of torchvision that have a width_mult."""
_UNFROZEN = 'model.backbone.frozen_stages is -1: a slice of a frozen stage ' \
    'has to be trained.'


def _narrow_resnet(backbone: ConfigDict, scale: _Scale) -> None:
    field = 'model.backbone'
    changes = {'base_channels': scale(backbone, 'base_channels', field)}
    if backbone.get('stem_channels'):
        changes['stem_channels'] = scale(backbone, 'stem_channels', field)
    _unfreeze(backbone, scale)
    backbone.update(changes)


def _unfreeze(backbone: ConfigDict, scale: _Scale) -> None:
    if setting(backbone, 'frozen_stages') not in (None, -1):
        backbone['frozen_stages'] = -1
        scale.notes.append(_UNFROZEN)


def _narrow_resnext(backbone: ConfigDict, scale: _Scale) -> None:
    whole = [setting(backbone, key) for key in ('base_channels', 'base_width')]
    _narrow_resnet(backbone, scale)
    if setting(backbone, 'groups') == 1:
        return
    # The groups keep their number. On its own, as these channels are no
    # multiple of a norm's groups.
    own = ConfigDict(type=backbone.type, norm_cfg=None, base_width=whole[1])
    width = scale(own, 'base_width', 'model.backbone')
    channels = backbone.base_channels
    if [channels, width] != whole:
        width = min(width, _group_width(*whole))
        step = norm_groups(backbone)
        while channels > step and _group_width(channels, width) < width:
            channels -= step
        if channels < backbone.base_channels and _WHOLE not in scale.notes:
            scale.notes.append(_WHOLE)
    backbone.update(base_channels=channels, base_width=width)


def _group_width(base_channels: int, base_width: int) -> int:
    """The channels of a group in the first stage as mmdet computes them, which
    can be one too few: 47 * (3 / 47) is below 3."""
    return math.floor(base_channels * (base_width / base_channels))


def _narrow_by_factor(key: str) -> Callable[[ConfigDict, _Scale], None]:
    """For backbones with a setting that multiplies all widths; they round to
    what they can have."""
    def narrow(backbone: ConfigDict, scale: _Scale) -> None:
        backbone[key] = scale.width * (setting(backbone, key) or 1)
        _unfreeze(backbone, scale)
    return narrow


_BACKBONES: dict[str, Callable[[ConfigDict, _Scale], None]] = {
    'ResNet': _narrow_resnet, 'ResNetV1d': _narrow_resnet,
    'ResNeXt': _narrow_resnext,
    'MobileNetV2': _narrow_by_factor('widen_factor'),
    'TorchvisionBackbone': _narrow_by_factor('width_mult')}


def _narrow_backbone(model: ConfigDict, scale: _Scale) -> bool:
    """Whether the backbone is kept as it is."""
    backbone = model.backbone
    kind = type_name(backbone.type)
    reasons = []
    if kind not in _BACKBONES or not backbone.get(
            'model_name', _MULTIPLIED).startswith(_MULTIPLIED):
        reasons.append(f'no setting of {kind} says the widths of all its '
                       'layers')
    reasons += _unusual_layers(backbone)
    if reasons:
        scale.notes.append(
            f'model.backbone keeps its width ({reasons[0]}); only neck and '
            'heads are smaller.')
        return True
    _BACKBONES[kind](backbone, scale)
    backbone.init_cfg = None  # the weights are those that were sliced
    model.neck.in_channels = map_channels(backbone)
    return False


def map_channels(backbone: ConfigDict) -> list[int]:
    """The channels of a backbone's maps, from a dry run of its config.

    Raises:
        WidthUnavailable: Its config builds none.
    """
    try:
        with isolate_rng(0), torch.no_grad():
            module = MODELS.build(copy.deepcopy(backbone))
            module.eval()  # on its own: eval() of mmdet's ResNet returns None
            return [one.shape[1] for one in module(torch.zeros(1, 3, 64, 64))]
    except Exception as error:  # whatever a backbone may raise
        raise WidthUnavailable([
            'With this width model.backbone cannot be built '
            f'({type(error).__name__}: {error}). Choose another width.']) \
            from error


# -------------------------------------------------------------- neck and heads


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
    for key in ('in_channels', 'in_chans'):  # the second is timm's
        channels = dict_of(model, 'backbone').get(key, 3)
        if channels != 3:
            problems.append(f'model.backbone.{key} is {channels}. Only '
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
            for reason in _unusual_layers(part)]


def _unusual_layers(part: ConfigDict) -> list[str]:
    """Settings of a part that bring layers which cannot be sliced."""
    reasons = []
    conv = type_name((setting(part, 'conv_cfg') or {}).get('type'))
    if conv not in ('', 'Conv', 'Conv2d'):
        reasons.append(f'its convolutions are of the type {conv}')
    for key in ('dcn', 'plugins', 'dcn_on_last_conv'):
        if setting(part, key):
            reasons.append(f'its setting {key} brings layers that the trace '
                           'of channels cannot follow')
    upsample = dict_of(part, 'upsample_cfg').get('type')
    if upsample not in (None, 'nearest', 'bilinear', 'deconv'):
        reasons.append(f'its upsampling is of the type {upsample}')
    return reasons


def setting(part: ConfigDict, key: str) -> Any:
    """A setting of a part as its config has it, or else its class's default;
    None where it has neither."""
    if key in part:
        return part[key]
    if type_name(part.type) not in MODELS:
        return None
    for parent in inspect.getmro(MODELS.get(part.type)):
        init = parent.__init__  # type: ignore[misc]
        parameter = inspect.signature(init).parameters.get(key)
        if parameter is not None:
            return None if parameter.default is parameter.empty \
                else parameter.default
    return None


def norm_groups(part: ConfigDict) -> int:
    """The number of groups of a part's GroupNorm; 1 without one."""
    norm = setting(part, 'norm_cfg') or {}
    return norm.get('num_groups', 1) if norm.get('type') == 'GN' else 1
