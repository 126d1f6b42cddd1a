"""Dense heads, for mechanisms that compare classification scores."""
from typing import Any, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn

from mtpd.compat.operators import MissingOperator

from .pyramid import dry_pass, once_per_detector


def dense_head(detector: BaseDetector) -> nn.Module:
    """The head that classifies every position: a one-stage detector's box
    head, a two-stage detector's RPN.

    Raises:
        ValueError: The detector has neither.
    """
    for name in ('rpn_head', 'bbox_head'):
        # getattr would also find a RoI head's parts in a two-stage detector.
        head = detector._modules.get(name)
        if head is not None:
            return head
    raise ValueError(f'{type(detector).__name__} has no dense head (bbox_head '
                     'or rpn_head) to compare. Choose a mechanism on feature '
                     'maps.')


def score_maps(output: Sequence[Any]) -> tuple[Tensor, ...]:
    """The classification maps in a dense head's output: mmdet's heads return
    them first, one per level."""
    return tuple(output[0])


@once_per_detector
def score_channels(detector: BaseDetector) -> dict[int, int]:
    """Stride -> channels (anchors x classes) of a dense head's classification
    maps, from one dry pass whose maps are replaced by noise.

    Raises:
        ValueError: The detector has no dense head, or this one does not give
            one score before the sigmoid for each anchor and class.
    """
    head = dense_head(detector)
    kind = type(head).__name__

    def scores_of_noise(features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        # Of a black image, an RPN's scores can all lie between 0 and 1.
        return score_maps(head(tuple(
            10 * torch.randn_like(feature) for feature in features)))

    try:
        strides, maps = dry_pass(detector, scores_of_noise)
    except (NotImplementedError, TypeError) as error:
        reason = f'cannot make them here: {error}' \
            if isinstance(error, MissingOperator) \
            else 'makes none of feature maps alone'
        raise ValueError('mtpd.distill compares classification maps, and '
                         f'{kind} {reason}. {_CURE}') from error
    channels = {s: m.shape[1] for s, m in zip(strides, maps, strict=True)}
    reason = _no_logits(head, maps)
    if reason:
        raise ValueError('mtpd.distill compares scores before the sigmoid, '
                         f'and {kind} {reason}. {_CURE}')
    return channels


def _no_logits(head: nn.Module, maps: Sequence[Tensor]) -> str:
    """What a head's first output is instead of one score before the sigmoid
    for each anchor and class; empty if it is that."""
    if not getattr(head, 'use_sigmoid_cls', True):
        return 'uses a softmax'
    anchors = getattr(head, 'num_base_priors', None)
    classes = getattr(head, 'num_classes', None)
    if isinstance(anchors, int) and isinstance(classes, int) and any(
            one.shape[1] != anchors * classes for one in maps):
        return f'makes {maps[0].shape[1]} maps of {anchors} anchors and ' \
            f'{classes} classes'
    # Those of TOOD and CenterNet are.
    if all(one.min() >= 0 and one.max() <= 1 for one in maps):
        return 'makes probabilities'
    return ''


_CURE = 'Choose a mechanism on feature maps.'


def check_heads_agree(student: BaseDetector, teacher: BaseDetector,
                      strides: tuple[int, ...], name: str) -> None:
    """Check that the scores of two heads have the same meaning.

    Args:
        student: The student.
        teacher: The teacher.
        strides: The paired levels.
        name: The teacher's field, for messages (``teachers.htc``).

    Raises:
        ValueError: One is an RPN and the other a detector's box head, or
            their maps have other channels, or see :func:`score_channels`.
    """
    def describe(detector: BaseDetector) -> str:
        channels = score_channels(detector)
        paired = {s: channels.get(s) for s in strides}
        return f'{type(dense_head(detector)).__name__} {paired}'

    same_role = ('rpn_head' in student._modules) \
        == ('rpn_head' in teacher._modules)
    own, other = score_channels(student), score_channels(teacher)
    if not same_role or any(own.get(s) != other.get(s) for s in strides):
        raise ValueError(
            f'mtpd.distill compares classification maps, and the heads of '
            f'{name} and of the student do not agree (stride: anchors x '
            f'classes): {describe(teacher)}, the student '
            f'{describe(student)}. Choose a teacher with the same head and '
            'classes, or a mechanism on feature maps.')
