"""The student's view of an image, also at the teacher's size.

The student's train pipeline runs as it is. The image is kept as it comes to
the first step that resamples it; what the steps from there on do is written
down and done once more to the kept image, at each teacher's size: geometry
as one matrix and so one resampling, colours by drawing the same random numbers
again.

Coordinates are continuous, x to the right and y down, and pixel i covers
[i, i + 1): mmdet's boxes and the ``homography_matrix`` that its steps record
are in these. OpenCV's warps are not; theirs have pixel i's centre at i.
"""
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmcv import transforms as mmcv_steps
from mmcv.transforms import BaseTransform
from mmdet.datasets import transforms as mmdet_steps
from mmdet.registry import TRANSFORMS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from mtpd.randomness import RngStates, draws_from, rng_states

# Exact classes: what a subclass does differently cannot be known. What each
# does was read in mmdet 3.3.0 and mmcv 2.1.0.
_WRAPPERS = frozenset({
    mmcv_steps.Compose, mmcv_steps.RandomChoice, mmcv_steps.RandomApply,
    mmdet_steps.RandomOrder, mmdet_steps.AutoAugment,
    mmdet_steps.RandAugment})
_RESIZE = frozenset({mmdet_steps.Resize, mmdet_steps.FixScaleResize})
_DRAWN_RESIZE = frozenset({
    mmcv_steps.RandomResize, mmcv_steps.RandomChoiceResize,
    mmdet_steps.ResizeShortestEdge})
# These hand OpenCV the matrix that they record, so that images move by it in
# OpenCV's coordinates and boxes by it in mmdet's: half a pixel apart wherever
# it turns or scales. The teacher follows the image.
_WARP = frozenset({
    mmdet_steps.Rotate, mmdet_steps.ShearX, mmdet_steps.ShearY,
    mmdet_steps.TranslateX, mmdet_steps.TranslateY})
_RESAMPLE = _RESIZE | _DRAWN_RESIZE | _WARP | {mmdet_steps.RandomAffine}
_GEOMETRIC = _RESAMPLE | {
    mmdet_steps.RandomFlip, mmdet_steps.RandomCrop, mmdet_steps.Pad}
_POINTWISE = frozenset({
    mmdet_steps.PhotoMetricDistortion, mmdet_steps.YOLOXHSVRandomAug,
    mmdet_steps.Color, mmdet_steps.Brightness, mmdet_steps.Solarize,
    mmdet_steps.SolarizeAdd, mmdet_steps.Posterize, mmdet_steps.Invert})
# Only before the first step that resamples. Contrast, Equalize and
# AutoContrast look at the whole image's grey levels and Sharpness at
# neighbours; the others move or cover it and do not record where.
_EARLY = frozenset({
    mmdet_steps.Contrast, mmdet_steps.Equalize, mmdet_steps.AutoContrast,
    mmdet_steps.Sharpness, mmdet_steps.CutOut, mmdet_steps.RandomErasing,
    mmdet_steps.Expand, mmdet_steps.MinIoURandomCrop, mmdet_steps.RandomShift,
    mmdet_steps.RandomCenterCropPad})
_LEAVE_PICTURE = frozenset({
    mmcv_steps.LoadImageFromFile, mmdet_steps.LoadImageFromNDArray,
    mmdet_steps.LoadMultiChannelImageFromFiles, mmdet_steps.LoadAnnotations,
    mmdet_steps.LoadPanopticAnnotations, mmdet_steps.LoadEmptyAnnotations,
    mmdet_steps.LoadTrackAnnotations, mmdet_steps.LoadTextAnnotations,
    mmdet_steps.LoadProposals, mmdet_steps.FilterAnnotations,
    mmdet_steps.SegRescale, mmdet_steps.RandomSamplingNegPos,
    mmdet_steps.GTBoxSubOne_GLIP, mmdet_steps.PackDetInputs})

_CURE = ("Remove it from the student's train pipeline, or set the teacher's "
         'scale to 1.')
_KEY = 'teacher_view'  # in the results dict, between the steps

Size = tuple[int, int]  # (height, width) in pixels
Step = Mapping | Callable  # of a pipeline: its config, or built


