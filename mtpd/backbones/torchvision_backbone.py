"""Any of torchvision's classification models as a backbone, by its name."""
import copy
import difflib
import math
from typing import Any, Callable, Sequence

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from mtpd.compat.checkpoints import CheckpointUnavailable
from mtpd.randomness import isolate_rng

PICTURE = (256, 320)
"""Height and width of the dry pass, in pixels. Oblong, because the maps of a
channels-last model (N, H, W, C) then fit no stride in both directions."""

STRIDES = (4, 8, 16, 32)
"""What is taken of a model if nothing else is asked for."""

# Where the classifier begins. In SqueezeNet it is a convolution before the
# pool, so that the shape of its map does not tell it from a block.
_HEADS = ('avgpool', 'classifier', 'fc', 'head', 'heads')

# What these two set with weights, whose own normalisation they undo.
_WITH_WEIGHTS = {'googlenet': {'transform_input': True},
                 'inception_v3': {'transform_input': True}}


# ------------------------------------------------------ from maps to a pyramid


def stride_of(shape: Sequence[int]) -> int | None:
    """Stride of a map that a model makes of a :data:`PICTURE`.

    The nearest power of two, since unpadded convolutions and rounded-up pools
    lose up to 4 positions at the border: SqueezeNet 1.1 makes 15 positions of
    256 pixels and Inception v3 makes 60.

    Args:
        shape: Of the map, (N, C, H, W).

    Returns:
        Pixels per position, None if height and width do not agree on it:
        then the map is none of (N, C, H, W).
    """
    if len(shape) != 4:
        return None
    stride = 2 ** round(math.log2(PICTURE[0] / shape[2]))
    for side, positions in zip(PICTURE, shape[2:], strict=True):
        if not -4 <= positions - side / stride <= 1:
            return None
    return stride


def check_pyramid(name: str, shapes: Sequence[Sequence[int]],
                  advice: str) -> list[int]:
    """The strides of a model's maps.

    Args:
        name: Of the model, for the message.
        shapes: What the model makes of a :data:`PICTURE`, in its order.
        advice: What to do if this is no pyramid, a sentence.

    Raises:
        ValueError: Some map is not (N, C, H, W), or there is but one stride.
    """
    strides = [s for s in map(stride_of, shapes) if s is not None]
    if len(strides) < len(shapes) or len(set(strides)) < 2:
        seen = dict.fromkeys(str(tuple(shape)) for shape in shapes)
        raise ValueError(
            f'{name} yields no feature pyramid: of an image of '
            f'{PICTURE[0]} x {PICTURE[1]} pixels it makes '
            f'{", ".join(seen) or "no maps"}, where maps '
            ' (N, C, H, W) of several strides, all powers of two, are '
            f'needed. {advice}')
    return strides


