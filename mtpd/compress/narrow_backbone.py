"""The widths of a backbone in its config, and the settings that say them."""
import copy
import inspect
import math
from typing import Any, Callable

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mtpd.config_types import dict_of, type_name
from mtpd.randomness import isolate_rng

from .errors import WidthUnavailable

_WHOLE = 'Widths are rounded to whole channels.'


class Scale:
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


_MULTIPLIED = 'mobilenet_v'
"""Models of torchvision that have a width_mult."""
_UNFROZEN = 'model.backbone.frozen_stages is -1: a slice of a frozen stage ' \
    'has to be trained.'


def _narrow_resnet(backbone: ConfigDict, scale: Scale) -> None:
    field = 'model.backbone'
    changes = {'base_channels': scale(backbone, 'base_channels', field)}
    if backbone.get('stem_channels'):
        changes['stem_channels'] = scale(backbone, 'stem_channels', field)
    unfreeze(backbone, scale)
    backbone.update(changes)


def unfreeze(backbone: ConfigDict, scale: Scale) -> None:
    if setting(backbone, 'frozen_stages') not in (None, -1):
        backbone['frozen_stages'] = -1
        scale.notes.append(_UNFROZEN)


def _narrow_resnext(backbone: ConfigDict, scale: Scale) -> None:
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


def _narrow_by_factor(key: str) -> Callable[[ConfigDict, Scale], None]:
    """For backbones with a setting that multiplies all widths; they round to
    what they can have."""
    def narrow(backbone: ConfigDict, scale: Scale) -> None:
        backbone[key] = scale.width * (setting(backbone, key) or 1)
        unfreeze(backbone, scale)
    return narrow


_BACKBONES: dict[str, Callable[[ConfigDict, Scale], None]] = {
    'ResNet': _narrow_resnet, 'ResNetV1d': _narrow_resnet,
    'ResNeXt': _narrow_resnext,
    'MobileNetV2': _narrow_by_factor('widen_factor'),
    'CSPNeXt': _narrow_by_factor('widen_factor'),
    'CSPDarknet': _narrow_by_factor('widen_factor'),
    'TorchvisionBackbone': _narrow_by_factor('width_mult')}


def narrow_backbone(model: ConfigDict, scale: Scale) -> bool:
    """Whether the backbone is kept as it is."""
    backbone = model.backbone
    kind = type_name(backbone.type)
    reasons = []
    if kind not in _BACKBONES or not backbone.get(
            'model_name', _MULTIPLIED).startswith(_MULTIPLIED):
        reasons.append(f'no setting of {kind} says the widths of all its '
                       'layers')
    reasons += unusual_layers(backbone)
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


def unusual_layers(part: ConfigDict) -> list[str]:
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