@TRANSFORMS.register_module()
class TeacherView(BaseTransform):
    """A student's train pipeline that also gives the teacher its image.

    The student's image, boxes, masks and meta information and all random
    numbers are what ``transforms`` alone would give. ``None`` (a crop without
    boxes) is passed on.

    Before the first step that resamples the image, steps may do anything
    that keeps its pixels as large as they are: student and teacher share the
    result. Known to are mmdet's RandomFlip, RandomCrop, Pad, Expand,
    MinIoURandomCrop, RandomCenterCropPad, RandomShift, CutOut, RandomErasing
    and its colour steps; a class of one's own if the image keeps its size.

    From there on geometry is followed through mmdet's Resize, FixScaleResize,
    ResizeShortestEdge, RandomFlip, RandomCrop, Pad (constant), RandomAffine,
    Rotate, ShearX, ShearY, TranslateX and TranslateY and mmcv's RandomResize
    and RandomChoiceResize; what lies outside of a crop or of the image is
    filled as the student's is. Colours, of each pixel by itself:
    PhotoMetricDistortion, YOLOXHSVRandomAug, Color, Brightness, Solarize,
    SolarizeAdd, Posterize, Invert and any class with ``pointwise = True``.
    All of these also inside of Compose, RandomChoice, RandomApply,
    RandomOrder, AutoAugment and RandAugment.

    A teacher's image has ``scale`` times the student's sides, rounded to
    whole pixels, halves up, and shows the student's frame from edge to edge:
    one pixel of the student's is ``teacher side / student side`` of the
    teacher's, which is ``scale`` up to that rounding. Where the view is
    resized, flipped, padded and cut along whole pixels, the resampling is the
    student's own Resize (interpolation and backend), so that the image is
    bit-equal to that of a pipeline with a Resize to ``scale`` times the size;
    else it is OpenCV's bilinear warp, whose positions are rounded to 1/32
    pixel.

    Colours come before or after the resampling as in the student's pipeline,
    those between two geometric steps before it. There the order matters only
    through rounding, clipping and what of the mapping is not linear.

    Args:
        transforms: The steps between loading the image and packing, and as
            the last one the packing step.
        scales: Of the teachers' images to the student's: positive numbers
            or fractions ``'p/q'``.

    Returns, as ``transform``'s result:
        What the packing step gives (``inputs``, ``data_samples``) and beside
        it ``teacher_inputs``: :func:`scale_key` -> (3, h, w) tensor, channels
        and dtype as in ``inputs`` (uint8, or float32 where the student's
        pipeline makes floats). Where the size is the student's, it is the very
        tensor ``inputs``: whoever changes one in place changes both. After
        ``pseudo_collate``, mmdet's default, it is
        scale key -> list of N tensors (3, h_i, w_i), in the order of
        ``inputs``.

    Raises:
        ValueError: A scale that is not positive, or a step that cannot be
            followed; if nothing is known of its class, when it first changes
            the image.
    """

    def __init__(self, transforms: Sequence[Step],
                 scales: Sequence[float | str]) -> None:
        self.scales = {scale_key(s): as_fraction(s) for s in scales}
        self.watched = any(s != 1 for s in self.scales.values())
        *steps, self.pack = [
            TRANSFORMS.build(t) if isinstance(t, Mapping) else t
            for t in transforms]
        if self.watched:
            if problems := unsupported_steps(steps):
                raise ValueError('\n'.join(problems))
            steps = [_watch(s) for s in steps]
        self.transforms = steps

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        if self.watched:
            results[_KEY] = view = _View()
        for step in self.transforms:
            results = step(results)
            if results is None:
                return None
        size = results['img'].shape[:2]
        original = view.image if self.watched else None
        if original is None:
            original = results['img']
        results.pop(_KEY, None)
        packed = self.pack(results)
        wanted = {k: _scaled(size, s) for k, s in self.scales.items()}
        other = {k: s for k, s in wanted.items() if s != size}
        images = view.render(original, size, list(other.values())) \
            if other else []
        packed['teacher_inputs'] = dict.fromkeys(wanted, packed['inputs']) | {
            k: _tensor(p) for k, p in zip(other, images, strict=True)}
        return packed

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(scales={list(self.scales)}, '
                f'transforms={[*self.transforms, self.pack]})')


