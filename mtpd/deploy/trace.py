"""A detector written as ONNX by PyTorch."""
import warnings
from pathlib import Path

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector

from mtpd.predict.onnx_file import IMAGES, OUTPUTS, first_line

from .metadata import ALONE, lower_threshold
from .network import Network
from .support import NotExportable

OPSET = 17
"""Its RoiAlign has mmcv's way of rounding, and onnxruntime reads it since
1.13."""

# A file of both dimensions that are multiples of all strides up to 64.
_TRACED = (2, 3, 128, 192)


def trace_file(detector: BaseDetector, like: np.ndarray, path: Path) -> None:
    """Write the file, without metadata.

    Args:
        detector: In test mode.
        like: Images of the type that the file is to take.
        path: The file.

    Raises:
        NotExportable: PyTorch cannot write it.
    """
    images = torch.zeros(_TRACED, dtype=torch.from_numpy(like).dtype)
    outputs = OUTPUTS[:5 if detector.with_mask else 4]
    network = Network(detector).eval()
    threshold = float(network.score_threshold)
    network.score_threshold.fill_(ALONE)
    names = {IMAGES: {0: 'batch', 2: 'height', 3: 'width'},
             **{name: {0: 'detections'} for name in outputs}}
    with warnings.catch_warnings(), torch.no_grad():
        # Of every size that becomes a number in Python, and of the end of
        # this exporter. The other one took 50 to 108 s instead of 2 to 6, and
        # cannot export two stages; what a trace has fixed is found by the
        # images of other sizes.
        warnings.simplefilter('ignore')
        try:
            torch.onnx.export(
                network, (images,), str(path),
                dynamo=False, opset_version=OPSET, input_names=[IMAGES],
                output_names=list(outputs), dynamic_axes=names)
        # An operator that ONNX lacks, or one that a trace cannot follow.
        except (RuntimeError, ValueError, TypeError, NotImplementedError,
                torch.onnx.errors.OnnxExporterError) as error:
            raise NotExportable(
                f'{type(detector).__name__} cannot be exported: PyTorch says '
                f'{type(error).__name__}: {first_line(error)}.') from error
    lower_threshold(path, path, threshold)
