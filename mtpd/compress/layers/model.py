"""The model of a detector with other convolutions, as its config has it."""
import copy
import inspect
import re
from typing import Any, Iterable, Iterator, Mapping, Sequence

from mmdet.models.backbones import CSPDarknet
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mtpd.compress.errors import CannotSlice
from mtpd.compress.first_weights import without_first_weights
from mtpd.compress.narrow import heads_of
from mtpd.config_types import dict_of, type_name
from mtpd.distill.detector import build_detector
from mtpd.randomness import isolate_rng

from . import BinaryWeightConv2d, LowRankConv2d, XNORConv2d

LAYERS = {layer.__name__: layer
          for layer in (LowRankConv2d, BinaryWeightConv2d, XNORConv2d)}
"""The types of this package that ``conv_cfg`` can name."""
_PLAIN = ('', 'Conv', 'Conv2d')


def with_layers(model: ConfigDict, conv_cfg: Mapping[str, Any],
                parts: Sequence[str]) -> tuple[ConfigDict, list[str]]:
    """The same detector with other convolutions in some of its parts.

    The ends of a detector stay plain: what predicts is never built from
    ``conv_cfg`` by mmdet's heads, and ``plain_channels`` keeps the first of a
    backbone; behind YOLOX's Focus four times as many do.

    Args:
        model: The ``model`` part of a detector's config; it is not changed.
        conv_cfg: Type and settings of the convolutions.
        parts: ``backbone``, ``neck``, ``bbox_head`` and so on; empty for all
            that can have them, with signs for the backbone alone.

    Returns:
        The model, and what was changed besides the convolutions, in words.

    Raises:
        CannotSlice: A setting of the convolutions is wrong; a part does not
            exist, has other convolutions already or cannot be built with
            these.
    """
    _check_settings(conv_cfg)
    model = copy.deepcopy(model)
    fields = dict(_parts(model))
    fit, notes = _fit(fields, conv_cfg, parts)
    for field in fit:
        part = fields[field]
        part.conv_cfg = ConfigDict(conv_cfg)
        if _begins_with_focus(part.type):
            part.conv_cfg.plain_channels = 4 * conv_cfg.get('plain_channels',
                                                            0)
    return model, notes + _trained_anew(model, fit)