def as_fraction(scale: float | str | Fraction) -> Fraction:
    """A scale as the simple fraction that it means: 0.75 and '3/4' -> 3/4,
    0.333 -> 1/3.

    Raises:
        ValueError: It is no positive number.
    """
    try:
        fraction = Fraction(scale).limit_denominator(64)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        fraction = Fraction(0)
    if fraction <= 0:
        raise ValueError(f"A teacher's scale is {scale!r}; it has to be a "
                         "number above 0, such as 2, 0.75 or '4/3'.")
    return fraction


def scale_key(scale: float | str | Fraction) -> str:
    """A scale's key in ``teacher_inputs``: 2, 2.0 and '2' -> '2'; 1.5 and
    '3/2' -> '3/2'; the nearest fraction of a denominator up to 64.

    Raises:
        ValueError: It is not positive, or no number.
    """
    return str(as_fraction(scale))


def with_teacher_view(dataset: Mapping[str, Any],
                      scales: Sequence[float | str]) -> ConfigDict:
    """A train data set's config whose batches also have ``teacher_inputs``.

    In each inner data set the steps after the one that loads the image, up
    to and with the one that packs, move into one :class:`TeacherView`.

    Args:
        dataset: The config, also of wrapped data sets (repeated,
            concatenated, balanced by classes); it is not changed.
        scales: Of the teachers' images to the student's.

    Raises:
        ValueError: A pipeline without a step that loads or packs, or a
            wrapper with a pipeline of its own (``MultiImageMixDataset``),
            which mixes images after they were loaded.
    """
    # Made anew and not changed in place: configs often name one part twice.
    parts = {k: dataset[k] for k in ('dataset', 'datasets') if k in dataset}
    if parts and 'pipeline' in dataset:
        raise ValueError(
            f"{dataset.get('type')} has a pipeline of its own, which mixes "
            "images that were loaded before; the teacher's image cannot "
            'follow. Set train_dataloader.dataset to the data set inside of '
            "it, or set the teacher's scale to 1.")
    for key, part in parts.items():
        parts[key] = with_teacher_view(part, scales) if key == 'dataset' \
            else [with_teacher_view(p, scales) for p in part]
    if not parts:
        before, steps, after = _split(dataset)
        view = dict(type='TeacherView', transforms=steps,
                    scales=[scale_key(s) for s in scales])
        parts = dict(pipeline=[*before, view, *after])
    return ConfigDict(copy.deepcopy({**dataset, **parts}))


def unsupported_steps(pipeline: Sequence[Step]) -> list[str]:
    """Steps of a train pipeline that no teacher's image can follow.

    Found by the classes of mmdet and mmcv. Others, a user's own and Albu, are
    trusted here; they fail when they first do what cannot be followed.

    Args:
        pipeline: Configs or built steps, with or without loading and packing.

    Returns:
        One message for each such step, with what to do; empty if there is
        none.
    """
    # Wrappers build what is inside of them in the default scope, which no
    # Runner has set yet where a plan is checked.
    with DefaultScope.overwrite_default_scope('mmdet'):
        return _problems(pipeline, resampled=False)[0]


def _problems(steps: Sequence[Any],
              resampled: bool) -> tuple[list[str], bool]:
    """Messages, and whether the image may be resampled after the steps.

    Args:
        steps: In this order.
        resampled: Whether it may be so before them.
    """
    found = []
    for step in steps:
        kind = _class_of(step)
        if kind is None:
            continue  # not registered: building the data set says so
        if isinstance(step, Mapping) and kind in (
                _WRAPPERS | _DRAWN_RESIZE | {mmdet_steps.Pad}):
            step = TRANSFORMS.build(step)
        if kind not in _WRAPPERS:
            found += _problem(step, kind, resampled)
            resampled |= kind in _RESAMPLE
            continue
        inner = list(step.transforms)
        if kind in (mmdet_steps.RandomOrder, mmdet_steps.RandAugment):
            # Any of them may come first.
            resampled |= _problems(inner, False)[1]
        parts = [inner] if kind in (
            mmcv_steps.Compose, mmcv_steps.RandomApply,
            mmdet_steps.RandomOrder) else [[part] for part in inner]
        ends = [_problems(part, resampled) for part in parts]
        found += [message for messages, _ in ends for message in messages]
        resampled |= any(end for _, end in ends)
    return found, resampled


