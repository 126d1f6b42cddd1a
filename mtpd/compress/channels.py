"""Which channels of a detector a smaller one keeps, and their weights.

Which layers share their channels (a residual connection ties all blocks of a
stage, a shared head all levels of the neck) is found by torch-pruning's
dependency graph, which traces one forward pass. The weights are gathered here,
so that the larger detector stays as it is.
"""
import math
from collections import Counter
from types import ModuleType
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mtpd.randomness import isolate_rng

from .errors import CannotSlice

Importance = Callable[[Any], Tensor]
"""From a group of torch-pruning to a score of each of its channels, (C,)."""

SIDE = 256
"""Of the traced image in pixels: P7 has 2 x 2 positions, so that a GroupNorm
of one channel a group has something to normalise."""

_ROOTS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def torch_pruning() -> ModuleType:
    """The library.

    Raises:
        CannotSlice: It is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise CannotSlice([
            'torch-pruning is not installed, which finds the channels that '
            f'belong together ({error}): pip install torch-pruning (the extra '
            'mtpd[compress])']) from error
    return torch_pruning


class Slice(NamedTuple):
    """What a smaller detector keeps of a larger one.

    Attributes:
        weights: Its whole ``state_dict``.
        kept: Name of the first layer of each group that loses channels -> the
            channels that are kept, ascending.
    """
    weights: dict[str, Tensor]
    kept: dict[str, list[int]]


def slice_weights(detector: BaseDetector, smaller: nn.Module,
                  keeps_backbone: bool = False,
                  importance: Importance | None = None) -> Slice:
    """The weights of the most important channels.

    Args:
        detector: The trained detector. It ends in eval mode, and all its
            parameters take gradients.
        smaller: The same detector with fewer channels; its weights are not
            read.
        keeps_backbone: Whether both backbones are equal; then the trace
            begins behind it.
        importance: None for the mean absolute weight of all layers that share
            a channel.

    Raises:
        CannotSlice: torch-pruning is not installed, or the groups of a layer
            do not go with the smaller number of channels.
    """
    library = torch_pruning()
    importance = importance or library.importance.GroupMagnitudeImportance(p=1)
    graph = dependency_graph(detector, keeps_backbone)
    names = {module: name for name, module in detector.named_modules()}
    targets = dict(smaller.named_modules())
    kept: dict[str, list[int]] = {}
    outputs: dict[nn.Module, list[int]] = {}
    inputs: dict[nn.Module, list[int]] = {}
    for group in graph.get_all_groups(root_module_types=_ROOTS):
        root = group[0].dep.target.module
        channels, wanted = map(_out_channels, (root, targets[names[root]]))
        if wanted == channels:
            continue
        if wanted > channels:
            raise CannotSlice([
                f'{names[root]} has {wanted} channels in the smaller model '
                f'and {channels} in the larger one. A slice has no more '
                'channels anywhere.'])
        chosen = choose(importance(group), wanted,
                        *_group_counts(graph, group, channels, names))
        kept[names[root]] = chosen
        for item in group.items:
            side = outputs if graph.is_out_channel_pruning_fn(
                item.dep.handler) else inputs
            side[item.dep.target.module] = _kept_places(item, set(chosen))
    return Slice(_gathered(detector, names, outputs, inputs), kept)


def _gathered(detector: BaseDetector, names: dict[nn.Module, str],
              outputs: dict[nn.Module, list[int]],
              inputs: dict[nn.Module, list[int]]) -> dict[str, Tensor]:
    """All weights, those of layers that lose channels without these."""
    weights = dict(detector.state_dict())
    for module in {**outputs, **inputs}:
        for key, value in module.state_dict(
                prefix=f'{names.get(module)}.').items():
            weights[key] = _kept_part(module, value, outputs.get(module),
                                      inputs.get(module))
    return weights


def dependency_graph(detector: BaseDetector, keeps_backbone: bool) -> Any:
    """torch-pruning's graph of a detector, see :func:`slice_weights`."""
    run = traced_pass(detector, keeps_backbone)
    return torch_pruning().DependencyGraph().build_dependency(
        detector, None, forward_fn=lambda *_: run(), verbose=False)


