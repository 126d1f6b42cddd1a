"""Boxes that a head proposes, and which of them stay, in operators of ONNX.

mmdet's own decoding decides in Python by values (is there a box at all, are
there more than ``nms_pre``), which a trace would fix at what the traced image
had. Here the same decisions are made by tensors.
"""
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.onnx.utils import register_custom_op_symbolic
from torch.onnx.symbolic_helper import parse_args
from torchvision.ops import nms

# Below every score; NonMaxSuppression leaves out what is not above _LIMIT.
_LEFT_OUT, _LIMIT = -1., -.5


class Candidates(NamedTuple):
    """The boxes of a batch before non-maximum suppression.

    Attributes:
        boxes: (B, N, 4), x1, y1, x2, y2 in pixels of the network's input.
        scores: (B, N).
        groups: (B, N), int64: the label, or the level of a proposal. Boxes
            of different groups do not suppress one another.
        valid: (B, N), which ones take part.
    """
    boxes: Tensor
    scores: Tensor
    groups: Tensor
    valid: Tensor


class Kept(NamedTuple):
    """What is left, image after image, best score first.

    Attributes:
        boxes: (M, 4).
        scores: (M,).
        groups: (M,), int64.
        images: (M,), int64: the image's place in its batch.
    """
    boxes: Tensor
    scores: Tensor
    groups: Tensor
    images: Tensor


class Suppression(NamedTuple):
    """The last step of mmdet's test_cfg.

    Attributes:
        iou: Above which the box with the lower score goes.
        most: Boxes kept in an image.
        by_group: Whether boxes of different groups leave one another alone.
    """
    iou: float
    most: int
    by_group: bool

    def keep(self, found: Candidates) -> Kept:
        """The boxes that stay."""
        boxes = found.boxes
        if self.by_group:
            # mmcv moves the groups apart by the largest coordinate of the
            # boxes that take part. With another number, IoUs would be rounded
            # another way.
            inside = torch.where(found.valid[..., None], boxes,
                                 torch.zeros_like(boxes)).flatten(1)
            # There may be no box, and nothing has no largest coordinate.
            padded = torch.cat([inside, inside.new_zeros(inside.shape[0], 1)],
                               1)
            size = padded.amax(1)[:, None, None] + 1
            boxes = boxes + found.groups[..., None].to(boxes) * size
        scores = torch.where(found.valid, found.scores,
                             torch.full_like(found.scores, _LEFT_OUT))
        images, _, places = suppress(
            boxes, scores[:, None], self.iou, self.most).unbind(1)
        return Kept(found.boxes[images, places], found.scores[images, places],
                    found.groups[images, places], images)


@torch.library.custom_op('mtpd::suppress', mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """ONNX's NonMaxSuppression, which takes a whole batch.

    torchvision's, which has no batch, would be traced for as many images as
    the traced batch has.

    Args:
        boxes: (B, N, 4).
        scores: (B, 1, N).
        iou: Above which the box with the lower score goes.
        most: Boxes kept in an image.

    Returns:
        (M, 3), int64: image, 0 and place of each box kept.
    """
    rows = []
    for image in range(len(boxes)):
        places = (scores[image, 0] > _LIMIT).nonzero()[:, 0]
        places = places[nms(boxes[image, places], scores[image, 0, places],
                            iou)][:most]
        zeros = torch.zeros_like(places)
        rows.append(torch.stack([zeros + image, zeros, places], 1))
    return torch.cat(rows)


@parse_args('v', 'v', 'f', 'i')
def _in_the_file(g: Any, boxes: Any, scores: Any, iou: float, most: int
                 ) -> Any:
    def constant(value: float, dtype: torch.dtype) -> Any:
        return g.op('Constant', value_t=torch.tensor([value], dtype=dtype))
    return g.op('NonMaxSuppression', boxes, scores,
                constant(most, torch.int64), constant(iou, torch.float32),
                constant(_LIMIT, torch.float32))


register_custom_op_symbolic('mtpd::suppress', _in_the_file, 11)


def best(scores: Tensor, most: int, threshold: Tensor | None
         ) -> tuple[Tensor, Tensor]:
    """The highest scores of each image, all if there are fewer.

    Args:
        scores: (B, N).
        most: Their number; below 1 for all.
        threshold: A scalar: no more than the image has above it that has most
            of them, and one at least. What follows takes as long as there are
            scores left, and few images have a thousand. None for no limit.

    Returns:
        Scores and places, (B, K) each.
    """
    number = torch._shape_as_tensor(scores)[1]
    if most > 0:
        number = torch.minimum(number, torch.tensor(most))
    if threshold is not None:
        above = (scores > threshold).sum(1, dtype=torch.int32).amax().long()
        number = torch.minimum(number, above.clamp(min=1))
    return scores.topk(number, dim=1)  # type: ignore[arg-type]  # as traced


@torch.library.custom_op('mtpd::pick', mutates_args=())
def pick(values: Tensor, places: Tensor) -> Tensor:
    """Rows of (B, N, D) at places (B, K): (B, K, D).

    One operator of ONNX; the trace of PyTorch's would be a dozen."""
    return values.gather(1, places[..., None].expand(-1, -1,
                                                     values.shape[2]))


@parse_args('v', 'v')
def _pick_in_the_file(g: Any, values: Any, places: Any) -> Any:
    last = g.op('Constant', value_t=torch.tensor([-1]))
    return g.op('GatherND', values, g.op('Unsqueeze', places, last),
                batch_dims_i=1)


@torch.library.custom_op('mtpd::rows', mutates_args=())
def rows(level: Tensor, width: int) -> Tensor:
    """(B, A * width, H, W) as (B, H * W * A, width).

    Two operators of ONNX; the trace would compute its shape by ten."""
    moved = level.permute(0, 2, 3, 1)
    return moved.reshape(level.shape[0], -1, width).clone()


@parse_args('v', 'i')
def _rows_in_the_file(g: Any, level: Any, width: int) -> Any:
    shape = g.op('Constant', value_t=torch.tensor([0, -1, width]))
    return g.op('Reshape', g.op('Transpose', level, perm_i=[0, 2, 3, 1]),
                shape)


register_custom_op_symbolic('mtpd::pick', _pick_in_the_file, 12)
register_custom_op_symbolic('mtpd::rows', _rows_in_the_file, 9)


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """Boxes (..., 4) within an image.

    Args:
        size: (2,), its height and width before it was padded, as mmdet's
            ``img_shape``. On BCCD, clipping to the padded size cost 0.4 AP.
    """
    return torch.minimum(boxes.clamp(min=0), size[[1, 0, 1, 0]].to(boxes))
