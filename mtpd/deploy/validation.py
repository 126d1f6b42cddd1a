"""The AP of a file and that of its detector, on one test set."""
from pathlib import Path
from typing import Any

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
    # A Runner takes the parts of a training together or not at all.
    for part in ('train_dataloader', 'train_cfg', 'optim_wrapper',
                 'param_scheduler'):
        cfg[part] = None
    use_validation_set(cfg)
    # Images of one batch are padded to one size, which moves boxes a little.
    cfg.test_dataloader.batch_size = 1
    runner = test_runner(cfg, checkpoint)
    of_detector = runner.test()
    runner.model = FileAsDetector(OnnxDetector(str(path)))
    of_file = runner.test_loop.run()
    for name, value in of_detector.items():
        if name.endswith('mAP') and abs(value - of_file[name]) > most:
            raise NotExportable(
                f'{name} is {of_file[name]:.3f} by the file and {value:.3f} '
                f'by the detector, more than {most} apart. It was not '
                'written.')
    return {name: (float(value), float(of_file[name]))
            for name, value in of_detector.items()}
