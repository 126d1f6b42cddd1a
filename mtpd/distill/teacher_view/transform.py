"""The student's view of an image, also at the teacher's size.

The student's train pipeline runs as it is. The image is kept as it comes to
the first step that resamples it. All changes from there on are recorded and
replayed on the kept image, at each teacher's size: geometry as one matrix, so
with one resampling, and colours by drawing the same random numbers again.
"""
import copy
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmengine.config import ConfigDict

from .geometry import scaled_size
from .replay import KEY, View, watch
from .scale import as_fraction, scale_key
from .steps import Step, class_of, unsupported_steps


@TRANSFORMS.register_module()
class TeacherView(BaseTransform):
    """A student's train pipeline that also gives the teacher its image.

    The student's image, boxes, masks and meta information and all random
    numbers are what ``transforms`` alone would give. ``None`` (a crop without
    boxes) is passed on.

    Before the first step that resamples the image, steps may do anything
    that does not resize pixels: student and teacher share the result. mmdet's
    RandomFlip, RandomCrop, Pad, Expand, MinIoURandomCrop, RandomCenterCropPad,
    RandomShift, CutOut, RandomErasing and its colour steps are known to
    qualify; so does a user's own class if the image keeps its size.

    From there on geometry is followed through mmdet's Resize, FixScaleResize,
    ResizeShortestEdge, RandomFlip, RandomCrop, Pad (constant), RandomAffine,
    Rotate, ShearX, ShearY, TranslateX and TranslateY and mmcv's RandomResize
    and RandomChoiceResize; the area outside of a crop or of the image is
    filled as the student's is. The colour steps that work on each pixel by
    itself are repeated: PhotoMetricDistortion, YOLOXHSVRandomAug, Color,
    Brightness, Solarize, SolarizeAdd, Posterize, Invert and any class with
    ``pointwise = True``. All of these may also stand inside of Compose,
    RandomChoice, RandomApply, RandomOrder, AutoAugment and RandAugment.

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
    through rounding, clipping and the nonlinear part of the mapping.

    Args:
        transforms: The steps between loading the image and packing, and as
            the last one the packing step.
        scales: Of the teachers' images to the student's: positive numbers
            or fractions ``'p/q'``.

    Returns, as ``transform``'s result:
        The packing step's result (``inputs``, ``data_samples``) and beside
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
                 scales: Sequence[float | str | Fraction]) -> None:
        self.scales = {scale_key(s): as_fraction(s) for s in scales}
        self.watched = any(s != 1 for s in self.scales.values())
        *steps, self.pack = [TRANSFORMS.build(step)
                             if isinstance(step, Mapping) else step
                             for step in transforms]
        if self.watched:
            if problems := unsupported_steps(steps):
                raise ValueError('\n'.join(problems))
            steps = [watch(step) for step in steps]
        self.transforms = steps

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        if self.watched:
            results[KEY] = view = View()
        for step in self.transforms:
            results = step(results)
            if results is None:
                return None
        size = results['img'].shape[:2]
        original = results['img']
        if self.watched and view.image is not None:
            original = view.image
        results.pop(KEY, None)
        packed = self.pack(results)
        teacher_inputs = dict.fromkeys(self.scales, packed['inputs'])
        sizes = {}
        for key, scale in self.scales.items():
            teacher_size = scaled_size(size, scale)
            if teacher_size != size:
                sizes[key] = teacher_size
        if sizes:
            images = view.render(original, size, list(sizes.values()))
            teacher_inputs.update(zip(sizes, map(_tensor, images),
                                      strict=True))
        packed['teacher_inputs'] = teacher_inputs
        return packed

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(scales={list(self.scales)}, '
                f'transforms={[*self.transforms, self.pack]})')


def with_teacher_view(dataset: Mapping[str, Any],
                      scales: Sequence[float | str | Fraction]) -> ConfigDict:
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
    wraps = 'dataset' in dataset or 'datasets' in dataset
    if wraps and 'pipeline' in dataset:
        raise ValueError(
            f"{dataset.get('type')} has a pipeline of its own, which mixes "
            "images that were loaded before; the teacher's image cannot "
            'follow. Set train_dataloader.dataset to the data set inside of '
            "it, or set the teacher's scale to 1.")
    # A new config, not one changed in place: configs often name one part
    # twice.
    changed: dict[str, Any] = {}
    if 'dataset' in dataset:
        changed['dataset'] = with_teacher_view(dataset['dataset'], scales)
    if 'datasets' in dataset:
        changed['datasets'] = [with_teacher_view(part, scales)
                               for part in dataset['datasets']]
    if not wraps:
        before, steps, after = _split(dataset)
        # Text: a dumped config holds no Fraction.
        keys = [scale_key(scale) for scale in scales]
        view = dict(type='TeacherView', transforms=steps, scales=keys)
        changed['pipeline'] = [*before, view, *after]
    return ConfigDict(copy.deepcopy({**dataset, **changed}))


def _split(dataset: Mapping[str, Any]) -> tuple[list, list, list]:
    """A pipeline's steps until loading, those to move, and the rest."""
    pipeline = dataset.get('pipeline') or []
    names, loading, packing = [], [], []
    for index, step in enumerate(pipeline):
        name = getattr(class_of(step), '__name__', str(step['type']))
        names.append(name)
        if name.startswith('Load') and 'Image' in name:
            loading.append(index)
        if name.startswith('Pack'):
            packing.append(index)
    if not loading or not packing or packing[-1] < loading[-1]:
        raise ValueError(
            f"The train pipeline of a {dataset.get('type')} has to load a "
            'image (LoadImageFromFile) and later pack it (PackDetInputs); '
            f'it is {names}. Complete the pipeline of train_dataloader.dataset'
            ", or set the teacher's scale to 1.")
    first, last = loading[-1] + 1, packing[-1] + 1
    return pipeline[:first], pipeline[first:last], pipeline[last:]


def _tensor(image: np.ndarray) -> torch.Tensor:
    """(h, w, 3) -> (3, h, w), (h, w) -> (1, h, w), as PackDetInputs does."""
    image = np.atleast_3d(image).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(image))
