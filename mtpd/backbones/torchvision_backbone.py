"""Any of torchvision's classification models as a backbone, by its name."""
import copy
import re
from typing import Any, Callable, Iterator, Mapping, Sequence

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from mtpd.randomness import isolate_rng

from .normalisation import Normalisation
from .strides import (DRY_RUN_SIZE, build_error, check_pyramid, choose_strides,
                      dry_run_error, freeze_norm_statistics, suggest_names,
                      weights_error)
from .weights_files import (differences, is_file, local_file, mismatch,
                            read_weights)

# Names of the children that belong to the classifier. SqueezeNet's classifier
# begins with a convolution before the pool, whose map has the shape of a
# block's.
_HEADS = ('avgpool', 'classifier', 'fc', 'head', 'heads')

# Options that these two models set together with pretrained weights: they
# convert the input to the normalisation of the weights.
_WITH_WEIGHTS = {'googlenet': {'transform_input': True},
                 'inception_v3': {'transform_input': True}}


@MODELS.register_module()
class TorchvisionBackbone(BaseModule):
    """Maps of a torchvision model: (N, 3, H, W) -> a tuple of (N, C, H', W').

    The map of a stride is the output of the last block with this stride.

    Args:
        model_name: As :func:`torchvision.models.get_model` takes it.
        strides: Which maps to return; None takes those of 4, 8, 16 and 32
            that the model has.
        weights: Name of pretrained weights, such as ``'DEFAULT'``.
            :meth:`init_weights` fetches them, so a detector that is built for
            a checkpoint fetches nothing.
        pretrained: True is ``weights='DEFAULT'``; or the file that holds
            the weights as torchvision publishes them.
        norm_eval: Whether batch norms keep their statistics in training.
        init_cfg: As for any mmengine module; ``weights`` are loaded after it.
        options: Passed to the model, such as ``stochastic_depth_prob``.

    Attributes:
        strides: Pixels of the input per position, ascending.
        channels: C of each map, in the order of ``strides``.

    Raises:
        ValueError: torchvision has no such model, weights or option, or the
            model has no such stride or no pyramid.
    """

    def __init__(self, model_name: str, strides: Sequence[int] | None = None,
                 weights: str | None = None, norm_eval: bool = False,
                 init_cfg: dict | list | None = None,
                 pretrained: bool | str = False, **options: Any) -> None:
        super().__init__(init_cfg)
        _check_name(model_name, weights)
        if pretrained is True and weights is None:
            weights = 'DEFAULT'
        self.file = str(pretrained) if is_file(pretrained) else None
        if weights is not None or self.file:
            options = {**_WITH_WEIGHTS.get(model_name, {}), **options}
        self.model_name = model_name
        self.weights = weights
        self.norm_eval = norm_eval
        self.options = options
        try:
            whole = models.get_model(model_name, weights=None, **options)
        except (TypeError, ValueError) as error:
            raise build_error(model_name, 'torchvision', options,
                              error) from error
        blocks = find_blocks(model_name, whole)
        self.strides = choose_strides(model_name, list(blocks), strides)
        self.channels = tuple(blocks[s][1] for s in self.strides)
        # The train and eval graphs differ on purpose (dropout, stochastic
        # depth), so the warning about it is suppressed.
        self.model = create_feature_extractor(
            whole, {blocks[s][0]: str(s) for s in self.strides},
            suppress_diff_warning=True)

    def init_weights(self) -> None:
        """Initialise as mmengine does, then load the pretrained weights.

        A second call changes nothing.

        Raises:
            CheckpointMismatch: The file holds another model's weights.
            CheckpointUnavailable: The weights cannot be downloaded, or there
                is no such file.
            CorruptCheckpoint, UnsafeCheckpoint: The file cannot be read.
        """
        first = not self.is_init
        super().init_weights()
        if first and (self.file or self.weights):
            source = self._weights_in_file(self.file) if self.file \
                else self._fetched_weights()
            self.model.load_state_dict(
                {key: source[key] for key in self.model.state_dict()
                 if key in source}, strict=not self.file)

    def _fetched_weights(self) -> dict[str, Tensor]:
        try:
            with isolate_rng(0):
                return models.get_model(
                    self.model_name, weights=self.weights,
                    **self.options).state_dict()
        except OSError as error:
            raise weights_error(
                self.model_name, "pretrained='FILE' with a local file",
                error) from error

    def _weights_in_file(self, path: str) -> dict[str, Tensor]:
        """A file's weights, if they are those of this model."""
        own = self.model.state_dict()
        with isolate_rng(0):
            whole = models.get_model(self.model_name, weights=None,
                                     **self.options).state_dict()
        path = local_file(path, self.model_name)
        weights = {}
        for name, value in read_weights(path, whole).items():
            # DenseNet's files have denselayer1.norm.1 for denselayer1.norm1.
            name = re.sub(r'(denselayer\d+\.(?:norm|conv))\.(\d\.)', r'\1\2',
                          name)
            weights[name] = value
        found = differences(weights, {**whole, **own}).without(_HEADS)
        found = found._replace(
            missing=[name for name in found.missing if name in own],
            reshaped=[name for name in found.reshaped if name in own])
        if any(found):
            raise mismatch(self.model_name, path, found, own, weights)
        return weights

    def train(self, mode: bool = True) -> 'TorchvisionBackbone':
        """Set the mode as any module does, except for ``norm_eval``."""
        super().train(mode)
        if mode and self.norm_eval:
            freeze_norm_statistics(self)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> one map (N, C, H', W') per stride."""
        # torchvision swaps its graphs in train() only. A dry run that restores
        # the mode of each module by itself (pyramid_channels) leaves the eval
        # graph behind.
        graph = self.model.train_graph if self.model.training \
            else self.model.eval_graph
        if self.model.graph is not graph:
            self.model.graph = graph
        return tuple(self.model(images).values())


def find_blocks(name: str, model: nn.Module) -> dict[int, tuple[str, int]]:
    """Stride -> name and channels of the last block with such maps.

    Runs a copy on the meta device: nothing is computed, and weights, buffers
    and random generators stay untouched.

    Raises:
        ValueError: The model returns no pyramid, or fails for an image of
            :data:`DRY_RUN_SIZE`.
    """
    advice = 'Choose a convolutional model, such as ' \
        "'resnet50' or 'convnext_tiny'; for a Swin Transformer take mmdet's " \
        "own (type='SwinTransformer')."
    # The model cannot be built on the meta device: RegNet computes its widths
    # with tensors (torchvision 0.26).
    # The memo holds a meta tensor for each tensor, so that deepcopy copies no
    # weights (VGG has 0.5 GB).
    memo: dict[int, Any] = {}
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.to('meta')
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.to('meta'))
    copied = copy.deepcopy(model, memo).eval()
    shapes: dict[str, tuple[int, ...]] = {}

    def record_shape(block: str) -> Callable[[nn.Module, tuple, Any], None]:
        def hook(_module: nn.Module, _args: tuple, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() == 4:
                # A block that is called twice moves to the end of the order.
                shapes.pop(block, None)
                shapes[block] = tuple(output.shape)
        return hook

    for block, module in _blocks(copied):
        module.register_forward_hook(record_shape(block))
    try:
        with torch.no_grad():
            copied(torch.zeros(1, 3, *DRY_RUN_SIZE, device='meta'))
    except Exception as error:
        raise dry_run_error(name, error, advice) from error
    strides = check_pyramid(name, list(shapes.values()), advice)
    return {stride: (block, shapes[block][1])
            for stride, block in zip(strides, shapes, strict=True)}


def _blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of the model's children; a container is replaced by
    its own children."""
    for name, child in model.named_children():
        if name in _HEADS:
            continue
        # Not isinstance: blocks are also written as subclasses of Sequential.
        is_container = type(child) in (nn.Sequential, nn.ModuleList)
        parts = list(child.named_children()) if is_container else []
        for key, block in parts:
            yield f'{name}.{key}', block
        if not parts:
            yield name, child


def _check_name(model_name: str, weights: str | None) -> None:
    known = models.list_models(module=models)
    if model_name not in known:
        raise ValueError(
            f'torchvision has no model {model_name!r} for images. '
            + suggest_names(str(model_name), known))
    if weights is None:
        return
    offered = models.get_model_weights(model_name)
    if not isinstance(weights, str) or weights.removeprefix(
            f'{offered.__name__}.') not in offered.__members__:
        raise ValueError(
            f'weights={weights!r} of {model_name}: torchvision has '
            f'{", ".join(map(repr, offered.__members__))}. Set one of these, '
            'or None for random weights.')


def trained_on(model_name: str, options: Mapping[str, Any]) -> Normalisation:
    """The normalisation of the images that a model's weights were trained
    with.

    Args:
        model_name: As :func:`torchvision.models.get_model` takes it.
        options: Of the backbone.

    Raises:
        ValueError: torchvision has no such model or weights.
    """
    name = options.get('weights') or 'DEFAULT'
    _check_name(model_name, name)
    offered = models.get_model_weights(model_name)
    transforms = offered[name.removeprefix(f'{offered.__name__}.')] \
        .transforms()
    return Normalisation.of_unit_range(transforms.mean, transforms.std)
