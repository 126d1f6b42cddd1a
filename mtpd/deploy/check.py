"""Whether a file finds what its detector finds."""
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mtpd.predict.onnx_file import OnnxDetector, first_line
from mtpd.predict.onnx_predictor import in_original_pixels

from .agreement import Agreement, Tolerance, agreement_of, in_all
from .network import test_cfg_of
from .support import NotExportable

# Below, a check says little.
_ENOUGH = 20


class Batch(NamedTuple):
    """Images for a check.

    Attributes:
        name: What the table calls them.
        images: (B, 3, H, W) as the network takes them.
    """
    name: str
    images: np.ndarray


def expected_boxes(detector: BaseDetector, batches: Sequence[Batch]
                   ) -> tuple[float, list[list[InstanceData]]]:
    """What mmdet finds.

    A detector that finds hardly anything in these images is asked again with
    a lower ``score_thr``: two empty lists agree and say nothing.

    Returns:
        The ``score_thr``, and by batch the detections in each image.

    Raises:
        NotExportable: There is no box whatever the score, or mmdet fails.
    """
    test_cfg = test_cfg_of(detector)
    own = test_cfg.get('score_thr', 0)
    try:
        for threshold in (own, own / 10, own / 100, 0.):
            test_cfg['score_thr'] = threshold
            found = [_by_mmdet(detector, batch.images) for batch in batches]
            boxes = sum(len(one) for batch in found for one in batch)
            if boxes >= _ENOUGH:
                break
    finally:
        test_cfg['score_thr'] = own
    if not boxes:
        raise NotExportable(
            'The detector finds no box in any image, whatever its score, so '
            'that the file cannot be compared with it. Name the checkpoint '
            'of a trained detector.')
    return threshold, found


def compare(path: Path, batches: Sequence[Batch],
            expected: Sequence[Sequence[InstanceData]], within: Tolerance,
            ) -> list[Agreement]:
    """What a file finds in the same images, by name of the batches.

    Args:
        path: The file, with the ``score_thr`` of :func:`expected_boxes`.
        batches: The images.
        expected: Of mmdet, by batch.
        within: What makes a pair.

    Raises:
        NotExportable: onnxruntime cannot run the file on them.
    """
    model = OnnxDetector(str(path))
    rows: dict[str, list] = {}
    for batch, wanted in zip(batches, expected, strict=True):
        shape = batch.images.shape
        try:
            detections = model(batch.images)
        except Exception as error:  # its errors have no common class but this
            raise NotExportable(
                f'onnxruntime fails on {shape[0]} image'
                f'{"s" * (shape[0] > 1)} of {shape[3]}x{shape[2]} '
                f'({first_line(error)}), so that a part of the detector works '
                'only for what it was traced with. It cannot be exported.') \
                from error
        for found, one in zip(detections, wanted, strict=True):
            rows.setdefault(batch.name, []).append(agreement_of(
                one, in_original_pixels(found, dict(ori_shape=shape[2:]),
                                        model.about), within))
    return [in_all(name, parts) for name, parts in rows.items()]


def _by_mmdet(detector: BaseDetector, images: np.ndarray
              ) -> list[InstanceData]:
    shape = images.shape[2:]
    samples = [DetDataSample(metainfo=dict(
        img_shape=shape, ori_shape=shape, scale_factor=(1., 1.)))
        for _ in images]
    try:
        with torch.no_grad():
            results = detector.test_step(dict(
                inputs=list(torch.from_numpy(images)), data_samples=samples))
    except Exception as error:  # whatever a detector may raise
        raise NotExportable(
            f'mmdet itself fails on {len(images)} image'
            f'{"s" * (len(images) > 1)} of {shape[1]}x{shape[0]}, with which '
            f'files are checked ({type(error).__name__}: '
            f'{first_line(error)}).') from error
    return [one.pred_instances for one in results]
