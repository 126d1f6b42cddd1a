"""mmdet's detectors, thin enough to train a step in a tenth of a second."""
import inspect
from typing import Any, Callable, Iterator

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

# A neck's channels go by these names in necks and heads, and DETR's
# transformer adds its own.
_WIDTHS = ('in_channels', 'out_channels', 'feat_channels', 'rfp_inplanes',
           'point_feat_channels', 'conv_out_channels', 'embed_dims')

_SMALL = {'fc_out_channels': 32, 'feedforward_channels': 32,
          'stacked_convs': 1, 'num_convs': 1, 'num_shared_convs': 1,
          'num_csp_blocks': 1, 'num_queries': 20, 'num_layers': 1}


def shrunk(model: ConfigDict, classes: int = 5,
           width: int = 16) -> ConfigDict:
    """A detector of the same kind, with few layers and channels.

    Backbone, neck and heads keep their types, strides and number of levels,
    group convolutions their groups, deformable ones their offsets; the
    ``data_preprocessor`` stays as it is. Everything is trained
    (``frozen_stages=-1``) and nothing is downloaded (``init_cfg=None``).

    Args:
        model: The ``model`` part of an mmdet config; it is not changed.
        classes: Of all heads.
        width: Channels of the neck's maps, a multiple of 8.

    Raises:
        ValueError: A backbone that it does not know how to shrink, or a width
            that is no multiple of 8.
    """
    if width % 8:
        raise ValueError(f'width is {width}; group norms of 4 groups, heads '
                         'of attention and the four dilations of DetectoRS '
                         'need a multiple of 8.')
    model = ConfigDict(model.to_dict())
    preprocessor = model.pop('data_preprocessor', None)
    for part in _parts(model):
        _from_nothing(part)
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


def _from_nothing(part: ConfigDict) -> None:
    for key, value in (('init_cfg', None), ('pretrained', None),
                       ('weights', None), ('frozen_stages', -1)):
        if key in part:
            part[key] = value


# ------------------------------------------------------------------- backbones


def _resnet(backbone: ConfigDict) -> None:
    # Only bottlenecks take group and deformable convolutions, and mmdet's
    # shallowest network of them has 50 layers.
    bottlenecks = backbone.depth >= 50
    backbone.depth = 50 if bottlenecks else 18
    backbone.base_channels = 4 if bottlenecks else 8
    # By what base_channels shrink, groups shrink; a group keeps its width.
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


def _by_name(backbone: ConfigDict) -> None:
    """The test chose a small one."""


_BACKBONES: dict[str, Callable[[ConfigDict], None]] = {
    **dict.fromkeys(('ResNet', 'ResNetV1d', 'ResNeXt', 'DetectoRS_ResNet',
                     'DetectoRS_ResNeXt'), _resnet),
    'Res2Net': _res2net, 'SwinTransformer': _swin,
    'PyramidVisionTransformer': _pvt, 'PyramidVisionTransformerV2': _pvt,
    'CSPNeXt': _csp, 'CSPDarknet': _csp, 'MobileNetV2': _mobilenet,
    'TimmBackbone': _by_name, 'TorchvisionBackbone': _by_name}


def _thin_backbone(backbone: ConfigDict) -> None:
    if backbone.type not in _BACKBONES:
        raise ValueError(f'{backbone.type} is not known to tests/shrink.py, '
                         f'which knows {", ".join(_BACKBONES)}. Add it.')
    _BACKBONES[backbone.type](backbone)


def _channels(backbone: ConfigDict) -> list[int]:
    """Of each of its maps, seen in a dry pass."""
    built = MODELS.build(backbone)
    built.eval()  # mmdet's ResNet returns None
    with torch.no_grad():
        maps = built(torch.zeros(1, 3, 128, 128))
    return [m.shape[1] for m in maps]


# -------------------------------------------------------------- neck and heads


def _thin_norms(value: Any) -> None:
    for part in _parts(value):
        if part.get('type') == 'GN':
            part.num_groups = 4


def _write_out_norm(head: ConfigDict) -> None:
    # ATSS, GFL, FCOS and more have a norm of 32 groups as their own default.
    for kind in inspect.getmro(MODELS.get(head.type)):
        own = inspect.signature(kind.__init__).parameters.get('norm_cfg')
        if own is not None:
            if isinstance(own.default, dict):
                head.setdefault('norm_cfg', ConfigDict(own.default))
            return


def _thin_neck_and_heads(model: ConfigDict, classes: int, width: int) -> None:
    first = model.neck[0] if isinstance(model.neck, list) else model.neck
    channels = _channels(model.backbone)
    # DetectoRS hands the image itself on, before its maps.
    channels = channels[-len(first.in_channels):]
    wide = first.out_channels
    if 'bbox_head' in model:
        _write_out_norm(model.bbox_head)
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
