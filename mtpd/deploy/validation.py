"""The AP of a file and that of its detector, on one test set."""
import math
import re
from pathlib import Path
from typing import Any, Mapping

from mmengine.config import Config
from torch import nn

from mtpd.predict.evaluation import test_runner
from mtpd.predict.onnx_file import OnnxDetector
from mtpd.predict.onnx_predictor import in_original_pixels
from mtpd.predict.test_set import use_validation_set

from .support import NotExportable

ROUNDING_AP, EIGHT_BITS_AP = .001, .02
"""How far the AP of a file may be from that of its detector."""


class FileAsDetector(nn.Module):
    """A file in the place of a detector in the loops of tests.

    Args:
        model: The file.
    """

    def __init__(self, model: OnnxDetector) -> None:
        super().__init__()
        self._model = model

    @property
    def about(self) -> dict[str, Any]:
        """The file's metadata, by name."""
        return self._model.about

    def val_step(self, data: dict[str, Any]) -> list[Any]:
        """The samples of a batch with what was found in them.

        Args:
            data: ``inputs``, one (3, H, W) an image, and ``data_samples``.
        """
        samples: list[Any] = data['data_samples']
        for image, sample in zip(data['inputs'], samples, strict=True):
            found, = self._model(image.numpy()[None])
            sample.pred_instances = in_original_pixels(
                found, sample.metainfo, self._model.about)
        return samples

    test_step = val_step


def both_metrics(cfg: Config, checkpoint: str, path: Path,
                 most: float) -> dict[str, tuple[float, float]]:
    """By name, the metrics of a detector and of its file on the config's test
    set, or else its validation set.

    Args:
        cfg: Of the detector, with ``work_dir``. It is changed.
        checkpoint: File or URL.
        path: The file.
        most: How far two APs may be apart, from 0 to 1.

    Raises:
        NotExportable: They are further apart.
        UnusableInput, CheckpointMismatch: See
            :func:`mtpd.predict.evaluate_checkpoint`.
    """
    cfg['log_level'] = 'WARNING'
    use_validation_set(cfg)
    # Images of one batch are padded to one size, which moves boxes a little.
    cfg.test_dataloader.batch_size = 1
    runner = test_runner(cfg, checkpoint)
    of_detector = runner.test()
    runner.model = FileAsDetector(OnnxDetector(str(path)))
    of_file = runner.test_loop.run()
    metrics = {}
    # mmdet's metrics of COCO have no entry where no box was found at all.
    for name in (*of_detector, *of_file):
        metrics[name] = (float(of_detector.get(name, 0)),
                         float(of_file.get(name, 0)))
    for name, (one, other) in _precisions(metrics).items():
        if not abs(one - other) <= most:  # also of what is no number
            raise NotExportable(
                f'{name} is {other:.3f} by the file and {one:.3f} by the '
                f'detector, more than {most} apart. It was not written.')
    return metrics


def decide(metrics: Mapping[str, tuple[float, float]]) -> bool:
    """Whether an AP is among the metrics of :func:`both_metrics`.

    There is none without labels, or in a format for a server.

    Args:
        metrics: Empty if none were compared.
    """
    return bool(_precisions(metrics))


def _precisions(metrics: Mapping[str, tuple[float, float]]
                ) -> dict[str, tuple[float, float]]:
    """Those that are an AP over all classes, such as ``coco/bbox_mAP`` and
    ``lvis/bbox_AP``, but for those of a test set without boxes, which are -1
    or no number in both."""
    return {name: pair for name, pair in metrics.items()
            if re.search(r'(^|[/_])m?AP$', name) and any(
                math.isfinite(value) and value >= 0 for value in pair)}
