"""A trained detector with the pipeline that its images go through."""
from abc import ABC, abstractmethod
from typing import Any, Mapping

import cv2
import numpy as np
from mmdet.apis import inference_detector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results
from mmdet.visualization import DetLocalVisualizer
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope

from mtpd.distill.detector import load_weights
from mtpd.plan.detectors import DetectorSpec, load_config

from .test_set import (class_names, file_pipeline, metainfo, test_dataset,
                       usable_device)

# What reading raises for a file that is no image, or none that OpenCV or
# Pillow can read.
UNREADABLE = (OSError, ValueError, AssertionError, AttributeError, cv2.error)


class BasePredictor(ABC):
    """What finds objects in images; its kinds differ in how.

    An image is read as the detector's test pipeline reads it: grey ones get
    three channels, 16 bits become 8, transparency is dropped, and an EXIF
    rotation is applied. Boxes are in pixels of the image as it was read.

    Args:
        reader: The transform that reads a file.
        meta: ``classes`` and ``palette`` of the data set, if they are known.
        threshold: Detections with a lower score are left out.

    Attributes:
        classes: Names of the labels; empty if they are not known.
    """

    def __init__(self, reader: Any, meta: Mapping[str, Any],
                 threshold: float) -> None:
        self._read = reader
        self._threshold = threshold
        self.classes = class_names(meta)
        palette = meta.get('palette')
        self._visualizer = DetLocalVisualizer('predictions')
        # A list of lists, as JSON and YAML have it, or of tuples.
        self._palette = palette if isinstance(palette, str) else \
            [colour if isinstance(colour, str) else tuple(colour)
             for colour in palette or ()] or 'random'

    def read(self, path: str) -> np.ndarray:
        """An image file, (H, W, 3), BGR.

        Raises:
            OSError, ValueError, AssertionError, AttributeError, cv2.error:
                One of :data:`UNREADABLE`: it is no image.
        """
        image = self._read(dict(img_path=path))['img']
        return image if image.ndim == 3 else np.dstack([image] * 3)

    @abstractmethod
    def predict(self, image: np.ndarray) -> DetDataSample:
        """The detections in an image.

        Args:
            image: (H, W, 3), BGR.
        """

    def draw(self, image: np.ndarray, sample: DetDataSample) -> np.ndarray:
        """The image with what :meth:`predict` returned, (H, W, 3), BGR."""
        labels = range(max(sample.pred_instances.labels.tolist(),
                           default=-1) + 1)
        named = len(labels) <= min(len(self.classes), len(self._palette))
        self._visualizer.dataset_meta = dict(
            # matplotlib would read what stands between two $ as a formula.
            classes=[self.name_of(label).replace('$', r'\$')
                     for label in labels],
            palette=self._palette if named else 'random')
        self._visualizer.add_datasample(
            'image', image[..., ::-1], sample, draw_gt=False,
            pred_score_thr=-1)  # what is left has passed the threshold
        return self._visualizer.get_image()[..., ::-1]

    def describe(self, sample: DetDataSample) -> list[dict[str, Any]]:
        """Plain values of the detections, highest score first.

        ``box`` is x1, y1, x2, y2 in pixels; ``mask``, where the detector has
        masks, is COCO's run-length code.
        """
        instances = sample.pred_instances
        instances = instances[instances.scores.argsort(descending=True)]
        masks = encode_mask_results(instances.masks.numpy()) \
            if 'masks' in instances else [None] * len(instances)
        described = []
        for label, score, box, mask in zip(
                instances.labels.tolist(), instances.scores.tolist(),
                instances.bboxes.tolist(), masks, strict=True):
            one = {'class': self.name_of(label), 'label': label,
                   'score': round(score, 4),
                   'box': np.round(box, 2).tolist()}
            if mask is not None:
                one['mask'] = {**mask, 'counts': mask['counts'].decode()}
            described.append(one)
        return described

    def name_of(self, label: int) -> str:
        """The name of a class; its number where it has none."""
        return self.classes[label] if label < len(self.classes) else str(label)


class Predictor(BasePredictor):
    """A detector, by its config and a checkpoint.

    Args:
        config: Config file, such as the ``student.py`` of a progression, or
            ``mmdet::family/name.py``.
        checkpoint: File or URL.
        device: As torch names it.
        threshold: Detections with a lower score are left out.

    Raises:
        UnusableInput: The config has no pipeline that reads files, or there is
            no such device.
        CheckpointMismatch: The checkpoint is of another model.
    """

    def __init__(self, config: str, checkpoint: str, device: str,
                 threshold: float) -> None:
        cfg = load_config(config)
        init_default_scope(cfg.get('default_scope') or 'mmdet')
        dataset = test_dataset(cfg)
        reader, self._pipeline = file_pipeline(dataset)
        detector = MODELS.build(DetectorSpec('student', cfg, checkpoint).model)
        load_weights(detector, checkpoint, 'the checkpoint')
        detector.cfg = cfg  # inference_detector looks into it
        self._detector = revert_sync_batchnorm(detector).to(
            usable_device(device)).eval()
        super().__init__(
            reader, {**metainfo(dataset), **detector.dataset_meta}, threshold)

    def predict(self, image: np.ndarray) -> DetDataSample:
        """See :meth:`BasePredictor.predict`."""
        sample = inference_detector(self._detector, image, self._pipeline)
        instances = sample.pred_instances.cpu()
        sample.pred_instances = instances[instances.scores >= self._threshold]
        return sample
