"""How long a detector takes for one image, where it will run."""
import tempfile
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
from mmdet.models.detectors import BaseDetector
from mmengine.model import revert_sync_batchnorm

from mtpd.predict.onnx_file import IMAGES
from mtpd.search.latency import timed

from .support import NotExportable, check_support
from .trace import trace_file

ROUNDS = 15
"""Timed passes of a detector; the fastest counts."""
Pass = Callable[[BaseDetector, Sequence[int]], Callable[[], Any]]
"""From a detector and an image's size to what is timed."""


class Milliseconds:
    """Measures detectors of one kind in onnxruntime, or else in PyTorch.

    The first detector decides: PyTorch measures where onnx or onnxruntime
    cannot be imported, or the detector cannot be exported.

    Args:
        size: Gives width and height of the image, in pixels.
        network_pass: As :func:`file_pass`, in PyTorch.

    Attributes:
        runtime: What has measured, for messages; empty before the first.
    """

    def __init__(self, size: Callable[[], Sequence[int]],
                 network_pass: Pass) -> None:
        self._size = size
        self._network_pass = network_pass
        self.runtime = ''

    def __call__(self, detector: BaseDetector) -> float:
        """The fastest of some passes, with all threads of the machine.

        In onnxruntime from the image's bytes to the boxes; in PyTorch without
        the decoding of boxes.

        Args:
            detector: Of any weights; it is put into eval mode.
        """
        run = self._pass(detector)
        run()
        return 1000 * min(timed(run) for _ in range(ROUNDS))

    def _pass(self, detector: BaseDetector) -> Callable[[], Any]:
        size = self._size()
        if self.runtime in ('', 'onnxruntime'):
            try:
                run = file_pass(detector, size)
            except (ImportError, NotExportable) as error:
                if self.runtime:
                    raise
                self.runtime = f'PyTorch (not onnxruntime: {error})'
            else:
                self.runtime = 'onnxruntime'
                return run
        return self._network_pass(detector, size)


def file_pass(detector: BaseDetector,
              size: Sequence[int]) -> Callable[[], Any]:
    """A function that runs one image through a detector's ONNX file.

    Args:
        detector: As for :class:`Milliseconds`.
        size: Width and height of the image, in pixels.

    Raises:
        ImportError: onnx or onnxruntime is not there.
        NotExportable: The detector has a part that a file cannot hold.
    """
    import onnx  # noqa: F401
    import onnxruntime
    detector = revert_sync_batchnorm(detector).cpu().eval()
    check_support(detector)
    width, height = size
    images = np.random.default_rng(0).integers(
        0, 256, (1, 3, height, width), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'float.onnx')
        trace_file(detector, images, path)
        session = onnxruntime.InferenceSession(
            str(path), providers=['CPUExecutionProvider'])
    return lambda: session.run(None, {IMAGES: images})
