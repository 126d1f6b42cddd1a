"""The boxes of heads that predict at every position of their maps."""
from typing import NamedTuple, Sequence

import torch
from mmdet.models.dense_heads import GFLHead, RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import Tensor

from .candidates import Candidates, best, clip, pick, rows
from .priors import levels_of, priors_at


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
    factors = outs[2] if len(outs) > 2 else [None] * len(outs[0])
    levels = [_level(head, threshold, *level)
              for level in zip(*outs[:2], factors, strict=True)]
    positions = [level.positions for level in levels]
    priors = priors_at(head.prior_generator, outs[0], positions)
    # What every level has in common is done once: on small images, most of
    # the time goes into the number of operators.
    scores, places, at, deltas = (
        torch.cat(parts, 1) for parts in zip(*(level[:4] for level in levels),
                                             strict=True))
    boxes = _boxes(head, priors, deltas, positions)
    if getattr(head.bbox_coder, 'clip_border', True):
        boxes = clip(boxes, size)
    valid = _taking_part(head, scores, boxes, threshold)
    weights = [one.factors for one in levels if one.factors is not None]
    if weights:
        scores = scores * torch.cat(weights, 1)[..., 0].sigmoid()
    groups = levels_of(positions) if isinstance(head, RPNHead) \
        else places - at * _classes(head)
    return Candidates(boxes, scores, groups, valid)


class _Level(NamedTuple):
    """The best of one level: (B, K) or (B, K, D), after one another.

    Attributes:
        scores: After the activation.
        places: Of the scores: position times the number of classes plus
            class.
        positions: Of the priors.
        deltas: What the head says of the box, D as its coder has it.
        factors: Such as a centerness, before its activation; None without.
    """
    scores: Tensor
    places: Tensor
    positions: Tensor
    deltas: Tensor
    factors: Tensor | None


def _level(head: BaseDenseHead, threshold: Tensor | None, scores: Tensor,
           deltas: Tensor, factor: Tensor | None) -> _Level:
    """The best of one level.

    Args:
        threshold: See :func:`dense_candidates`.
        scores: (B, A * C, H, W), before the activation.
        deltas: (B, A * D, H, W).
        factor: (B, A, H, W), such as a centerness, before its activation.
    """
    scores = rows(scores, head.cls_out_channels)
    if head.use_sigmoid_cls:
        scores = scores.sigmoid()
    else:  # without the background
        scores = scores.softmax(-1)[..., :-1]
    scores, places = best(scores.flatten(1), head.test_cfg.get('nms_pre', -1),
                          threshold)
    # No place is below zero, where the two ways of rounding would differ.
    positions = torch.div(places, _classes(head), rounding_mode='trunc')
    width = 4 * (head.reg_max + 1) if isinstance(head, GFLHead) \
        else head.bbox_coder.encode_size
    return _Level(scores, places, positions,
                  pick(rows(deltas, width), positions),
                  None if factor is None else pick(rows(factor, 1),
                                                   positions))


def _taking_part(head: BaseDenseHead, scores: Tensor, boxes: Tensor,
                 threshold: Tensor | None) -> Tensor:
    """Which boxes score enough, before any factor, and are large enough,
    (B, N)."""
    valid = torch.ones_like(scores, dtype=torch.bool) if threshold is None \
        else scores > threshold
    smallest = head.test_cfg.get('min_bbox_size', -1)
    if smallest >= 0:
        sides = boxes[..., 2:] - boxes[..., :2]
        valid = valid & (sides > smallest).all(-1)
    return valid


def _boxes(head: BaseDenseHead, priors: Tensor, deltas: Tensor,
           positions: Sequence[Tensor]) -> Tensor:
    """Boxes (B, N, 4) of all levels, by the head's coder."""
    # Without max_shape: with it, mmdet's coders import mmdet.core in an
    # export, which is not there since mmdet 3.
    if not isinstance(head, GFLHead):
        return head.bbox_coder.decode(priors, deltas, max_shape=None)
    # A side's distance is the mean of a distribution over distances.
    strides = torch.tensor([wide for wide, _ in head.prior_generator.strides],
                           dtype=deltas.dtype)
    distances = head.integral(deltas).reshape(deltas.shape[0], -1, 4)
    return head.bbox_coder.decode(
        head.anchor_center(priors),
        distances * strides[levels_of(positions)][..., None], max_shape=None)


def _classes(head: BaseDenseHead) -> int:
    """The classes that a head has scores for, without the background."""
    return int(head.cls_out_channels - (not head.use_sigmoid_cls))
