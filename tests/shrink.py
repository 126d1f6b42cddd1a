"""mmdet's detectors, thin enough to train a step in a tenth of a second."""
import inspect
from typing import Any, Callable, Iterator

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

# Names of the neck's channels in necks, heads and DETR's transformer.
_WIDTHS = ('in_channels', 'out_channels', 'feat_channels', 'rfp_inplanes',
           'point_feat_channels', 'conv_out_channels', 'embed_dims')

_SMALL = {'fc_out_channels': 32, 'feedforward_channels': 32,
          'stacked_convs': 1, 'num_convs': 1, 'num_shared_convs': 1,
          'num_csp_blocks': 1, 'num_queries': 20, 'num_layers': 1}


def shrunk(model: ConfigDict, classes: int = 5,
           width: int = 16) -> ConfigDict:
    """A detector of the same kind, with few layers and channels.

    Backbone, neck and heads keep their types, strides and number of levels;
    group and deformable convolutions and the ``data_preprocessor`` are kept.
    Everything is trained (``frozen_stages=-1``) and nothing is downloaded
    (``init_cfg=None``).

    Args:
        model: The ``model`` part of an mmdet config; it is not changed.
        classes: Of all heads.
        width: Channels of the neck's maps, a multiple of 8.

    Raises:
        ValueError: An unknown backbone, or a width that is no multiple of 8.
    """
    if width % 8:
        raise ValueError(f'width is {width}, but group norms of 4 groups, '
                         'heads of attention and the four dilations of '
                         'DetectoRS need a multiple of 8.')
    model = ConfigDict(model.to_dict())
    preprocessor = model.pop('data_preprocessor', None)
    for part in _parts(model):
        _use_random_weights(part)
    _thin_backbone(model.backbone)
    if 'neck' in model:
        _thin_neck_and_heads(model, classes, width)
    if preprocessor is not None:
        model.data_preprocessor = preprocessor
    return model


def _parts(value: Any) -> Iterator[ConfigDict]:
    """Every dict inside, the outer one first."""
    if isinstance(value, dict):
        yield value
        value = value.values()
    if not isinstance(value, (str, bytes)) and hasattr(value, '__iter__'):
        for inner in list(value):
            yield from _parts(inner)


def _use_random_weights(part: ConfigDict) -> None:
    for key, value in (('init_cfg', None), ('pretrained', None),
                       ('weights', None), ('frozen_stages', -1)):
        if key in part:
            part[key] = value


# ------------------------------------------------------------------- backbones


def _resnet(backbone: ConfigDict) -> None:
    # Only bottlenecks support group and deformable convolutions, and mmdet's
    # shallowest network with bottlenecks has 50 layers.
    bottlenecks = backbone.depth >= 50
    backbone.depth = 50 if bottlenecks else 18
    backbone.base_channels = 4 if bottlenecks else 8
    # The number of groups shrinks with base_channels; a group keeps its width.
    if 'groups' in backbone:
        backbone.groups = backbone.groups * backbone.base_channels // 64
    _thin_norms(backbone)


def _res2net(backbone: ConfigDict) -> None:
    backbone.update(depth=50, base_channels=4, base_width=2)


def _swin(backbone: ConfigDict) -> None:
    backbone.update(embed_dims=16, depths=[2, 2, 2, 2],
                    num_heads=[1, 2, 4, 8], window_size=4)


def _pvt(backbone: ConfigDict) -> None:
    backbone.update(embed_dims=8, num_layers=[1, 1, 1, 1])


def _csp(backbone: ConfigDict) -> None:
    backbone.update(widen_factor=0.125, deepen_factor=0.167)


def _mobilenet(backbone: ConfigDict) -> None:
    backbone.widen_factor = 0.25


def _keep(backbone: ConfigDict) -> None:
    """A backbone that is chosen by name stays as it is."""


_BACKBONES: dict[str, Callable[[ConfigDict], None]] = {
    **dict.fromkeys(('ResNet', 'ResNetV1d', 'ResNeXt', 'DetectoRS_ResNet',
                     'DetectoRS_ResNeXt'), _resnet),
    'Res2Net': _res2net, 'SwinTransformer': _swin,
    'PyramidVisionTransformer': _pvt, 'PyramidVisionTransformerV2': _pvt,
    'CSPNeXt': _csp, 'CSPDarknet': _csp, 'MobileNetV2': _mobilenet,
    'TimmBackbone': _keep, 'TorchvisionBackbone': _keep}


def _thin_backbone(backbone: ConfigDict) -> None:
    if backbone.type not in _BACKBONES:
        raise ValueError(f'tests/shrink.py knows {", ".join(_BACKBONES)}, but '
                         f'not {backbone.type}. Add it.')
    _BACKBONES[backbone.type](backbone)


def _channels(backbone: ConfigDict) -> list[int]:
    """Channels of each map, from a dry run."""
    module = MODELS.build(backbone)
    module.eval()  # a separate line, as eval() of mmdet's ResNet returns None
    with torch.no_grad():
        maps = module(torch.zeros(1, 3, 128, 128))
    return [m.shape[1] for m in maps]


# -------------------------------------------------------------- neck and heads


def _thin_norms(value: Any) -> None:
    for part in _parts(value):
        if part.get('type') == 'GN':
            part.num_groups = 4


def _set_default_norm(head: ConfigDict) -> None:
    # In ATSS, GFL, FCOS and others, norm_cfg is a norm of 32 groups by
    # default; it has to be in the config to be changed.
    for parent in inspect.getmro(MODELS.get(head.type)):
        norm = inspect.signature(parent.__init__).parameters.get('norm_cfg')
        if norm is not None:
            if isinstance(norm.default, dict):
                head.setdefault('norm_cfg', ConfigDict(norm.default))
            return


def _thin_neck_and_heads(model: ConfigDict, classes: int, width: int) -> None:
    first = model.neck[0] if isinstance(model.neck, list) else model.neck
    channels = _channels(model.backbone)
    # DetectoRS returns the image itself before its maps.
    channels = channels[-len(first.in_channels):]
    wide = first.out_channels
    if 'bbox_head' in model:
        _set_default_norm(model.bbox_head)
    rest = {key: value for key, value in model.items() if key != 'backbone'}
    _thin_norms(rest)
    for part in _parts(rest):
        for key in _WIDTHS:
            if key in part and part[key] == wide:
                part[key] = width if isinstance(wide, int) \
                    else [width] * len(wide)
        for key, value in _SMALL.items():
            if isinstance(part.get(key), int):
                part[key] = value
        if 'num_classes' in part:
            part.num_classes = classes
        if 'num_feats' in part:  # a positional encoding of x and of y
            part.num_feats = width // 2
        if 'aspp_out_channels' in part:
            part.aspp_out_channels = width // len(part.aspp_dilations)
        if str(part.get('type')).startswith('DetectoRS'):
            _resnet(part)
    first.in_channels = channels[::-1] if first.type == 'YOLOV3Neck' \
        else channels
