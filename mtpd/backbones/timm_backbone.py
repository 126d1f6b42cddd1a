"""Any of timm's feature pyramids as a backbone, by its model's name."""
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Sequence

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtpd.distill.detector import CheckpointMismatch
from mtpd.randomness import isolate_rng

from .torchvision_backbone import (PICTURE, check_pyramid, choose_strides,
                                   close_matches, could_not_build,
                                   could_not_run, norms_to_eval, not_fetched)


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """Maps of a timm model: (N, 3, H, W) -> a tuple of (N, C, H', W').

    Models with one stride only (ViT) or with a fixed image size do not
    serve, and say so; channels-last ones are turned around.

    Args:
        model_name: As :func:`timm.create_model` takes it, with or without the
            tag of its weights (``'resnet18.a1_in1k'``).
        strides: Which maps to return; None takes those of 4, 8, 16 and 32
            that the model has (where several have one stride, the last).
        pretrained: Whether :meth:`init_weights` loads timm's weights; a
            detector that is built for a checkpoint fetches nothing.
        norm_eval: Whether batch norms keep their statistics in training.
        init_cfg: As of any mmengine module; pretrained weights come after it.
        options: Passed to timm, such as ``drop_path_rate``, or
            ``pretrained_cfg_overlay=dict(file=...)`` for weights of one's own.

    Attributes:
        strides: Pixels of the input per position, ascending.
        channels: C of each map, in the order of ``strides``.

    Raises:
        ImportError: timm is not installed.
        ValueError: No such model, option or stride, or no pyramid.
    """

    def __init__(self, model_name: str, strides: Sequence[int] | None = None,
                 pretrained: bool = False, norm_eval: bool = False,
                 init_cfg: dict | list | None = None, **options: Any) -> None:
        super().__init__(init_cfg)
        self.model_name = model_name
        self.pretrained = pretrained
        self.norm_eval = norm_eval
        pyramid = look_at(model_name, strides, options)
        self.strides = pyramid.strides
        self.channels = pyramid.channels
        self.options = pyramid.options
        self.model = _create(model_name, self.options)
        self._fused = _fused_norms(self.model)
        for name, parameter in self.model.named_parameters():
            if name in pyramid.unused:
                parameter.requires_grad = False

    def init_weights(self) -> None:
        """mmengine's, then the pretrained weights; a second call changes
        nothing.

        Raises:
            CheckpointMismatch: The pretrained weights leave some as drawn.
            CheckpointUnavailable: They cannot be downloaded.
        """
        first = not self.is_init
        super().init_weights()
        if first and self.pretrained:
            self._load_pretrained()

    def _load_pretrained(self) -> None:
        with isolate_rng(0):
            drawn = _create(self.model_name, self.options)
        try:
            with isolate_rng(0):
                loaded = _create(self.model_name, self.options,
                                 pretrained=True)
        except OSError as error:
            # timm does not say which file it has not found.
            given = self.options.get('pretrained_cfg_overlay', {}).get('file')
            raise not_fetched(
                self.model_name + (f' in {given}' if given else ''),
                'pretrained_cfg_overlay=dict(file=...) to a file of them',
                error) from error
        # For several families timm loads features loosely and reports
        # nothing; a file of another model would leave random weights. Both
        # were drawn alike, so what was loaded differs, but for constants.
        before = dict(drawn.named_parameters())
        lacking = [key for key, value in loaded.named_parameters()
                   if value.dim() > 1 and torch.equal(value, before[key])
                   and value.min() < value.max()]
        if lacking:
            raise CheckpointMismatch(
                f'model.backbone: the pretrained weights of {self.model_name} '
                f'lack {len(lacking)} of its tensors, such as {lacking[0]}. '
                'Correct pretrained_cfg_overlay, or the tag in model_name; '
                'pretrained=False starts from random weights.')
        self.model.load_state_dict(loaded.state_dict())

    def train(self, mode: bool = True) -> 'TimmBackbone':
        """As of any module, but for ``norm_eval``.

        Raises:
            ValueError: torch's own synchronised batch norms took the place of
                timm's, and their activations with them.
        """
        if _fused_norms(self.model) < self._fused:
            raise ValueError(
                f'{self.model_name} has batch norms with an activation '
                "inside, which sync_bn='torch' replaces by batch norms "
                'without. Leave sync_bn out, and set norm_eval=True if '
                'batches are small.')
        super().train(mode)
        if mode and self.norm_eval:
            norms_to_eval(self)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> one map (N, C, H', W') per stride."""
        return tuple(self.model(images))


@dataclass(frozen=True)
class Pyramid:
    """What a model yields.

    Attributes:
        strides: Ascending.
        channels: In the order of ``strides``.
        options: For timm to make exactly these maps.
        unused: Parameters that none of these maps depends on.
    """
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    options: dict[str, Any]
    unused: frozenset[str]


def look_at(model_name: str, wanted: Sequence[int] | None,
            options: dict[str, Any]) -> Pyramid:
    """What a model yields, seen in a dry pass on the meta device.

    Nothing is computed or drawn. What timm says of its model is compared with
    what the model returns.

    Raises:
        ImportError: timm is not installed.
        ValueError: No such model, no pyramid, or no map of a wanted stride.
    """
    _check_name(model_name)
    given = options
    model, maps = _dry_pass(model_name, options)
    if getattr(model, 'output_fmt', 'NCHW') == 'NHWC' \
            and 'feature_cls' not in options:
        # timm's other extractor turns channels-last maps around.
        options = {**options, 'feature_cls': 'getter'}
        model, maps = _dry_pass(model_name, options)
    found = check_pyramid(model_name, [m.shape for m in maps], _ADVICE)
    info: Any = model.feature_info
    said = list(zip(info.reduction(), info.channels(), strict=True))
    seen = [(s, m.shape[1]) for s, m in zip(found, maps, strict=True)]
    if said != seen:
        raise ValueError(
            f'timm announces maps of (stride, channels) {said} for '
            f'{model_name}, but it returns {seen}. {_ADVICE}')
    strides = choose_strides(model_name, found, wanted)
    last = {stride: i for i, stride in enumerate(found)}
    chosen = [last[s] for s in strides]
    unused: list[str] = []
    if chosen != list(range(len(found))):
        options = {**options,
                   'out_indices': [info.out_indices[i] for i in chosen]}
        model, maps = _dry_pass(model_name, options)
    if options != given:
        # Some families keep the stages beyond the last map; a parameter
        # without a gradient stops distributed training. With timm's defaults
        # none was seen (644 models).
        torch.stack([m.sum() for m in maps]).sum().backward()
        unused = [name for name, parameter in model.named_parameters()
                  if parameter.grad is None]
    return Pyramid(strides, tuple(seen[i][1] for i in chosen), options,
                   frozenset(unused))


_ADVICE = "Choose a convolutional model, such as 'resnet50' or " \
    "'mobilenetv3_large_100'. A Swin Transformer takes images of all " \
    "sizes with strict_img_size=False (padded to a multiple of its patch), " \
    "and mmdet has one of its own (type='SwinTransformer')."


def _dry_pass(model_name: str,
              options: dict[str, Any]) -> tuple[nn.Module, list[Tensor]]:
    """The model on the meta device and its maps of a ``PICTURE``."""
    with torch.device('meta'), isolate_rng(0):
        try:
            model = _create(model_name, options).eval()
        except Exception as error:
            raise could_not_build(model_name, 'timm', options, error) \
                from error
        try:
            return model, list(model(torch.zeros(1, 3, *PICTURE)))
        except Exception as error:
            raise could_not_run(model_name, error, _ADVICE) from error


def _create(model_name: str, options: dict[str, Any],
            pretrained: bool = False) -> nn.Module:
    return _timm().create_model(model_name, pretrained=pretrained,
                                features_only=True, **options)


def _fused_norms(model: nn.Module) -> int:
    layers = _timm().layers
    return sum(isinstance(part, layers.BatchNormAct2d)
               for part in model.modules())


def _check_name(model_name: str) -> None:
    timm = _timm()
    # A name with a source ('hf-hub:...') is timm's to resolve.
    if ':' not in model_name and not timm.is_model(model_name):
        matches = close_matches(model_name.split('.')[0], timm.list_models())
        raise ValueError(f'timm has no model {model_name!r}. {matches}')


def _timm() -> ModuleType:
    """timm, which only this backbone needs."""
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            'TimmBackbone needs timm, which cannot be imported '
            f'({error}): pip install "mtpd[timm]"') from error
    return timm