def traced_pass(detector: BaseDetector,
                keeps_backbone: bool) -> Callable[[], list[Tensor]]:
    """A function that runs one image through a detector, with gradients.

    Args:
        detector: Ends in eval mode, with gradients for all parameters.
        keeps_backbone: Whether gradients end behind the backbone. Then it is
            run beforehand: torch-pruning must not even see its layers, since
            it takes every network with a transformer's layers for one
            throughout.
    """
    detector.eval()
    with isolate_rng(0):
        image = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        maps = detector.backbone(image) if keeps_backbone else None

    def run() -> list[Tensor]:
        # Here, as eval() of mmdet's ResNet freezes its frozen stages again.
        detector.requires_grad_(True)
        with _keeping_activations(detector):
            return raw_outputs(detector, maps or detector.backbone(image))
    return run


@contextmanager
def _keeping_activations(detector: nn.Module) -> Iterator[None]:
    """Blocks with ``with_cp`` are computed again in the backward pass; a trace
    would see each as one operation. Here they are computed as usual."""
    blocks = [module for module in detector.modules()
              if getattr(module, 'with_cp', False)]
    for block in blocks:
        block.with_cp = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for block in blocks:
            block.with_cp = True  # type: ignore[assignment]


def operations(detector: BaseDetector, keeps_backbone: bool) -> Counter[str]:
    """How often each operation occurs in a pass, by PyTorch's names."""
    return Counter(step.name()
                   for step in _steps(traced_pass(detector, keeps_backbone)()))


def unread_weights(detector: BaseDetector) -> dict[str, Tensor]:
    """The weights of those layers of the backbone that no output depends on,
    such as a last stage that ``out_indices`` leaves out."""
    read = {id(step.variable)
            for step in _steps(traced_pass(detector, keeps_backbone=False)())
            if hasattr(step, 'variable')}
    unread = {}
    for name, module in detector.backbone.named_modules(prefix='backbone'):
        own = list(module.parameters(recurse=False))
        if own and not read.intersection(map(id, own)):
            for key, value in [*module.named_parameters(name, recurse=False),
                               *module.named_buffers(name, recurse=False)]:
                unread[key] = value.detach()
    return unread


def _steps(outputs: Iterable[Tensor]) -> Iterator[Any]:
    """Every operation that outputs come from, once."""
    waiting: list[Any] = [one.grad_fn for one in outputs]
    seen = set()
    while waiting:
        step = waiting.pop()
        if step is not None and step not in seen:
            seen.add(step)
            yield step
            waiting += [before for before, _ in step.next_functions]


def _kept_places(item: Any, chosen: set[int]) -> list[int]:
    """The channels of a layer, ascending, that hold the chosen ones of the
    first layer of its group."""
    return sorted(place for place, of_root in zip(
        item.idxs, item.root_idxs, strict=True) if of_root in chosen)


