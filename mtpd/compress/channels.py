"""Which channels of a detector a smaller one keeps, and their weights.

Which layers share their channels (a residual connection ties all blocks of a
stage, a shared head all levels of the neck) is found by torch-pruning's
dependency graph, which traces one forward pass. The weights are gathered here,
so that the larger detector stays as it is.
"""
import math
from types import ModuleType
from typing import Any, Callable, Iterator, NamedTuple

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn

from .errors import CannotSlice
from .trace import traced_pass

Importance = Callable[[Any], Tensor]
"""From a group of torch-pruning to a score of each of its channels, (C,)."""

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
    outputs = _Dropped()
    inputs = _Dropped()
    for group in _groups(graph):
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
            side.add(item, set(chosen))
    return Slice(_gathered(detector, outputs, inputs), kept)


def _groups(graph: Any) -> Iterator[Any]:
    """Every group of channels that belong together, as torch-pruning has it.

    A layer behind a concatenation shares its channels with several others,
    each of which keeps as many as its own config says. So the layers with the
    fewest channels come first, and what several of them cover is left out.
    """
    roots = [module for module in graph.module2node
             if isinstance(module, _ROOTS)]
    covered: set[nn.Module] = set()
    for root in sorted(roots, key=_out_channels):
        if root in covered:
            continue
        pruner = graph.get_pruner_of_module(root)
        group = graph.get_pruning_group(root, pruner.prune_out_channels,
                                        list(range(_out_channels(root))))
        covered.update(
            item.dep.target.module for item in group.items
            if graph.is_out_channel_pruning_fn(item.dep.handler))
        yield group


class _Dropped(dict[nn.Module, set[int]]):
    """The channels that layers lose, on one side of theirs."""

    def add(self, item: Any, chosen: set[int]) -> None:
        """Add the channels of a layer that a group holds and does not keep.

        Args:
            item: Of a group, with the layer and the places of its channels.
            chosen: The kept channels of the group's first layer.
        """
        self.setdefault(item.dep.target.module, set()).update(
            place for place, of_root in zip(
                item.idxs, item.root_idxs, strict=True)
            if of_root not in chosen)

    def left(self, module: nn.Module, channels: int) -> list[int]:
        """The channels that a layer keeps, ascending.

        Args:
            channels: Of the layer.
        """
        return sorted(set(range(channels)) - self.get(module, set()))


def _gathered(detector: BaseDetector, outputs: _Dropped,
              inputs: _Dropped) -> dict[str, Tensor]:
    """All weights, those of layers that lose channels without these. A layer
    that several parts share stands under all of its names."""
    weights = dict(detector.state_dict())
    for name, module in detector.named_modules(remove_duplicate=False):
        if module not in outputs and module not in inputs:
            continue
        for key, value in module.state_dict(prefix=f'{name}.').items():
            weights[key] = _kept_part(module, value, outputs, inputs)
    return weights


def dependency_graph(detector: BaseDetector, keeps_backbone: bool) -> Any:
    """torch-pruning's graph of a detector, see :func:`slice_weights`."""
    run = traced_pass(detector, keeps_backbone)
    return torch_pruning().DependencyGraph().build_dependency(
        detector, None, forward_fn=lambda *_: run(), verbose=False)


def _kept_part(module: nn.Module, value: Tensor, outputs: _Dropped,
               inputs: _Dropped) -> Tensor:
    """What is kept of a parameter or buffer.

    Args:
        module: Whose it is.
        value: Of a norm or a bias (C,), of another layer (C, C', ...), of a
            transposed convolution (C', C, ...); or a single number.
        outputs: The channels C that are lost.
        inputs: The channels C' that are lost.
    """
    first, second = (inputs, outputs) if value.dim() > 1 and getattr(
        module, 'transposed', False) else (outputs, inputs)
    if value.dim():
        value = value[first.left(module, len(value))]
    if value.dim() > 1 and not _is_depthwise(module):
        # A grouped convolution stores its inputs by their place in the group.
        groups = getattr(module, 'groups', 1)
        kept = second.left(module, value.shape[1] * groups)
        value = value[:, kept[:len(kept) // groups]]
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