def _problem(step: Any, kind: type, resampled: bool) -> list[str]:
    """What is wrong with a step that is no wrapper: a message or none."""
    name = f'{kind.__module__.split(".")[0]}.{kind.__name__}'
    if kind in _DRAWN_RESIZE and type(step.resize) not in _RESIZE:
        inner = type(step.resize)
        return [f'{name} resizes by {inner.__module__}.{inner.__name__}; the '
                "teacher's image can follow mmdet's Resize and "
                'FixScaleResize only. Set its resize_type to one of them, or '
                "set the teacher's scale to 1."]
    late = kind in _EARLY or \
        kind is mmdet_steps.Pad and step.padding_mode != 'constant'
    if late and resampled:
        if kind is mmdet_steps.Pad:
            name += f' with padding_mode={step.padding_mode!r}'
        return [f"{name} cannot be followed on the teacher's image where "
                "the student's has already been resized or turned. Move it "
                f'before the first such step. Else: {_CURE}']
    if late or kind in _GEOMETRIC | _POINTWISE | _LEAVE_PICTURE \
            or _is_foreign(kind):
        return []
    return [f"{name} cannot be followed on the teacher's image: it neither "
            'records how it moves the image nor changes the colour of each '
            f'pixel by itself (TeacherView lists what does). {_CURE}']


def _is_foreign(kind: type) -> bool:
    return kind is mmdet_steps.Albu or \
        kind.__module__.split('.')[0] not in ('mmdet', 'mmcv')


def _class_of(step: Step) -> type | None:
    if not isinstance(step, Mapping):
        return type(step)
    kind = step['type']
    return TRANSFORMS.get(kind) if isinstance(kind, str) else kind


def _split(dataset: Mapping[str, Any]) -> tuple[list, list, list]:
    """A pipeline's steps until loading, those to move, and those behind."""
    pipeline = dataset.get('pipeline') or []
    names = [getattr(_class_of(s), '__name__', str(s['type']))
             for s in pipeline]
    loading = [i for i, n in enumerate(names)
               if n.startswith('Load') and 'Image' in n]
    packing = [i for i, n in enumerate(names) if n.startswith('Pack')]
    if not loading or not packing or packing[-1] < loading[-1]:
        raise ValueError(
            f"The train pipeline of a {dataset.get('type')} has to load a "
            'image (LoadImageFromFile) and later pack it (PackDetInputs); '
            f'it is {names}. Complete the pipeline of train_dataloader.dataset'
            ", or set the teacher's scale to 1.")
    first, last = loading[-1] + 1, packing[-1] + 1
    return pipeline[:first], pipeline[first:last], pipeline[last:]


def _scaled(size: Size, scale: Fraction) -> Size:
    height, width = (max(1, int(side * scale + Fraction(1, 2)))
                     for side in size)
    return height, width


def _tensor(image: np.ndarray) -> torch.Tensor:
    """(h, w, 3) -> (3, h, w), (h, w) -> (1, h, w), as PackDetInputs does."""
    image = np.atleast_3d(image).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(image))


@dataclass
class _Recolour:
    """A pointwise step, and the generators' states when it ran."""
    step: Callable
    states: RngStates

    def __call__(self, image: np.ndarray) -> np.ndarray:
        with draws_from(self.states):
            return self.step(dict(img=image,
                                  img_shape=image.shape[:2]))['img']


@dataclass
class _Move:
    """A geometric step.

    Attributes:
        matrix: (3, 3) float64, from the frame before to the one after.
        frame: The size before.
        fill: Colour of what was outside of that frame, an image of one pixel
            in the student's dtype; None where none of that can be seen.
    """
    matrix: np.ndarray
    frame: Size
    fill: np.ndarray | None