def _fit(fields: Mapping[str, ConfigDict], conv_cfg: Mapping[str, Any],
         parts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The fields of the parts that get other convolutions, and notes of those
    that are kept because they cannot have them."""
    chosen, problems = _chosen(fields, parts)
    if not parts and conv_cfg['type'] != LowRankConv2d.__name__:
        chosen = ['backbone']
    unfit = {field: reason for field in chosen if (
        reason := _unfit(fields[field], conv_cfg)) is not None}
    fit = [field for field in chosen if field not in unfit]
    if parts or not fit:  # otherwise only those that can
        problems += _refusals(unfit, has_others=len(unfit) < len(fields))
    if problems:
        raise CannotSlice(problems)
    return fit, [f'model.{field} keeps its convolutions: {reason}.'
                 for field, reason in unfit.items()]


def _refusals(unfit: Mapping[str, str], has_others: bool) -> list[str]:
    """What is wrong with the parts that cannot have other convolutions.

    Args:
        unfit: Field -> reason.
        has_others: Whether the model has parts besides these.
    """
    cure = ' Name other parts by --parts.' if has_others else ''
    return [f'model.{field} cannot have these convolutions: {reason}.{cure}'
            for field, reason in unfit.items()]


def _check_settings(conv_cfg: Mapping[str, Any]) -> None:
    settings = dict(conv_cfg)
    layer: Any = LAYERS[settings.pop('type')]
    try:
        layer(1, 1, 1, **settings)
    except ValueError as error:
        raise CannotSlice([str(error)]) from error


def _begins_with_focus(kind: Any) -> bool:
    """Whether the first convolution of a backbone sees four pixels' channels
    as those of one."""
    module = MODELS.get(kind) if isinstance(kind, str) else kind
    return inspect.isclass(module) and issubclass(module, CSPDarknet)


def _chosen(fields: Iterable[str], parts: Sequence[str]
            ) -> tuple[list[str], list[str]]:
    """The fields of the parts that are named, all if none is; and what is
    wrong with the names.

    ``bbox_head`` names ``roi_head.bbox_head[0]``, too.
    """
    fields = list(fields)
    if not parts:
        return fields, []
    chosen: list[str] = []
    problems = []
    for name in parts:
        field_of = re.compile(rf'(.*\.)?{re.escape(name)}(\[\d+\])?')
        found = [field for field in fields if field_of.fullmatch(field)]
        if not found:
            problems.append(f'--parts: the model has no {name}; its parts are '
                            f'{", ".join(fields)}.')
        chosen += found
    return chosen, problems


def _trained_anew(model: ConfigDict, changed: Sequence[str]) -> list[str]:
    """Remove what loads or freezes weights of plain convolutions."""
    backbone = copy.deepcopy(model.backbone)
    without_first_weights(model)
    if 'backbone' not in changed:
        model.backbone = backbone
        return []
    model.backbone.init_cfg = None
    if model.backbone.get('frozen_stages', -1) == -1:
        return []
    model.backbone.frozen_stages = -1
    return ['model.backbone.frozen_stages is -1: other convolutions have to '
            'be trained.']


def _parts(model: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """The parts of a model by the field below ``model``."""
    yield 'backbone', model.backbone
    necks = model.get('neck')
    if isinstance(necks, (list, tuple)):
        for i, neck in enumerate(necks):
            yield f'neck[{i}]', neck
    elif necks:
        yield 'neck', necks
    for field, head in heads_of(model):
        if not field.endswith('_extractor'):
            yield field.removeprefix('model.'), head


def _unfit(part: ConfigDict, conv_cfg: Mapping[str, Any]) -> str | None:
    """Why a part cannot have other convolutions; None if it can."""
    present = type_name(dict_of(part, 'conv_cfg').get('type'))
    if present not in _PLAIN:
        return f'it has those of the type {present} already, whose weights ' \
            'are not those of plain ones'
    if not _takes_conv_cfg(part.type):
        return f'{type_name(part.type)} takes no conv_cfg, by which mmdet ' \
            'is told of other ones'
    reason = _build_error({**part, 'conv_cfg': ConfigDict(conv_cfg)})
    if reason is None or _build_error(part) is not None:
        return None  # it can, or it needs what the whole model gives it
    # What follows is the cure in a config.
    return reason.partition('. ')[0]


def _build_error(part: Mapping[str, Any]) -> str | None:
    """Why a part cannot be built, in the words of its innermost error."""
    try:
        with isolate_rng(0):
            MODELS.build(ConfigDict(copy.deepcopy(part)))
    except Exception as error:  # whatever a part of mmdet may raise
        return str(_innermost(error))
    return None


def _innermost(error: BaseException) -> BaseException:
    while error.__context__ is not None:  # registries add one each
        error = error.__context__
    return error


def _takes_conv_cfg(kind: Any) -> bool:
    module = MODELS.get(kind) if isinstance(kind, str) else kind
    for parent in inspect.getmro(module) if module else ():
        init = parent.__init__  # type: ignore[misc]
        if 'conv_cfg' in inspect.signature(init).parameters:
            return True
    return False


def without_layers(model: ConfigDict) -> tuple[ConfigDict, int]:
    """The same detector with ordinary convolutions.

    Args:
        model: The ``model`` part of a config; it is not changed.

    Returns:
        The model, and how many of its parts were changed.

    Raises:
        CannotSlice: A part takes the sign of its inputs, which no ordinary
            convolution does.
    """
    model = copy.deepcopy(model)
    count = 0
    problems = []
    for field, part in _parts(model):
        kind = type_name(dict_of(part, 'conv_cfg').get('type'))
        if kind == XNORConv2d.__name__:
            problems.append(f'model.{field} has convolutions of the type '
                            f'{kind}, which take the sign of their input. No '
                            'plain convolution does the same; use the '
                            'detector as it is.')
        elif kind in LAYERS:
            part.conv_cfg = None
            count += 1
    if problems:
        raise CannotSlice(problems)
    return model, count


def built_with(model: ConfigDict) -> BaseDetector:
    """A detector with any weights.

    Raises:
        CannotSlice: Its config builds none.
    """
    try:
        with isolate_rng(0):
            return build_detector(model)
    except Exception as error:  # whatever a part of mmdet may raise
        raise CannotSlice(['The model cannot be built with these '
                           f'convolutions: {_innermost(error)}']) from error
