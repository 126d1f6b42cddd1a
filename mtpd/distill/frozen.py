"""The frozen teacher."""
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor

from .detector import build_detector
from .heads import dense_head, score_maps
from .pyramid import Features, by_stride, pyramid_channels

_DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.half}


class FrozenDetector:
    """A detector that only ever looks: backbone and neck, eval, no gradient.

    It is no ``nn.Module`` and so no part of the distiller's module tree:
    ``train()``, ``init_weights()``, optimizers, DDP buckets and checkpoints
    do not reach it. Copies (EMA deep-copies the model) are the teacher itself.

    Args:
        detector: Built and loaded; it is switched to eval and frozen here.
        precision: 'bf16' or 'fp16' runs it in mixed precision; None as it is
            called.
        channels_last: Whether images and weights lie channels last in
            memory.
        compile: Whether ``torch.compile`` compiles backbone and neck, at the
            first image of each shape.

    Attributes:
        channels: stride -> channels of its maps.

    Raises:
        ValueError: Another precision.
    """

    def __init__(self, detector: BaseDetector, precision: str | None = None,
                 channels_last: bool = False, compile: bool = False) -> None:
        if precision not in (None, *_DTYPES):
            raise ValueError(f'mtpd.fast_teacher.precision is {precision!r}; '
                             f'it has to be one of {", ".join(_DTYPES)}.')
        self._detector = detector.eval().requires_grad_(False)
        self.channels = pyramid_channels(detector)
        self._dtype = None if precision is None else _DTYPES[precision]
        self._channels_last = channels_last
        if channels_last:
            detector.to(memory_format=torch.channels_last)
        self._extract = torch.compile(detector.extract_feat) if compile \
            else detector.extract_feat

    @classmethod
    def build(cls, model: Mapping[str, Any], checkpoint: str, field: str,
              **options: Any) -> 'FrozenDetector':
        """From the ``model`` part of its config and a strictly loaded file."""
        return cls(build_detector(model, checkpoint, field), **options)

    def __deepcopy__(self, memo: dict) -> 'FrozenDetector':
        return self

    @property
    def detector(self) -> BaseDetector:
        """The frozen detector, for measuring; do not train it."""
        return self._detector

    @torch.no_grad()  # inference-mode tensors could not be saved for backward
    def __call__(self, inputs: Tensor,
                 strides: Sequence[int] | None = None) -> Features:
        """Maps of a batch.

        Args:
            inputs: (N, 3, H, W), normalised as this teacher wants it.
            strides: Which maps to return; None returns all.
        """
        if inputs.device != self._device:
            # The one place that moves the teacher: where its images are.
            self._detector.to(inputs.device)
        if self._channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with self._precision():
            maps = by_stride(self._extract(inputs), tuple(self.channels))
        return {s: maps[s] for s in strides or maps}

    @torch.no_grad()
    def scores(self, maps: Features) -> Features:
        """Classification maps of its dense head, stride -> (N, C, H, W),
        before the sigmoid.

        Args:
            maps: All maps of a batch.
        """
        head = dense_head(self._detector)
        with self._precision():
            return by_stride(score_maps(head(tuple(maps.values()))),
                             tuple(maps))

    @property
    def _device(self) -> torch.device:
        return next(self._detector.parameters()).device

    def _precision(self) -> AbstractContextManager:
        return nullcontext() if self._dtype is None else torch.autocast(
            self._device.type, dtype=self._dtype)
