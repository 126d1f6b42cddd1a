"""Boxes for files by a detector in an ONNX file, without its config."""
from typing import Any

import numpy as np
import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from .inputs import UnusableInput
from .onnx_file import Found, OnnxDetector, first_line
from .predictor import BasePredictor
from .test_set import file_pipeline

STEPS = ('LoadImageFromFile', 'Resize', 'FixScaleResize', 'FixShapeResize',
         'Pad')
"""mmdet's transforms that a file can ask for. A file may come from anywhere,
and the name of a transform can be that of any class."""


class OnnxPredictor(BasePredictor):
    """A detector in a file of ``tools/export_onnx.py``.

    Args:
        path: The file.
        device: See :class:`OnnxDetector`.
        threshold: Detections with a lower score are left out.

    Raises:
        UnusableInput: The file or the device cannot be used.
    """

    def __init__(self, path: str, device: str, threshold: float) -> None:
        self._detector = OnnxDetector(path, device)
        about = self._detector.about
        init_default_scope('mmdet')
        steps = known_steps(about['pipeline'], path)
        try:
            reader, self._pipeline = file_pipeline(ConfigDict(pipeline=steps))
        except (TypeError, ValueError, AssertionError) as error:
            raise UnusableInput(
                f'{path} says how its images are read, but not as mmdet can '
                f'({first_line(error)}). Export the detector again.') \
                from error
        palette = about.get('palette')
        if isinstance(palette, list):  # mmengine takes a list of tuples only
            palette = list(map(tuple, palette))
        super().__init__(reader, {**about, 'palette': palette}, threshold)

    def predict(self, image: np.ndarray) -> DetDataSample:
        """See :meth:`BasePredictor.predict`."""
        packed = self._pipeline(dict(img=image, img_id=0))
        sample = packed['data_samples']
        found, = self._detector(packed['inputs'].numpy()[None])
        sample.pred_instances = in_original_pixels(
            found, sample.metainfo, self._detector.about)
        sample.pred_instances = sample.pred_instances[
            sample.pred_instances.scores >= self._threshold]
        return sample


def in_original_pixels(found: Found, shown: dict[str, Any],
                       about: dict[str, Any]) -> InstanceData:
    """Detections as mmdet gives them, in pixels of the image as it was read.

    Args:
        found: In one image.
        shown: ``ori_shape`` and ``scale_factor`` of the image.
        about: The file's metadata.
    """
    # The file knows only the image after the resize.
    width, height = shown.get('scale_factor', (1., 1.))
    instances = InstanceData(
        bboxes=torch.from_numpy(found.boxes) / torch.tensor(
            [width, height, width, height], dtype=torch.float32),
        scores=torch.from_numpy(found.scores),
        labels=torch.from_numpy(found.labels))
    if found.masks is not None:
        instances.masks = _pasted(torch.from_numpy(found.masks),
                                  instances.bboxes, shown['ori_shape'],
                                  about['mask_threshold'])
    return instances


def _pasted(masks: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int],
            threshold: float) -> torch.Tensor:
    """Masks of the whole image, (N, H, W), bool."""
    whole = torch.zeros(len(masks), *size[:2], dtype=torch.bool)
    for number in range(len(masks)):
        values, place = _do_paste_mask(
            masks[number, None, None], boxes[number, None], *size[:2])
        rows, columns = place
        whole[number, rows, columns] = values[0] >= threshold
    return whole


def known_steps(steps: list[dict[str, Any]], owner: str
                ) -> list[dict[str, Any]]:
    """A pipeline of :data:`STEPS`, up to the network's input.

    Args:
        steps: Of a test pipeline, or of a file.
        owner: Whose they are, for the message.

    Raises:
        UnusableInput: There is another step.
    """
    known = []
    for step in steps:
        kind = step['type'].rpartition('.')[2]
        if kind == 'PackDetInputs' or 'Annotations' in kind:
            continue
        if kind not in STEPS:
            raise UnusableInput(
                f'{owner} changes images by {kind}, which an exported '
                f'detector cannot ask for: it knows {", ".join(STEPS)}. Do '
                'without it in test_dataloader.dataset.pipeline.')
        colours = step.get('color_type', 'color')
        if kind == 'LoadImageFromFile' and not colours.startswith('color'):
            raise UnusableInput(
                f'{owner} reads images with color_type={colours!r}, and an '
                'exported detector takes images of three channels. Set '
                "color_type='color', with which grey images get three.")
        known.append({key: _with_tuples(value) for key, value in step.items()
                      if key != 'backend_args'} | {'type': kind})
    return [*known, dict(type='mmdet.PackDetInputs', meta_keys=(
        'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]


def _with_tuples(value: Any) -> Any:
    """The same with tuples for lists: mmcv takes only these, JSON only
    those."""
    if isinstance(value, dict):
        return {key: _with_tuples(one) for key, one in value.items()}
    return tuple(map(_with_tuples, value)) \
        if isinstance(value, (list, tuple)) else value
