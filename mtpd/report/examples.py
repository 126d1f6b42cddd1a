"""A few validation images as student and teacher see them."""
import io
import os
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import cv2
import mmcv
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device
from PIL import Image

from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.plan import stage_teachers
from mtpd.plan.predictions import classes_of
from mtpd.progression.history import History
from mtpd.search.measure import validation_of

from .detectors import UNUSABLE, why_unusable

SCORE = 0.3
"""Boxes that are scored lower are not drawn."""
MAX_BOXES = 30
"""Drawn in one image; more would hide it."""
_WIDTH, _DPI = 6.4, 130  # inches, pixels per inch
MAX_BYTES = 24_000
"""Of one drawn image, so that four images with five views each make a page of
less than a megabyte."""


@dataclass(frozen=True)
class Box:
    """A box of an image.

    Attributes:
        corners: x1, y1, x2, y2 in pixels of the file.
        name: Its class.
        score: From 0 to 1, None for ground truth.
    """
    corners: tuple[float, float, float, float]
    name: str
    score: float | None = None

    def describe(self) -> str:
        """Class and score, such as ``disc .93``; without a score, ``disc``."""
        return self.name if self.score is None else \
            f'{self.name} {self.score:.2f}'.replace(' 0.', ' .')


@dataclass(frozen=True)
class View:
    """An image with the boxes of one detector, or of the ground truth.

    Attributes:
        title: Whose boxes they are.
        boxes: The drawn ones, highest score first.
        webp: The image with the boxes.
    """
    title: str
    boxes: tuple[Box, ...]
    webp: bytes

    def describe(self) -> str:
        """The boxes in words, for readers who do not see the image."""
        boxes = ', '.join(box.describe() for box in self.boxes)
        return f'{self.title}: {boxes or "no box"}'


@dataclass(frozen=True)
class Example:
    """A validation image.

    Attributes:
        name: Of its file.
        views: One of each detector, ground truth last.
    """
    name: str
    views: tuple[View, ...]


@dataclass(frozen=True)
class Examples:
    """Some validation images.

    Attributes:
        images: In the data set's order.
        left_out: Which boxes are missing and why, one message each.
    """
    images: tuple[Example, ...]
    left_out: tuple[str, ...]