@dataclass
class _View:
    """The image before it is resampled, and what was done to it from there.

    Attributes:
        image: (H, W, channels); None until a step resamples it.
        changes: In their order.
        resize: Interpolation and backend of the last Resize.
    """
    image: np.ndarray | None = None
    changes: list[_Recolour | _Move] = field(default_factory=list)
    resize: dict[str, str] = field(default_factory=dict)

    def render(self, original: np.ndarray, student: Size,
               sizes: Sequence[Size]) -> list[np.ndarray]:
        """Images (h, w, channels) of ``sizes`` that show what the student's
        of size ``student`` shows, made from ``original``, which the changes
        were done to."""
        last = max((i for i, c in enumerate(self.changes, 1)
                    if isinstance(c, _Move)), default=0)
        matrix = np.eye(3)
        frames: list[tuple[np.ndarray, Size]] = []
        fills: list[np.ndarray] = []
        for change in self.changes[:last]:
            if isinstance(change, _Recolour):
                original = change(original)
                fills = [change(fill) for fill in fills]
                continue
            if change.fill is not None:
                frames.append((matrix, change.frame))
                fills.append(change.fill)
            matrix = change.matrix @ matrix
        images = []
        for size in sizes:
            scaled = np.diag([size[1] / student[1], size[0] / student[0], 1]) \
                @ matrix
            image = _resample(original, scaled, size, self.resize)
            # A later step's fill covers an earlier one's.
            for (until, frame), fill in zip(frames, fills, strict=True):
                shown = _inside(scaled @ np.linalg.inv(until), frame, size)
                image[~shown] = fill[0, 0]
            for change in self.changes[last:]:
                if isinstance(change, _Recolour):  # all of them are
                    image = change(image)
            images.append(image)
        return images


def _watch(step: Any) -> Callable:
    """The step, or each one inside of a wrapper, with its changes noted."""
    if type(step) not in _WRAPPERS:
        return _Watched(step)
    inner = step.transforms
    step.transforms = _watch(inner) \
        if isinstance(inner, mmcv_steps.Compose) else [
            _watch(s) for s in inner]
    return step


class _Watched:
    """A step that writes into the results' ``_View`` what it did."""

    def __init__(self, step: Any) -> None:
        self.step = step

    def __repr__(self) -> str:
        return repr(self.step)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        kind, view = type(self.step), results[_KEY]
        if kind in _RESAMPLE and view.image is None:
            # A copy: a warp that is not drawn hands on this very array, and
            # YOLOXHSVRandomAug writes into the image that it gets.
            view.image = results['img'].copy()
        if kind in _LEAVE_PICTURE:
            return self.step(results)
        if view.image is None:
            return self._share(results)
        if kind in _GEOMETRIC:
            return self._move(results)
        if kind in _POINTWISE or getattr(self.step, 'pointwise', False):
            view.changes.append(_Recolour(self.step, rng_states()))
            return self.step(results)
        return self._leave(results)

    def _share(self, results: dict[str, Any]) -> dict[str, Any] | None:
        frame = results['img'].shape[:2]
        results = self.step(results)
        if results is not None and results['img'].shape[:2] != frame \
                and type(self.step) not in _GEOMETRIC | _EARLY:
            raise ValueError(
                f'{type(self.step).__name__} changed the size of the '
                "student's image in a way that is not known: the teacher's "
                f'image cannot follow. {_CURE}')
        return results

    def _move(self, results: dict[str, Any]) -> dict[str, Any] | None:
        view, states = results[_KEY], rng_states()
        frame, dtype = results['img'].shape[:2], results['img'].dtype
        before = results.get('homography_matrix')
        results = self.step(results)
        if results is None:
            return None
        if type(self.step) is mmdet_steps.RandomAffine:
            matrix = _affine_matrix(self.step, frame, states)
        else:
            matrix = _added(before, results.get('homography_matrix'))
            if type(self.step) in _WARP:
                matrix = _from_opencv(matrix)
        if not np.array_equal(matrix, np.eye(3)) \
                or results['img'].shape[:2] != frame:
            fill = _fill(self.step)
            if fill is not None:
                channels = results['img'].shape[2:]
                fill = np.broadcast_to(fill, (1, 1, *channels)).astype(dtype)
            view.changes.append(_Move(matrix, frame, fill))
        resize = getattr(self.step, 'resize', self.step)
        if type(resize) in _RESIZE:
            view.resize = dict(interpolation=resize.interpolation,
                               backend=resize.backend)
        return results

    def _leave(self, results: dict[str, Any]) -> dict[str, Any] | None:
        before = results['img'].copy()
        results = self.step(results)
        if results is not None and not np.array_equal(results['img'], before):
            raise ValueError(
                f"{type(self.step).__name__} changed the student's image, "
                "which had been resized or turned before, in a way that the "
                "teacher's image cannot follow. If it changes the colour of "
                'each pixel by itself, whatever its position and the '
                "image's size, set `pointwise = True` in its class; or move "
                f'it before the first such step. Else: {_CURE}')
        return results


