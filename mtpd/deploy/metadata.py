"""What a file says of itself, and the one number in it that is changed."""
import json
from pathlib import Path
from typing import Any, Mapping

import mmdet
import numpy as np
from mmdet.models.detectors import BaseDetector

from mtpd.predict.test_set import class_names
from mtpd.version import __version__

from .network import THRESHOLD, test_cfg_of

ALONE = -12345.678
"""A score threshold that no other constant of a detector equals.

PyTorch and onnxruntime make one constant of all that have one value, such as
0 or the 1 that a scale begins with. Another threshold, written into such a
file, would change whatever else has its value. So files are made with this
one, and get theirs afterwards."""


def describe(detector: BaseDetector, meta: Mapping[str, Any],
             steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The metadata, plain values.

    Args:
        detector: What is exported.
        meta: ``classes`` and ``palette`` of the data set.
        steps: From an image file to the input.
    """
    test_cfg = test_cfg_of(detector)
    head = getattr(detector, 'bbox_head', None) or detector.rpn_head
    reads_float = steps[0].get('to_float32', False)
    sizes = [step.get('size') or step.get('scale') for step in steps]
    return {
        'detector': type(detector).__name__,
        'precision': 'float32',
        'classes': list(class_names(meta)),
        'palette': meta.get('palette'),
        'input': f'{"float32" if reads_float else "uint8"}, (batch, 3, height,'
                 ' width), BGR, not normalised',
        # Width and height, as mmdet writes the scale of a Resize.
        'input_size': next((size for size in sizes[::-1] if size), None),
        'pipeline': steps[:-1],
        'strides': [max(stride) for stride in head.prior_generator.strides],
        'pad_size_divisor': detector.data_preprocessor.pad_size_divisor,
        'score_thr': test_cfg.get('score_thr', 0),
        'mask_threshold': test_cfg.get('mask_thr_binary'),
        'mtpd': __version__, 'mmdet': mmdet.__version__}


def write_metadata(path: Path, about: Mapping[str, Any]) -> None:
    """Put values into a file, each as JSON."""
    import onnx
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {
        key: json.dumps(value) for key, value in about.items()})
    onnx.save(model, path)


def lower_threshold(source: Path, target: Path, value: float) -> None:
    """Write a file with another score that a box has to pass.

    Args:
        source: The file.
        target: The file to write.
        value: The score.
    """
    import onnx
    model = onnx.load(source)
    threshold, = (one for one in model.graph.initializer
                  if one.name.split('.')[-1] == THRESHOLD)
    threshold.CopyFrom(onnx.numpy_helper.from_array(
        np.array(value, np.float32), threshold.name))
    onnx.save(model, target)