def example_images(history: History, count: int) -> Examples:
    """Images with the boxes of the student before the first stage, the
    newest student, and the teachers of the newest stage (of the last stage
    where none has begun), and with ground truth.

    Args:
        history: The progression.
        count: Number of images, evenly spread over the validation set.
    """
    student = history.plan.student
    with redirect_stdout(io.StringIO()):  # pycocotools prints what it loads
        try:
            dataset = DATASETS.build(
                validation_of(student, student.config).loader.dataset)
        except UNUSABLE as error:
            reason = why_unusable(error, student.config)
            return Examples((), (f'images: {reason}',))
        count = min(count, len(dataset))
        images, left_out = _read_images(
            dataset, [len(dataset) * i // count for i in range(count)])
        boxes: dict[str, list[tuple[Box, ...]]] = {}
        if images:
            boxes, without = _detections(history, [*images])
            left_out += without
    classes = tuple(dataset.metainfo['classes'])
    colours = {name: f'C{i % 10}' for i, name in enumerate(classes)}
    examples = []
    for i, (index, image) in enumerate(images.items()):
        info = dataset.get_data_info(index)
        shown = {title: of_images[i] for title, of_images in boxes.items()}
        shown['ground truth'] = _ground_truth(info, classes)
        views = [View(title, drawn, draw_boxes(image, drawn, colours))
                 for title, drawn in shown.items()]
        name = os.path.basename(info['img_path'])
        examples.append(Example(name, tuple(views)))
    return Examples(tuple(examples), tuple(left_out))


def _read_images(dataset: BaseDataset, indices: Sequence[int]
                 ) -> tuple[dict[int, np.ndarray], list[str]]:
    """Index -> image (H, W, 3), red first; and which cannot be read."""
    images, left_out = {}, []
    for index in indices:
        path = dataset.get_data_info(index)['img_path']
        try:
            images[index] = mmcv.imread(path, channel_order='rgb')
        except OSError as error:
            left_out.append(f'image {path}: {error.strerror or error}')
        except cv2.error:
            left_out.append(f'image {path}: the file is torn or no image')
    return images, left_out


def _detections(history: History, indices: Sequence[int]
                ) -> tuple[dict[str, list[tuple[Box, ...]]], list[str]]:
    """Title of a view -> the boxes in each image; and which are missing."""
    plan, student = history.plan, history.plan.student
    viewers = [('student before', student, history.start)]
    if history.newest:
        viewers.append(('student after', student, history.newest))
    if history.order:
        newest = history.stages[-1].teacher if history.stages \
            else history.order[-1]
        for name in stage_teachers(newest, plan):
            teacher = plan.teachers[name]
            viewers.append((f'teacher {name}', teacher, teacher.checkpoint))
    boxes, left_out = {}, []
    for title, spec, weights in viewers:
        if weights is None:
            left_out.append(f'{title}: there are no weights.')
            continue
        try:
            detector = build_detector(spec.model, weights, title)
            boxes[title] = _detect(detector, spec, student.config, indices)
        except UNUSABLE as error:
            left_out.append(
                f'{title}: {why_unusable(error, student.config)}')
    return boxes, left_out


def _detect(detector: BaseDetector, spec: DetectorSpec, student: Config,
            indices: Sequence[int]) -> list[tuple[Box, ...]]:
    dataset = DATASETS.build(validation_of(spec, student).loader.dataset)
    names = classes_of(spec, detector)
    detector = detector.to(get_device()).eval()
    detections = []
    for index in indices:
        with torch.no_grad():
            sample, = detector.val_step(pseudo_collate([dataset[index]]))
        found = sample.pred_instances.cpu()
        ranked = sorted(zip(found.scores, found.labels.tolist(), found.bboxes,
                            strict=True), key=lambda box: -box[0])
        boxes = []
        for score, label, corners in ranked[:MAX_BOXES]:
            if score >= SCORE:
                name = names[label] if label < len(names) else f'class {label}'
                boxes.append(Box(tuple(corners.tolist()), name, score.item()))
        detections.append(tuple(boxes))
    return detections


def _ground_truth(info: Mapping[str, Any],
                  classes: Sequence[str]) -> tuple[Box, ...]:
    boxes = [Box(tuple(instance['bbox']), classes[instance['bbox_label']])
             for instance in info.get('instances', ())
             if not instance.get('ignore_flag')]
    return tuple(boxes)


def draw_boxes(image: np.ndarray, boxes: Sequence[Box],
               colours: Mapping[str, str]) -> bytes:
    """An image with boxes and their names, as WebP of up to
    :data:`MAX_BYTES`, if it can be made so small.

    Args:
        image: (H, W, 3), red first, 0 to 255.
        boxes: Highest score first.
        colours: Class -> colour.
    """
    height, width = image.shape[:2]
    figure = Figure(figsize=(_WIDTH, _WIDTH * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image, aspect='auto')
    axes.axis('off')
    for box in reversed(boxes):  # the highest score on top
        x1, y1, x2, y2 = np.clip(box.corners, 0, (width, height) * 2)
        colour = colours.get(box.name, 'C0')
        # White below the colour: visible on any background.
        for line, shade in ((5., 'white'), (2.6, colour)):
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False,
                                     linewidth=line, edgecolor=shade))
        above = y1 > height * 0.2 / figure.get_figheight()
        axes.text(x1, y1, box.describe(), fontsize=9, clip_on=True,
                  va='bottom' if above else 'top', bbox=dict(
                      boxstyle='square,pad=0.1', facecolor='white',
                      edgecolor=colour, linewidth=0.8, alpha=0.85))
    out = io.BytesIO()
    figure.savefig(out, dpi=_DPI, format='png')
    return small_webp(Image.open(out).convert('RGB'))


def small_webp(image: Image.Image) -> bytes:
    """An image as WebP: as good as :data:`MAX_BYTES` allow, and reduced to
    half its width and height at most.

    Args:
        image: In colours.
    """
    for scale in (1, .75, .5):
        size = (round(scale * image.width), round(scale * image.height))
        for quality in (80, 60, 40):
            out = io.BytesIO()
            image.resize(size).save(out, 'webp', quality=quality)
            if out.tell() <= MAX_BYTES:
                return out.getvalue()
    return out.getvalue()
