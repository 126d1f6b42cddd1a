"""Detectors whose maps are read: measured as they are, or frozen teachers."""
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor

from .detector import build_detector
from .heads import dense_head, score_maps
from .pyramid import Features, by_stride, evaluation_mode, pyramid_channels

_DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.half}


class MapReader:
    """Reads a detector's maps and leaves the detector as it is.

    Backbone and neck run in eval mode and without gradients. The modes of all
    modules and ``requires_grad`` of all parameters are the same afterwards,
    so a student may be measured and then trained. The detector moves to the
    device of its images.

    Args:
        detector: Built and loaded.

    Attributes:
        detector: The same.
        channels: Stride -> channels of its maps.
    """

    def __init__(self, detector: BaseDetector) -> None:
        self.detector = detector
        self.channels = pyramid_channels(detector)

    @torch.no_grad()
    def __call__(self, inputs: Tensor, strides: Sequence[int]) -> Features:
        """Maps of a batch, stride -> (N, C, H, W).

        Args:
            inputs: (N, 3, H, W), normalised for this detector.
            strides: Of the maps to return.
        """
        if inputs.device != next(self.detector.parameters()).device:
            self.detector.to(inputs.device)
        with evaluation_mode(self.detector):
            outputs = self.detector.extract_feat(inputs)
        maps = by_stride(outputs, tuple(self.channels))
        return {s: maps[s] for s in strides}


class FrozenDetector:
    """A teacher: a detector in eval mode whose parameters take no gradient.

    Only its backbone and neck run, and its dense head where a mechanism asks
    for scores. It is no ``nn.Module`` and so no part of the distiller's module
    tree: ``train()``, ``init_weights()``, optimizers, DDP buckets and
    checkpoints do not reach it. A copy (EMA deep-copies the model) is the
    teacher itself. To measure a detector that is trained later, use
    :class:`MapReader`.

    Args:
        detector: Built and loaded. It is switched to eval mode and frozen for
            good.
        precision: 'bf16' or 'fp16' runs it in mixed precision; None leaves
            the caller's.
        channels_last: Whether images and weights lie channels last in
            memory.
        compile: Whether ``torch.compile`` compiles backbone and neck, at the
            first image of each shape.

    Attributes:
        channels: Stride -> channels of its maps.

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
        """From the ``model`` part of its config and a strictly loaded file.

        Args:
            model: The ``model`` part of the teacher's config.
            checkpoint: File or URL.
            field: The config field that names the checkpoint, for messages.
            options: ``precision``, ``channels_last``, ``compile``.
        """
        return cls(build_detector(model, checkpoint, field), **options)

    def __deepcopy__(self, memo: dict) -> 'FrozenDetector':
        return self

    @property
    def detector(self) -> BaseDetector:
        """The frozen detector; do not train it."""
        return self._detector

    @torch.no_grad()  # inference-mode tensors could not be saved for backward
    def __call__(self, inputs: Tensor,
                 strides: Sequence[int] | None = None) -> Features:
        """Maps of a batch.

        Args:
            inputs: (N, 3, H, W), normalised for this teacher.
            strides: Of the maps to return; None returns all.
        """
        if inputs.device != next(self._detector.parameters()).device:
            # No other place moves the teacher.
            self._detector.to(inputs.device)
        if self._channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with self._precision(inputs.device):
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
        device = next(self._detector.parameters()).device
        with self._precision(device):
            return by_stride(score_maps(head(tuple(maps.values()))),
                             tuple(maps))

    def _precision(self, device: torch.device) -> AbstractContextManager:
        return nullcontext() if self._dtype is None else torch.autocast(
            device.type, dtype=self._dtype)
