"""The second stage of Faster and Mask R-CNN."""
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn
from torchvision.ops import roi_align

from .candidates import Candidates, Kept, clip


class RoIStage(nn.Module):
    """From proposals to boxes, and from boxes to masks.

    Args:
        head: Of a kind that :mod:`mtpd.deploy.support` lets pass.
    """

    def __init__(self, head: StandardRoIHead) -> None:
        super().__init__()
        self._head = head
        self.has_masks = head.with_mask

    def candidates(self, maps: tuple[Tensor, ...], proposals: Kept,
                   images: Tensor, size: Tensor, threshold: Tensor
                   ) -> Candidates:
        """The boxes of all classes, as mmdet's ``BBoxHead`` decodes them.

        Args:
            maps: Of the neck.
            proposals: Of the first stage.
            images: The network's input, for the size of the batch.
            size: (2,), an image's height and width without padding.
            threshold: Score that a box has to pass, a scalar.
        """
        head = self._head.bbox_head
        scores, deltas = head(_features(self._head.bbox_roi_extractor, maps,
                                        proposals))
        classes = head.num_classes
        scores = scores.softmax(-1)[:, :classes]
        repeats = 1 if head.reg_class_agnostic else classes
        boxes = head.bbox_coder.decode(
            proposals.boxes[:, None].expand(-1, repeats, -1).reshape(-1, 4),
            deltas.reshape(-1, 4), max_shape=None)
        if head.bbox_coder.clip_border:
            boxes = clip(boxes, size)
        boxes = boxes.reshape(-1, repeats, 4).expand(-1, classes, -1)
        rows, labels = (scores > threshold).nonzero().unbind(1)
        # The few that pass stand in a row for every image of the batch, and
        # each image sees its own.
        batch = images.shape[0]
        valid = proposals.images[rows] == torch.arange(batch)[:, None]
        return Candidates(boxes[rows, labels].expand(batch, -1, -1),
                          scores[rows, labels].expand(batch, -1),
                          labels.expand(batch, -1), valid)

    def masks(self, maps: tuple[Tensor, ...], kept: Kept) -> Tensor:
        """The mask of each box within it, (M, h, w), from 0 to 1."""
        head = self._head.mask_head
        masks = head(_features(self._head.mask_roi_extractor, maps, kept))
        if head.class_agnostic:
            return masks[:, 0].sigmoid()
        labels = kept.groups[:, None, None, None].expand(
            -1, 1, *masks.shape[2:])
        return masks.gather(1, labels)[:, 0].sigmoid()


def _features(extractor: SingleRoIExtractor, maps: tuple[Tensor, ...],
              kept: Kept) -> Tensor:
    """The part of the maps in each box, (M, C, h, w), each of the level that
    mmdet takes it from.

    mmdet's own loop leaves out a level without boxes, which a trace would fix
    at what the traced image had.
    """
    rois = torch.cat([kept.images[:, None].to(kept.boxes), kept.boxes], 1)
    layers = extractor.roi_layers
    levels = extractor.map_roi_levels(rois, len(layers))
    parts, order = [], []
    for number, (layer, level) in enumerate(zip(
            layers, maps[:extractor.num_inputs], strict=True)):
        places = (levels == number).nonzero()[:, 0]
        parts.append(roi_align(
            level, rois[places], layer.output_size, layer.spatial_scale,
            layer.sampling_ratio, layer.aligned))
        order.append(places)
    return torch.cat(parts)[torch.cat(order).argsort()]
