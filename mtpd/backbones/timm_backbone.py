"""Any of timm's feature pyramids as a backbone, by its model's name."""
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtpd.config_types import dict_of
from mtpd.distill.detector import CheckpointMismatch
from mtpd.randomness import isolate_rng

from .normalisation import Normalisation
from .strides import (DRY_RUN_SIZE, build_error, check_pyramid, choose_strides,
                      dry_run_error, freeze_norm_statistics, suggest_names,
                      weights_error)
from .timm_weights import (compare_with_file, file_without_network,
                           import_timm)
from .weights_files import is_file, local_file


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """Maps of a timm model: (N, 3, H, W) -> a tuple of (N, C, H', W').

    Models with a single stride (ViT) or a fixed image size are refused.

    Args:
        model_name: As :func:`timm.create_model` takes it, with or without the
            tag of its weights (``'resnet18.a1_in1k'``).
        strides: Which maps to return; None takes those of 4, 8, 16 and 32
            that the model has. If several maps have one stride, the last is
            returned.
        pretrained: Whether :meth:`init_weights` loads timm's weights, or the
            file that holds them, under timm's names; its classifier may have
            any number of classes. A detector that is built for a checkpoint
            reads and fetches nothing.
        norm_eval: Whether batch norms keep their statistics in training.
        init_cfg: As for any mmengine module; pretrained weights are loaded
            after it.
        options: Passed to timm, such as ``drop_path_rate``.

    Attributes:
        strides: Pixels of the input per position, ascending.
        channels: C of each map, in the order of ``strides``.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no such model or option, or the model has no such
            stride or no pyramid.
    """

    def __init__(self, model_name: str, strides: Sequence[int] | None = None,
                 pretrained: bool | str = False, norm_eval: bool = False,
                 init_cfg: dict | list | None = None, **options: Any) -> None:
        super().__init__(init_cfg)
        if is_file(pretrained):
            overlay = dict_of(options, 'pretrained_cfg_overlay')
            options['pretrained_cfg_overlay'] = {**overlay, 'file': pretrained}
        self.model_name = model_name
        self.pretrained = bool(pretrained)
        self.norm_eval = norm_eval
        pyramid = find_pyramid(model_name, strides, options)
        self.strides = pyramid.strides
        self.channels = pyramid.channels
        self.options = pyramid.options
        self.model = _create(model_name, self.options)
        self._fused = _fused_norms(self.model)
        for name, parameter in self.model.named_parameters():
            if name in pyramid.unused:
                parameter.requires_grad = False

    def init_weights(self) -> None:
        """Initialise as mmengine does, then load the pretrained weights.

        A second call changes nothing.

        Raises:
            CheckpointMismatch: The pretrained weights leave some tensors at
                their random initialisation.
            CheckpointUnavailable: The weights cannot be downloaded.
        """
        first = not self.is_init
        super().init_weights()
        if first and self.pretrained:
            self._load_pretrained()

    def _load_pretrained(self) -> None:
        with isolate_rng(0):
            initial = _create(self.model_name, self.options)
        options = self._options_with_file(initial)
        try:
            with isolate_rng(0):
                loaded = _create(self.model_name, options, pretrained=True)
        except OSError as error:
            raise weights_error(self.model_name,
                                "pretrained='FILE' with a local file",
                                error) from error
        # For several families timm loads features loosely and reports
        # nothing; a file of another model would leave random weights. Both
        # models were drawn from one seed, so a tensor that is equal in both
        # and not constant was not loaded.
        drawn = dict(initial.named_parameters())
        missing = []
        for key, value in loaded.named_parameters():
            if value.dim() > 1 and torch.equal(value, drawn[key]) \
                    and value.min() < value.max():
                missing.append(key)
        if missing:
            raise CheckpointMismatch(
                f'model.backbone: the pretrained weights of {self.model_name} '
                f'lack {len(missing)} of its tensors, such as {missing[0]}. '
                "Correct pretrained, or the tag in model_name; "
                'pretrained=False starts from random weights.')
        self.model.load_state_dict(loaded.state_dict())

    def _options_with_file(self, initial: nn.Module) -> dict[str, Any]:
        """timm's options, with the weights as a file where they are one here.

        Raises:
            CheckpointMismatch: The file holds another model's weights.
            CheckpointUnavailable: There is no such file, or no network.
            CorruptCheckpoint, UnsafeCheckpoint: The file cannot be read.
        """
        overlay = dict_of(self.options, 'pretrained_cfg_overlay')
        file = overlay.get('file')
        if file is not None:
            file = local_file(str(file), self.model_name)
            # timm reads no .xz, and chooses by itself in a file with
            # averages.
            weights = compare_with_file(self.model_name, self.options, file,
                                        initial.state_dict())
            source: dict[str, Any] = dict(file=None, state_dict=weights)
        elif 'state_dict' in overlay:
            return self.options
        else:
            source = dict(file=file_without_network(self.model_name, initial))
            if source['file'] is None:
                return self.options
        return {**self.options,
                'pretrained_cfg_overlay': {**overlay, **source}}

    def train(self, mode: bool = True) -> 'TimmBackbone':
        """Set the mode as any module does, except for ``norm_eval``.

        Raises:
            ValueError: torch's synchronised batch norms have replaced timm's,
                which contain the activations.
        """
        if _fused_norms(self.model) < self._fused:
            raise ValueError(
                f'The batch norms of {self.model_name} contain its '
                "activations, and sync_bn='torch' replaces them by batch "
                'norms without activations. Leave sync_bn out, and set '
                'norm_eval=True if batches are small.')
        super().train(mode)
        if mode and self.norm_eval:
            freeze_norm_statistics(self)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> one map (N, C, H', W') per stride."""
        return tuple(self.model(images))


def trained_on(model_name: str, options: Mapping[str, Any]) -> Normalisation:
    """The normalisation of the images that a model's weights were trained
    with.

    Args:
        model_name: As :func:`timm.create_model` takes it.
        options: Of the backbone.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no such model.
    """
    _check_name(model_name)
    overlay = dict_of(options, 'pretrained_cfg_overlay')
    if ':' in model_name or 'pretrained_cfg' in options:
        known: Any = TimmBackbone(model_name, **options).model.pretrained_cfg
    else:
        known = vars(import_timm().models.get_pretrained_cfg(model_name))
    numbers: dict[str, Any] = {**known, **overlay}
    return Normalisation.of_unit_range(numbers['mean'], numbers['std'])


@dataclass(frozen=True)
class Pyramid:
    """The maps that a model returns.

    Attributes:
        strides: Ascending.
        channels: In the order of ``strides``.
        options: Options of timm with which the model returns these maps only.
        unused: Names of the parameters that none of these maps depends on.
    """
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    options: dict[str, Any]
    unused: frozenset[str]


def find_pyramid(model_name: str, wanted: Sequence[int] | None,
                 options: dict[str, Any]) -> Pyramid:
    """The maps of a model, found by a dry run on the meta device.

    Nothing is computed, and no weight is drawn. The strides and channels that
    timm announces are compared with those of the returned maps.

    Args:
        model_name: As :func:`timm.create_model` takes it.
        wanted: Strides of the maps; None takes those of :data:`STRIDES`.
        options: Passed to timm.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no such model, or the model has no pyramid or no
            map of a wanted stride.
    """
    _check_name(model_name)
    changed = dict(options)
    model, maps = _dry_run(model_name, changed)
    if getattr(model, 'output_fmt', 'NCHW') == 'NHWC' \
            and 'feature_cls' not in options:
        # timm's other extractor transposes channels-last maps.
        changed['feature_cls'] = 'getter'
        model, maps = _dry_run(model_name, changed)
    shapes = [m.shape for m in maps]
    available = check_pyramid(model_name, shapes, _ADVICE)
    info: Any = model.feature_info
    announced = list(zip(info.reduction(), info.channels(), strict=True))
    returned = [(stride, shape[1])
                for stride, shape in zip(available, shapes, strict=True)]
    if announced != returned:
        raise ValueError(
            f'timm announces maps of (stride, channels) {announced} for '
            f'{model_name}, but it returns {returned}. {_ADVICE}')
    strides = choose_strides(model_name, available, wanted)
    last = {stride: i for i, stride in enumerate(available)}
    indices = [last[stride] for stride in strides]
    if indices != list(range(len(available))):
        changed['out_indices'] = [info.out_indices[i] for i in indices]
        model, maps = _dry_run(model_name, changed)
    # No model was seen to have unused parameters with timm's defaults (644
    # models).
    unused = _unused_parameters(model, maps) if changed != options else []
    channels = tuple(returned[i][1] for i in indices)
    return Pyramid(strides, channels, changed, frozenset(unused))


def _unused_parameters(model: nn.Module, maps: list[Tensor]) -> list[str]:
    """Names of the parameters that no map depends on.

    Some families keep the stages beyond the last map, and a parameter without
    a gradient stops distributed training.
    """
    torch.stack([m.sum() for m in maps]).sum().backward()
    return [name for name, parameter in model.named_parameters()
            if parameter.grad is None]


_ADVICE = "Choose a convolutional model, such as 'resnet50' or " \
    "'mobilenetv3_large_100'. A Swin Transformer takes images of all " \
    "sizes with strict_img_size=False (padded to a multiple of its patch), " \
    "and mmdet has its own (type='SwinTransformer')."


def _dry_run(model_name: str,
             options: dict[str, Any]) -> tuple[nn.Module, list[Tensor]]:
    """The model on the meta device, and its maps for an image of
    :data:`DRY_RUN_SIZE`."""
    with torch.device('meta'), isolate_rng(0):
        try:
            model = _create(model_name, options).eval()
        except Exception as error:
            raise build_error(model_name, 'timm', options, error) from error
        try:
            return model, list(model(torch.zeros(1, 3, *DRY_RUN_SIZE)))
        except Exception as error:
            raise dry_run_error(model_name, error, _ADVICE) from error


def _create(model_name: str, options: dict[str, Any],
            pretrained: bool = False) -> nn.Module:
    return import_timm().create_model(model_name, pretrained=pretrained,
                                       features_only=True, **options)


def _fused_norms(model: nn.Module) -> int:
    """Number of timm's batch norms that contain an activation."""
    fused = import_timm().layers.BatchNormAct2d
    return sum(isinstance(part, fused) for part in model.modules())


def _check_name(model_name: str) -> None:
    timm = import_timm()
    if not isinstance(model_name, str):
        raise ValueError(f'model_name is {model_name!r}; it has to be a name, '
                         "such as 'resnet18'.")
    # timm resolves names with a source ('hf-hub:...') itself.
    if ':' not in model_name and not timm.is_model(model_name):
        suggestion = suggest_names(model_name.split('.')[0],
                                   timm.list_models())
        raise ValueError(f'timm has no model {model_name!r}. {suggestion}')
