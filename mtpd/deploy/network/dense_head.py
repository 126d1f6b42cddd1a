"""The boxes of heads that predict at every position of their maps."""
import torch
from mmdet.models.dense_heads import GFLHead, RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import Tensor

from .candidates import Candidates, best, clip, pick


def dense_candidates(head: BaseDenseHead, maps: tuple[Tensor, ...],
                     size: Tensor, threshold: Tensor | None) -> Candidates:
    """What a head proposes, as mmdet's ``_predict_by_feat_single`` before its
    non-maximum suppression.

    Args:
        head: Of a kind that :mod:`mtpd.deploy.support` lets pass.
        maps: Of the neck.
        size: (2,), the image's height and width without padding.
        threshold: Score that a box has to pass, a scalar; None for a region
            proposal network, which has none, and whose groups are levels.
    """
    outs = head(maps)
    scores, deltas = outs[:2]
    factors = outs[2] if len(outs) > 2 else [None] * len(scores)
    priors = head.prior_generator.grid_priors(
        [level.shape[-2:] for level in scores], dtype=scores[0].dtype,
        device=scores[0].device)
    levels = [
        _level(head, number, *level, threshold) for number, level in
        enumerate(zip(scores, deltas, factors, priors, strict=True))]
    boxes, *rest = (torch.cat(parts, 1)
                    for parts in zip(*levels, strict=True))
    if getattr(head.bbox_coder, 'clip_border', True):
        boxes = clip(boxes, size)
    found = Candidates(boxes, *rest)
    smallest = head.test_cfg.get('min_bbox_size', -1)
    if smallest < 0:
        return found
    sides = found.boxes[..., 2:] - found.boxes[..., :2]
    return found._replace(valid=found.valid & (sides > smallest).all(-1))


def _level(head: BaseDenseHead, number: int, scores: Tensor, deltas: Tensor,
           factor: Tensor | None, priors: Tensor, threshold: Tensor | None
           ) -> Candidates:
    """The best of one level.

    Args:
        number: Of the level.
        scores: (B, A * C, H, W), before the activation.
        deltas: (B, A * D, H, W).
        factor: (B, A, H, W), such as a centerness, before its activation.
        priors: (H * W * A, 2 or 4).
    """
    classes = head.cls_out_channels
    scores = _rows(scores, classes)
    if head.use_sigmoid_cls:
        scores = scores.sigmoid()
    else:  # without the background
        scores, classes = scores.softmax(-1)[..., :-1], classes - 1
    scores = scores.flatten(1)
    if threshold is None:
        valid = torch.ones_like(scores, dtype=torch.bool)
    else:
        valid = scores > threshold
        scores = torch.where(valid, scores, torch.zeros_like(scores) - 1)
    scores, places = best(scores, head.test_cfg.get('nms_pre', -1))
    valid = valid.gather(1, places)
    positions = torch.div(places, classes, rounding_mode='floor')
    labels = places - positions * classes
    decode = _by_distribution if isinstance(head, GFLHead) else _by_coder
    boxes = decode(head, number, deltas, priors, positions)
    if factor is not None:
        scores = scores * pick(_rows(factor, 1), positions)[..., 0].sigmoid()
    if isinstance(head, RPNHead):
        labels = torch.full_like(labels, number)
    return Candidates(boxes, scores, labels, valid)


def _rows(level: Tensor, width: int) -> Tensor:
    """(B, A * width, H, W) as (B, H * W * A, width)."""
    return level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, width)


def _by_coder(head: BaseDenseHead, number: int, deltas: Tensor,
              priors: Tensor, positions: Tensor) -> Tensor:
    """Boxes (B, K, 4) at places (B, K) of a level, by the head's coder."""
    # Without max_shape: with it, mmdet's coders import mmdet.core in an
    # export, which is not there since mmdet 3.
    return head.bbox_coder.decode(
        priors[positions],
        pick(_rows(deltas, head.bbox_coder.encode_size), positions),
        max_shape=None)


def _by_distribution(head: GFLHead, number: int, deltas: Tensor,
                     priors: Tensor, positions: Tensor) -> Tensor:
    """GFL: a side's distance is the mean of a distribution over distances."""
    spread = pick(_rows(deltas, 4 * (head.reg_max + 1)), positions)
    distances = head.integral(spread).reshape(positions.shape[0], -1, 4)
    return head.bbox_coder.decode(
        head.anchor_center(priors)[positions],
        distances * head.prior_generator.strides[number][0], max_shape=None)
