"""One pass of an image through a detector, as torch-pruning and the checks of
a slice see it."""
from collections import Counter
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mtpd.randomness import isolate_rng

SIDE = 256
"""Of the traced image in pixels: P7 has 2 x 2 positions, so that a GroupNorm
of one channel a group has something to normalise."""


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
