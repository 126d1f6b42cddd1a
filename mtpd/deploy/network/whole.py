"""The whole way from an image to boxes as one module, to be traced."""
import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector, TwoStageDetector
from mmengine.config import ConfigDict
from torch import Tensor, nn

from .candidates import Suppression
from .dense_head import dense_candidates
from .roi_head import RoIStage

THRESHOLD = 'score_threshold'
"""Name of the buffer, and so of the value in the file."""


class Network(nn.Module):
    """A detector from the bytes of an image to its boxes.

    Normalisation, the order of channels and padding are its first steps,
    decoding and non-maximum suppression its last.

    Args:
        detector: In test mode; see :mod:`mtpd.deploy.support`.
    """

    def __init__(self, detector: BaseDetector) -> None:
        super().__init__()
        self.detector = detector
        self.stage = RoIStage(detector.roi_head) \
            if isinstance(detector, TwoStageDetector) else None
        self.score_threshold: Tensor
        self.register_buffer(THRESHOLD, torch.tensor(
            float(test_cfg_of(detector).get('score_thr', 0))))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Boxes, scores, labels, images, and, of a detector with masks, the
        masks within their boxes.

        Args:
            images: (B, 3, H, W), BGR, uint8 or float; of one size.

        Returns:
            (M, 4), (M,), (M,), (M,) and (M, h, w): of all images, one after
            the other, in each the best score first.
        """
        size = torch._shape_as_tensor(images)[2:]
        steps = self.detector.data_preprocessor
        if steps._channel_conversion:
            images = images[:, [2, 1, 0]]
        images = images.float()
        if steps._enable_normalize:
            images = (images - steps.mean) / steps.std
        height, width = images.shape[2:]
        divisor = steps.pad_size_divisor
        images = F.pad(images, (0, -width % divisor, 0, -height % divisor),
                       value=steps.pad_value)
        maps = self.detector.extract_feat(images)
        if self.stage is None:
            head = self.detector.bbox_head
            found = dense_candidates(head, maps, size, self.score_threshold)
            return suppression_of(head.test_cfg).keep(found)
        head = self.detector.rpn_head
        proposals = suppression_of(head.test_cfg).keep(
            dense_candidates(head, maps, size, None))
        found = self.stage.candidates(maps, proposals, images, size,
                                      self.score_threshold)
        kept = suppression_of(self.detector.roi_head.test_cfg).keep(found)
        if not self.stage.has_masks:
            return kept
        return *kept, self.stage.masks(maps, kept)


def test_cfg_of(detector: BaseDetector) -> ConfigDict:
    """What says which boxes are shown in the end."""
    return detector.roi_head.test_cfg \
        if isinstance(detector, TwoStageDetector) \
        else detector.bbox_head.test_cfg


def suppression_of(test_cfg: ConfigDict) -> Suppression:
    """Non-maximum suppression as a test_cfg asks for it."""
    nms = test_cfg.nms
    most = test_cfg.get('max_per_img') or -1
    return Suppression(
        iou=nms.get('iou_threshold', nms.get('iou_thr')),
        most=most if most > 0 else 2 ** 31 - 1,
        by_group=not nms.get('class_agnostic', False))
