"""Which steps of a pipeline a teacher's image can follow."""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmcv import transforms as mmcv_steps
from mmdet.datasets import transforms as mmdet_steps
from mmdet.registry import TRANSFORMS
from mmengine.registry import DefaultScope


# Exact classes: how a subclass differs cannot be known. The source of each
# class was read in mmdet 3.3.0 and mmcv 2.1.0.
WRAPPERS = frozenset({
    mmcv_steps.Compose, mmcv_steps.RandomChoice, mmcv_steps.RandomApply,
    mmdet_steps.RandomOrder, mmdet_steps.AutoAugment,
    mmdet_steps.RandAugment})
RESIZE = frozenset({mmdet_steps.Resize, mmdet_steps.FixScaleResize})
DRAWN_RESIZE = frozenset({
    mmcv_steps.RandomResize, mmcv_steps.RandomChoiceResize,
    mmdet_steps.ResizeShortestEdge})
# These hand OpenCV the matrix that they record, so that images move by it in
# OpenCV's coordinates and boxes by it in mmdet's: half a pixel apart wherever
# it turns or scales. The teacher follows the image.
WARP = frozenset({
    mmdet_steps.Rotate, mmdet_steps.ShearX, mmdet_steps.ShearY,
    mmdet_steps.TranslateX, mmdet_steps.TranslateY})
RESAMPLE = RESIZE | DRAWN_RESIZE | WARP | {mmdet_steps.RandomAffine}
GEOMETRIC = RESAMPLE | {
    mmdet_steps.RandomFlip, mmdet_steps.RandomCrop, mmdet_steps.Pad}
POINTWISE = frozenset({
    mmdet_steps.PhotoMetricDistortion, mmdet_steps.YOLOXHSVRandomAug,
    mmdet_steps.Color, mmdet_steps.Brightness, mmdet_steps.Solarize,
    mmdet_steps.SolarizeAdd, mmdet_steps.Posterize, mmdet_steps.Invert})
# Only before the first step that resamples. Contrast, Equalize and
# AutoContrast look at the whole image's grey levels and Sharpness at
# neighbours; the others move or cover it and do not record where.
EARLY = frozenset({
    mmdet_steps.Contrast, mmdet_steps.Equalize, mmdet_steps.AutoContrast,
    mmdet_steps.Sharpness, mmdet_steps.CutOut, mmdet_steps.RandomErasing,
    mmdet_steps.Expand, mmdet_steps.MinIoURandomCrop, mmdet_steps.RandomShift,
    mmdet_steps.RandomCenterCropPad})
LEAVE_IMAGE = frozenset({
    mmcv_steps.LoadImageFromFile, mmdet_steps.LoadImageFromNDArray,
    mmdet_steps.LoadMultiChannelImageFromFiles, mmdet_steps.LoadAnnotations,
    mmdet_steps.LoadPanopticAnnotations, mmdet_steps.LoadEmptyAnnotations,
    mmdet_steps.LoadTrackAnnotations, mmdet_steps.LoadTextAnnotations,
    mmdet_steps.LoadProposals, mmdet_steps.FilterAnnotations,
    mmdet_steps.SegRescale, mmdet_steps.RandomSamplingNegPos,
    mmdet_steps.GTBoxSubOne_GLIP, mmdet_steps.PackDetInputs})

CURE = ("Remove it from the student's train pipeline, or set the teacher's "
         'scale to 1.')

Step = Mapping | Callable  # of a pipeline: its config, or built


def unsupported_steps(pipeline: Sequence[Step]) -> list[str]:
    """Steps of a train pipeline that no teacher's image can follow.

    The classes of mmdet and mmcv are known. Others, a user's own and Albu, are
    trusted here; they raise an error when they first change an image in a way
    that cannot be followed.

    Args:
        pipeline: Configs or built steps, with or without loading and packing.

    Returns:
        One message for each such step, which also tells the cure.
    """
    # Wrappers build their inner steps in the default scope, which no Runner
    # has set yet where a plan is checked.
    with DefaultScope.overwrite_default_scope('mmdet'):
        return _problems(pipeline, resampled=False)[0]


def _problems(steps: Sequence[Any],
              resampled: bool) -> tuple[list[str], bool]:
    """Messages, and whether the image may be resampled after the steps.

    Args:
        steps: In this order.
        resampled: Whether it may be resampled before them.
    """
    problems = []
    for step in steps:
        kind = class_of(step)
        if kind is None:
            continue  # not registered: building the data set reports it
        if isinstance(step, Mapping) and kind in (
                WRAPPERS | DRAWN_RESIZE | {mmdet_steps.Pad}):
            step = TRANSFORMS.build(step)
        if kind in WRAPPERS:
            inner, resampled = _problems_inside(step, kind, resampled)
            problems += inner
        else:
            problems += _problem(step, kind, resampled)
            resampled |= kind in RESAMPLE
    return problems, resampled


def _problems_inside(wrapper: Any, kind: type,
                     resampled: bool) -> tuple[list[str], bool]:
    """As :func:`_problems`, of the steps inside of a wrapper."""
    steps = list(wrapper.transforms)
    if kind in (mmdet_steps.RandomOrder, mmdet_steps.RandAugment):
        # Any of them may come first.
        resampled |= _problems(steps, False)[1]
    if kind in (mmcv_steps.Compose, mmcv_steps.RandomApply,
                mmdet_steps.RandomOrder):
        return _problems(steps, resampled)
    # Alternatives: none of them comes after another.
    problems, resampled_after = [], resampled
    for step in steps:
        messages, resamples = _problems([step], resampled)
        problems += messages
        resampled_after |= resamples
    return problems, resampled_after


def _problem(step: Any, kind: type, resampled: bool) -> list[str]:
    """The problem of a step that is no wrapper: one message or none."""
    name = f'{kind.__module__.split(".")[0]}.{kind.__name__}'
    if kind in DRAWN_RESIZE and type(step.resize) not in RESIZE:
        inner = type(step.resize)
        return [f'{name} resizes by {inner.__module__}.{inner.__name__}; the '
                "teacher's image can follow mmdet's Resize and "
                'FixScaleResize only. Set its resize_type to one of them, or '
                "set the teacher's scale to 1."]
    late = kind in EARLY or \
        kind is mmdet_steps.Pad and step.padding_mode != 'constant'
    if late and resampled:
        if kind is mmdet_steps.Pad:
            name += f' with padding_mode={step.padding_mode!r}'
        return [f"{name} cannot be followed on the teacher's image where "
                "the student's has already been resized or turned. Move it "
                f'before the first such step. Else: {CURE}']
    if late or kind in GEOMETRIC | POINTWISE | LEAVE_IMAGE \
            or _is_foreign(kind):
        return []
    return [f"{name} cannot be followed on the teacher's image: it neither "
            'records how it moves the image nor changes the colour of each '
            f'pixel by itself (TeacherView lists what does). {CURE}']


def _is_foreign(kind: type) -> bool:
    return kind is mmdet_steps.Albu or \
        kind.__module__.split('.')[0] not in ('mmdet', 'mmcv')


def class_of(step: Step) -> type | None:
    """A step's class; None where its name is not registered."""
    if not isinstance(step, Mapping):
        return type(step)
    kind = step['type']
    return TRANSFORMS.get(kind) if isinstance(kind, str) else kind