def choose_strides(name: str, found: Sequence[int],
                   wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Which of a model's strides are taken, ascending.

    Args:
        name: Of the model, for the message.
        found: What it has.
        wanted: As its user set it; None takes those of :data:`STRIDES`.

    Raises:
        ValueError: It lacks one that is wanted, or none is.
    """
    if wanted is None:
        return tuple(s for s in STRIDES if s in found)
    lacking = sorted(set(wanted) - set(found))
    if lacking or not wanted:
        raise ValueError(
            f'strides={tuple(wanted)} of {name}: it has maps of strides '
            f'{tuple(sorted(set(found)))}'
            + (f' and none of {lacking}' if lacking else '')
            + '. Set strides to some of these, or leave it out.')
    return tuple(sorted(set(wanted)))


def could_not_run(name: str, error: Exception, advice: str) -> ValueError:
    """What to raise where the dry pass has failed with ``error``."""
    return ValueError(
        f'{name} cannot be used in a detector, whose images come in all '
        f'sizes: on one of {PICTURE[0]} x {PICTURE[1]} pixels it fails with '
        f'{type(error).__name__}: {_first_line(error)}. {advice}')


def could_not_build(name: str, library: str, options: dict[str, Any],
                    error: Exception) -> ValueError:
    """What to raise where the library has refused with ``error``."""
    return ValueError(
        f'{library} cannot build {name} as a feature extractor with the '
        f'options {dict(options)}: {_first_line(error)}. Correct them, or '
        'choose another model.')


def not_fetched(name: str, cure: str, error: Exception) -> Exception:
    """What to raise where pretrained weights could not be had."""
    return CheckpointUnavailable(
        f'model.backbone: the pretrained weights of {name} could not be '
        f'fetched ({type(error).__name__}: {_first_line(error)}). Connect to '
        f'the network, or set {cure}.')


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [''])[0].rstrip('.')


def close_matches(name: str, known: Sequence[str]) -> str:
    """The end of a message about a name that is not known."""
    near = difflib.get_close_matches(name, known, 3)
    return 'Did you mean ' + ' or '.join(map(repr, near)) + '?' if near \
        else f'It has {len(known)} models, such as {known[0]!r}.'


def norms_to_eval(module: nn.Module) -> None:
    """Batch norms go on with the statistics that they have."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()


# ----------------------------------------------------------------- torchvision


@MODELS.register_module()
class TorchvisionBackbone(BaseModule):
    """Maps of a torchvision model: (N, 3, H, W) -> a tuple of (N, C, H', W').

    A stride's map is what the last block of this stride returns, where blocks
    are the model's children and, of plain containers such as ``features``,
    their children. The blocks are found by one dry pass without data, and only
    what the wanted maps depend on is kept: no classifier.

    Args:
        model_name: As :func:`torchvision.models.get_model` takes it.
        strides: Which maps to return; None takes those of 4, 8, 16 and 32
            that the model has.
        weights: Name of pretrained weights, such as ``'DEFAULT'``. They are
            fetched by :meth:`init_weights`, so that a detector that is built
            for a checkpoint fetches nothing.
        norm_eval: Whether batch norms keep their statistics in training.
        init_cfg: As of any mmengine module; ``weights`` come after it.
        options: Passed to the model, such as ``stochastic_depth_prob``.

    Attributes:
        strides: Pixels of the input per position, ascending.
        channels: C of each map, in the order of ``strides``.

    Raises:
        ValueError: No such model, weights, option or stride, or no pyramid.
    """

    def __init__(self, model_name: str, strides: Sequence[int] | None = None,
                 weights: str | None = None, norm_eval: bool = False,
                 init_cfg: dict | list | None = None, **options: Any) -> None:
        super().__init__(init_cfg)
        _check_name(model_name, weights)
        if weights is not None:
            options = {**_WITH_WEIGHTS.get(model_name, {}), **options}
        self.model_name = model_name
        self.weights = weights
        self.norm_eval = norm_eval
        self.options = options
        try:
            whole = models.get_model(model_name, weights=None, **options)
        except (TypeError, ValueError) as error:
            raise could_not_build(model_name, 'torchvision', options,
                                  error) from error
        blocks = find_blocks(model_name, whole)
        self.strides = choose_strides(model_name, list(blocks), strides)
        self.channels = tuple(blocks[s][1] for s in self.strides)
        # Without the warning that train and eval graph differ: they are meant
        # to (dropout, stochastic depth).
        self.model = create_feature_extractor(
            whole, {blocks[s][0]: str(s) for s in self.strides},
            suppress_diff_warning=True)

    def init_weights(self) -> None:
        """mmengine's, then the pretrained weights; a second call changes
        nothing.

        Raises:
            CheckpointUnavailable: They cannot be downloaded.
        """
        first = not self.is_init
        super().init_weights()
        if first and self.weights is not None:
            try:
                with isolate_rng(0):
                    source = models.get_model(
                        self.model_name, weights=self.weights,
                        **self.options).state_dict()
            except OSError as error:
                cure = "weights=None and init_cfg=dict(type='Pretrained', " \
                    "checkpoint=FILE, prefix='backbone.') with a detector's " \
                    'checkpoint'
                raise not_fetched(self.model_name, cure, error) from error
            self.model.load_state_dict(
                {key: source[key] for key in self.model.state_dict()})

    def train(self, mode: bool = True) -> 'TorchvisionBackbone':
        """As of any module, but for ``norm_eval``."""
        super().train(mode)
        if mode and self.norm_eval:
            norms_to_eval(self)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> one map (N, C, H', W') per stride."""
        # torchvision swaps its graphs in train(), and a dry pass that puts
        # the modes back one by one (pyramid_channels) leaves the one of eval.
        graph = self.model.train_graph if self.model.training \
            else self.model.eval_graph
        if self.model.graph is not graph:
            self.model.graph = graph
        return tuple(self.model(images).values())


def find_blocks(name: str, model: nn.Module) -> dict[int, tuple[str, int]]:
    """Stride -> name and channels of the last block that makes such maps.

    Runs a copy without data: neither weights, buffers nor random generators
    are touched, and nothing is computed.

    Raises:
        ValueError: The model yields no pyramid, or takes no image of this
            size.
    """
    advice = 'Choose a convolutional model, such as ' \
        "'resnet50' or 'convnext_tiny'; for a Swin Transformer take mmdet's " \
        "own (type='SwinTransformer')."
    # On the meta device from the start, RegNet cannot be built: it computes
    # its widths with tensors (torchvision 0.26).
    # Told of its tensors' copies, deepcopy copies no weight (VGG has 0.5 GB).
    without_data = {id(t): t.to('meta') for t in model.buffers()} | {
        id(p): nn.Parameter(p.to('meta')) for p in model.parameters()}
    copied = copy.deepcopy(model, without_data).eval()
    shapes: dict[str, tuple[int, ...]] = {}

    def note(block: str) -> Callable[[nn.Module, tuple, Any], None]:
        def hook(_module: nn.Module, _args: tuple, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() == 4:
                shapes.pop(block, None)  # the last call's place in the order
                shapes[block] = tuple(output.shape)
        return hook

    for block, module in _blocks(copied):
        module.register_forward_hook(note(block))
    try:
        with torch.no_grad():
            copied(torch.zeros(1, 3, *PICTURE, device='meta'))
    except Exception as error:
        raise could_not_run(name, error, advice) from error
    strides = check_pyramid(name, list(shapes.values()), advice)
    return {stride: (block, shapes[block][1])
            for stride, block in zip(strides, shapes, strict=True)}


def _blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The model's children, containers replaced by their children."""
    found = []
    for name, child in model.named_children():
        if name in _HEADS:
            continue
        # Exactly these types: blocks, too, are written as nn.Sequential.
        inner = list(child.named_children()) \
            if type(child) in (nn.Sequential, nn.ModuleList) else []
        found += [(f'{name}.{key}', block) for key, block in inner] \
            or [(name, child)]
    return found


def _check_name(model_name: str, weights: str | None) -> None:
    known = models.list_models(module=models)
    if model_name not in known:
        raise ValueError(f'torchvision has no model {model_name!r} for '
                         f'images. {close_matches(model_name, known)}')
    if weights is None:
        return
    offered = models.get_model_weights(model_name)
    if not isinstance(weights, str) or weights.removeprefix(
            f'{offered.__name__}.') not in offered.__members__:
        raise ValueError(
            f'weights={weights!r} of {model_name}: torchvision has '
            f'{", ".join(map(repr, offered.__members__))}. Set one of these, '
            'or None for none.')
