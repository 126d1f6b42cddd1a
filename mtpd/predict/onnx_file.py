"""A detector in an ONNX file of ``tools/export_onnx.py``, by onnxruntime.

The file needs nothing else: its metadata say how an image becomes its input,
and the operators in it go from there to boxes.
"""
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .inputs import UnusableInput

INSTALL = 'pip install onnx onnxruntime (the extra mtpd[onnx])'
IMAGES = 'images'
"""Name of the file's only input."""
OUTPUTS = ('boxes', 'scores', 'labels', 'image', 'masks')
"""Names of the outputs; the last only of a detector with masks."""


class Found(NamedTuple):
    """The detections in one image, best score first.

    Attributes:
        boxes: (N, 4), x1, y1, x2, y2 in pixels of the input.
        scores: (N,).
        labels: (N,), int64.
        masks: (N, h, w) within the boxes, from 0 to 1; None of a detector
            without masks.
    """
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None


class OnnxDetector:
    """A detector in an ONNX file.

    Args:
        path: The file.
        device: ``cpu``, or ``cuda`` and ``cuda:1`` with a package
            onnxruntime-gpu.
        threads: How many the CPU uses; None for as many as
            ``OMP_NUM_THREADS`` says, or else all.

    Attributes:
        about: The metadata, by name. ``pipeline`` is the list of mmdet's
            transforms from a file to the input.

    Raises:
        UnusableInput: onnxruntime is missing, or the file or device cannot be
            used.
    """

    def __init__(self, path: str, device: str = 'cpu',
                 threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UnusableInput(
                f'{path} needs the package onnxruntime, which cannot be '
                f'imported ({error}). Install it: {INSTALL}') from error
        if not os.path.isfile(path):
            raise UnusableInput(f'There is no file {path}. Name a file that '
                                'tools/export_onnx.py wrote.')
        options = onnxruntime.SessionOptions()
        said = os.environ.get('OMP_NUM_THREADS', '').split(',')[0]
        options.intra_op_num_threads = threads or (
            int(said) if said.isdecimal() else 0)
        options.log_severity_level = 4  # its errors are raised, too
        try:
            self._session = onnxruntime.InferenceSession(
                Path(path).read_bytes(), options,
                [_provider(onnxruntime.get_available_providers(), device)])
        except UnusableInput:
            raise
        # Its errors have no common class but this.
        except Exception as error:
            raise UnusableInput(
                f'onnxruntime {onnxruntime.__version__} cannot read {path}: '
                f'{first_line(error)}. The file is incomplete, or needs a '
                'newer onnxruntime. Export it again, or install a newer one: '
                "pip install --upgrade onnxruntime") from error
        self.about = _metadata(self._session, path)
        self._outputs = [one.name for one in self._session.get_outputs()]

    def __call__(self, images: np.ndarray) -> list[Found]:
        """The detections in each of a batch of images.

        Args:
            images: (B, 3, H, W), BGR, of the type that ``about['input']``
                says.
        """
        boxes, scores, labels, places, *masks = self._session.run(
            self._outputs, {IMAGES: images})
        found = []
        for image in range(len(images)):
            here = places == image
            found.append(Found(boxes[here], scores[here], labels[here],
                               masks[0][here] if masks else None))
        return found


def first_line(error: BaseException) -> str:
    """What an error of onnxruntime or torch says, without its end."""
    return (str(error).strip().splitlines() or [type(error).__name__]
            )[0][:300].rstrip('. ')


def _provider(available: list[str], device: str) -> Any:
    """What onnxruntime calls a device."""
    kind, _, number = device.partition(':')
    if kind == 'cpu' and not number:
        return 'CPUExecutionProvider'
    if kind == 'cuda' and 'CUDAExecutionProvider' in available:
        return 'CUDAExecutionProvider', {'device_id': number or '0'}
    raise UnusableInput(
        f'--device {device}: the installed onnxruntime has {available}. Use '
        'cpu, or install the package onnxruntime-gpu in its place for cuda.')


def _metadata(session: Any, path: str) -> dict[str, Any]:
    try:
        texts = session.get_modelmeta().custom_metadata_map
        about = {key: json.loads(text) for key, text in texts.items()}
        [step['type'].lower() for step in about['pipeline']]
        [name.lower() for name in about['classes']]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableInput(
            f'{path} does not say how its images are read and what its '
            'classes are, so it was not written by tools/export_onnx.py. '
            'Export the detector with that.') from error
    return about
