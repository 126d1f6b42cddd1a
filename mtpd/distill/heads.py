"""Dense heads, for mechanisms that compare what detectors say of an image."""
from typing import Any, Mapping, Sequence

from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn

from .pyramid import dry_pass


def dense_head(detector: BaseDetector) -> nn.Module:
    """The head that classifies every position: a one-stage detector's box
    head, a two-stage detector's RPN.

    Raises:
        ValueError: The detector has neither.
    """
    for name in ('rpn_head', 'bbox_head'):
        # A two-stage detector answers for its RoI head's parts as well.
        head = detector._modules.get(name)
        if head is not None:
            return head
    raise ValueError(f'{type(detector).__name__} has no dense head (bbox_head '
                     'or rpn_head) that could be compared.')


def score_maps(output: Sequence[Any]) -> tuple[Tensor, ...]:
    """The classification maps among what a dense head returns: mmdet's heads
    return them first, one per level."""
    return tuple(output[0])


def score_channels(detector: BaseDetector) -> dict[int, int]:
    """Stride -> channels (anchors x classes) of a dense head's classification
    maps, seen in one dry pass.

    Raises:
        ValueError: The detector has no dense head.
    """
    head = dense_head(detector)
    strides, maps = dry_pass(detector, lambda features: score_maps(
        head(features)))
    return {s: m.shape[1] for s, m in zip(strides, maps, strict=True)}


def check_heads_agree(student: BaseDetector, teacher: BaseDetector,
                      strides: tuple[int, ...], name: str) -> None:
    """Refuse heads whose scores do not mean the same.

    Args:
        student: The student.
        teacher: The teacher.
        strides: The paired levels.
        name: The teacher's field, for messages (``teachers.htc``).

    Raises:
        ValueError: One is an RPN and the other a detector's box head, or
            their maps have other channels, or they are no sigmoids.
    """
    heads = dense_head(student), dense_head(teacher)
    kinds = [type(h).__name__ for h in heads]
    roles = ['rpn_head' in d._modules for d in (student, teacher)]
    own, other = score_channels(student), score_channels(teacher)

    def said(kind: str, channels: Mapping[int, int]) -> str:
        return f'{kind} {({s: channels.get(s) for s in strides})}'

    if roles[0] != roles[1] or any(own.get(s) != other.get(s)
                                   for s in strides):
        raise ValueError(
            f'mtpd.distill compares classification maps, and the heads of '
            f'{name} and of the student do not agree (stride: anchors x '
            f'classes): {said(kinds[1], other)}, the student '
            f'{said(kinds[0], own)}. Choose a teacher with the same head and '
            'classes, or a mechanism on feature maps.')
    for kind, head in zip(kinds, heads, strict=True):
        if not getattr(head, 'use_sigmoid_cls', True):
            raise ValueError(f'mtpd.distill compares sigmoid scores, and '
                             f'{kind} uses a softmax. Choose a mechanism on '
                             'feature maps.')