def _kept_part(module: nn.Module, value: Tensor, outputs: list[int] | None,
               inputs: list[int] | None) -> Tensor:
    """What is kept of a parameter or buffer.

    Args:
        module: Whose it is.
        value: Of a norm or a bias (C,), of another layer (C, C', ...), of a
            transposed convolution (C', C, ...); or a single number.
        outputs: The kept channels C; None for all.
        inputs: The kept channels C'; None for all.
    """
    first, second = (inputs, outputs) if value.dim() > 1 and getattr(
        module, 'transposed', False) else (outputs, inputs)
    if value.dim() and first is not None:
        value = value[first]
    groups = getattr(module, 'groups', 1)
    if value.dim() > 1 and second is not None and not _is_depthwise(module):
        # A grouped convolution stores its inputs by their place in the group.
        value = value[:, second[:len(second) // groups]]
    return value.clone()


def choose(scores: Tensor, count: int, conv_groups: int = 1,
           norm_groups: int = 1) -> list[int]:
    """The most important channels, ascending, as many of each group.

    Args:
        scores: Importance of each channel, (C,).
        count: The number of channels to keep.
        conv_groups: Of grouped convolutions. They keep the same places of
            every group, because their weights are stored by place.
        norm_groups: Of group norms, each of which keeps its own best.

    Raises:
        CannotSlice: The groups do not divide both numbers of channels.
    """
    groups = math.lcm(conv_groups, norm_groups)
    if len(scores) % groups or count % groups:
        raise CannotSlice([f'{count} of {len(scores)} channels cannot be '
                           f'divided into {groups} groups. Choose another '
                           'width.'])
    by_group = scores.view(groups, -1)
    if conv_groups > 1:
        by_group = by_group.mean(0).expand_as(by_group)
    best = by_group.topk(count // groups, dim=1).indices
    first = torch.arange(groups)[:, None] * by_group.shape[1]
    chosen: list[int] = (best.cpu() + first).flatten().sort().values.tolist()
    return chosen


def _group_counts(graph: Any, group: Any, channels: int,
                  names: dict[nn.Module, str]) -> tuple[int, int]:
    """The number of groups of the convolutions and of the norms that share
    these channels."""
    of_convs = of_norms = 1
    for dependency, _ in group:
        module = dependency.target.module
        if isinstance(module, nn.Conv2d) and module.groups > 1 \
                and not _is_depthwise(module):
            of_convs = math.lcm(of_convs, module.groups)
            size = module.out_channels if graph.is_out_channel_pruning_fn(
                dependency.handler) else module.in_channels
        elif isinstance(module, nn.GroupNorm):
            of_norms = math.lcm(of_norms, module.num_groups)
            size = module.num_channels
        else:
            continue
        if size % channels or channels % math.lcm(of_convs, of_norms):
            raise CannotSlice([f'{names[module]} has {size} channels in '
                               f'groups and shares {channels} of them with '
                               'another layer.'])
    return of_convs, of_norms


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) \
        and module.groups == module.out_channels > 1


def _out_channels(module: nn.Module) -> int:
    count = getattr(module, 'out_channels', None)
    return int(module.out_features if count is None  # type: ignore[arg-type]
               else count)


def raw_outputs(detector: BaseDetector,
                features: Sequence[Tensor]) -> list[Tensor]:
    """Everything that a detector predicts, before any decoding.

    RoI extraction is left out: boxes that were predicted would tie the
    channels of the heads to the four sides of a box. Each RoI head sees the
    sum of the maps that its extractor reads, averaged to the extractor's size,
    which has the same channels.

    Args:
        detector: With or without a RoI head.
        features: The backbone's maps of one image, (1, C, H, W).
    """
    maps = detector.neck(features)
    dense = detector.rpn_head if getattr(detector, 'with_rpn', False) \
        else detector.bbox_head
    outputs = list(_tensors(dense(maps)))
    if getattr(detector, 'with_roi_head', False):
        for extractor, head in roi_parts(detector.roi_head):
            size = extractor.roi_layers[0].output_size
            pooled: Any = 0
            for one in maps[:extractor.num_inputs]:
                pooled = pooled + adaptive_avg_pool2d(one, size)
            outputs += _tensors(head(pooled))
    return outputs


def roi_parts(roi_head: Any) -> Iterable[tuple[Any, Any]]:
    """Each extractor of a RoI head with the head that it feeds."""
    for part in ('bbox', 'mask'):
        if not getattr(roi_head, f'with_{part}'):
            continue
        extractors, heads = (
            list(value) if isinstance(value, nn.ModuleList) else [value]
            for value in (getattr(roi_head, f'{part}_roi_extractor'),
                          getattr(roi_head, f'{part}_head')))
        yield from zip(extractors, heads, strict=True)


def _tensors(value: Any) -> Iterable[Tensor]:
    """Every tensor in nested tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)