def _added(before: np.ndarray | None, after: np.ndarray | None) -> np.ndarray:
    """What a step has multiplied the recorded matrix by."""
    before, after = (np.eye(3) if m is None else m.astype(np.float64)
                     for m in (before, after))
    # Exactly nothing where it did nothing, which the inverse would miss.
    return np.eye(3) if np.array_equal(before, after) \
        else after @ np.linalg.inv(before)


def _affine_matrix(step: Any, frame: Size, states: RngStates) -> np.ndarray:
    """What RandomAffine drew, drawn again: it records nothing."""
    across, down = step.border
    with draws_from(states):
        return _from_opencv(step._get_random_homography_matrix(
            frame[0] + 2 * down, frame[1] + 2 * across).astype(np.float64))


def _fill(step: Any) -> Any:
    """The colour around an image, a number or one per channel, or None."""
    if type(step) is mmdet_steps.Pad:
        return step.pad_val.get('img', 0)
    if type(step) is mmdet_steps.RandomAffine:
        return step.border_val
    return step.img_border_value if type(step) in _WARP else None


def _shift(by: float) -> np.ndarray:
    return np.array([[1, 0, by], [0, 1, by], [0, 0, 1]], np.float64)


def _from_opencv(matrix: np.ndarray) -> np.ndarray:
    return _shift(0.5) @ matrix @ _shift(-0.5)


def _to_opencv(matrix: np.ndarray) -> np.ndarray:
    return _shift(-0.5) @ matrix @ _shift(0.5)


def _resample(image: np.ndarray, matrix: np.ndarray, size: Size,
              resize: Mapping[str, str]) -> np.ndarray:
    """``image`` moved by ``matrix`` into a frame of ``size``.

    Outside of the image its edge goes on.
    """
    height, width = image.shape[:2]
    # Where the image's edges come to lie: x0, y0 and x1, y1.
    ends = matrix[:2, 2], matrix[:2, :2] @ [width, height] + matrix[:2, 2]
    whole = np.rint(ends).astype(int)
    # mmdet records float32: a few 1e-4 pixels after some steps.
    (left, top), (right, bottom) = whole.min(axis=0), whole.max(axis=0)
    turned = np.abs(matrix[[0, 1], [1, 0]]).max() * max(height, width)
    if max(turned, np.abs(ends - whole).max()) > 0.01 \
            or min(right, size[1]) <= max(left, 0) \
            or min(bottom, size[0]) <= max(top, 0):
        return cv2.warpAffine(
            image, _to_opencv(matrix)[:2], size[::-1],
            flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    resized = mmcv.imresize(
        image, (int(right - left), int(bottom - top)), **resize)
    # cv2.flip, for np.flip's view is copied pixel by pixel later on.
    across, down = whole[0] > whole[1]
    if across or down:
        resized = cv2.flip(resized, -1 if across and down else int(across))
    around = [max(0, int(n)) for n in (
        top, size[0] - bottom, left, size[1] - right)]
    shown = resized[max(0, -top):, max(0, -left):]
    if any(around):
        shown = cv2.copyMakeBorder(shown, *around, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(shown[:size[0], :size[1]])


def _inside(matrix: np.ndarray, frame: Size, size: Size) -> np.ndarray:
    """Which pixels' centres show something of ``frame``: (h, w) bool.

    Args:
        matrix: From ``frame`` to the image, affine.
        frame: The size of what is shown.
        size: The image's (h, w).
    """
    inverse = np.linalg.inv(matrix)
    y, x = np.ogrid[0.5:size[0], 0.5:size[1]]
    inside = np.ones(size, bool)
    for (by_x, by_y, start), side in zip(inverse[:2], frame[::-1],
                                         strict=True):
        at = start  # one row or column where nothing is turned: much faster
        for by, pixel in ((by_x, x), (by_y, y)):
            at = at + by * pixel if by else at
        inside &= (at > 0) & (at < side)
    return inside
