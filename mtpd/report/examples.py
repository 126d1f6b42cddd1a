"""A few validation images as student and teacher see them."""
import io
import os
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Sequence

import mmcv
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device

from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.pool import classes_of
from mtpd.progression.history import History, stage_teachers
from mtpd.search.measure import validation_of

from .detectors import UNUSABLE

SCORE = 0.3
"""Boxes that are scored lower are not drawn."""
_MOST = 30  # boxes drawn in one image; more hide it
_WIDTH = 2.6  # inches


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
        """``disc``, ``disc .93``."""
        return self.name if self.score is None else \
            f'{self.name} {self.score:.2f}'.replace(' 0.', ' .')


@dataclass(frozen=True)
class View:
    """Somebody's boxes in an image.

    Attributes:
        title: Whose.
        boxes: The drawn ones, highest score first.
        jpeg: The image with them.
    """
    title: str
    boxes: tuple[Box, ...]
    jpeg: bytes


@dataclass(frozen=True)
class Example:
    """A validation image.

    Attributes:
        name: Of its file.
        views: Ground truth last.
    """
    name: str
    views: tuple[View, ...]


@dataclass(frozen=True)
class Examples:
    """Some validation images.

    Attributes:
        images: In the data set's order.
        left_out: Whose boxes are missing and why, one message each.
    """
    images: tuple[Example, ...]
    left_out: tuple[str, ...]


def example_images(history: History, count: int) -> Examples:
    """Images with the boxes of the student before the first stage, the
    newest student, and the teachers of the newest stage (of the last stage
    where none has begun), and with ground truth.

    Args:
        history: The progression.
        count: So many, evenly spread over the validation set.
    """
    with redirect_stdout(io.StringIO()):  # pycocotools prints what it loads
        return _examples(history, count)


def _examples(history: History, count: int) -> Examples:
    student = history.plan.student
    try:
        dataset = DATASETS.build(
            validation_of(student, student.config).loader.dataset)
        count = min(count, len(dataset))
        indices = [len(dataset) * i // count for i in range(count)]
        paths = [dataset.get_data_info(i)['img_path'] for i in indices]
        images = [mmcv.imread(path, channel_order='rgb') for path in paths]
    except UNUSABLE as error:
        return Examples((), (f'images: {error}',))
    seen, left_out = {}, []
    for title, spec, weights in _viewers(history):
        if weights is None:
            left_out.append(f'{title}: there are no weights.')
            continue
        try:
            detector = build_detector(spec.model, weights, title)
            seen[title] = _detect(detector, spec, student.config, indices)
        except UNUSABLE as error:
            left_out.append(f'{title}: {error}')
    classes = tuple(dataset.metainfo['classes'])
    seen['ground truth'] = [_true_boxes(dataset.get_data_info(i), classes)
                            for i in indices]
    colours = {name: f'C{i % 10}' for i, name in enumerate(classes)}
    return Examples(tuple(
        Example(os.path.basename(path), tuple(
            View(title, boxes[i], _drawn(image, boxes[i], colours))
            for title, boxes in seen.items()))
        for i, (path, image) in enumerate(
            zip(paths, images, strict=True))),
        tuple(left_out))


def _viewers(history: History
             ) -> list[tuple[str, DetectorSpec, str | None]]:
    plan = history.plan
    viewers = [('student before', plan.student, history.start)]
    if history.newest:
        viewers.append(('student after', plan.student, history.newest))
    if history.order:
        newest = history.stages[-1].teacher if history.stages \
            else history.order[-1]
        viewers += [(f'teacher {n}', plan.teachers[n],
                     plan.teachers[n].checkpoint)
                    for n in stage_teachers(newest, plan)]
    return viewers


def _detect(detector: BaseDetector, spec: DetectorSpec, student: Config,
            indices: Sequence[int]) -> list[tuple[Box, ...]]:
    dataset = DATASETS.build(validation_of(spec, student).loader.dataset)
    names = classes_of(spec)
    detector = detector.to(get_device()).eval()
    found = []
    for index in indices:
        with torch.no_grad():
            sample, = detector.val_step(pseudo_collate([dataset[index]]))
        boxes = sample.pred_instances.cpu()
        found.append(tuple(
            Box(tuple(corners.tolist()), names[label] if label < len(names)
                else f'class {label}', score.item())
            for corners, label, score in sorted(
                zip(boxes.bboxes, boxes.labels.tolist(), boxes.scores,
                    strict=True),
                key=lambda box: -box[2])[:_MOST] if score >= SCORE))
    return found


def _true_boxes(info: dict, classes: tuple[str, ...]) -> tuple[Box, ...]:
    return tuple(
        Box(tuple(one['bbox']), classes[one['bbox_label']])
        for one in info.get('instances', ()) if not one.get('ignore_flag'))


def _drawn(image: np.ndarray, boxes: Sequence[Box],
           colours: dict[str, str]) -> bytes:
    """As JPEG.

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
    for box in reversed(boxes):  # the surest on top
        x1, y1, x2, y2 = np.clip(box.corners, 0, (width, height) * 2)
        colour = colours.get(box.name, 'C0')
        # White below the colour: seen on any ground.
        for line, shade in ((2.6, 'white'), (1.4, colour)):
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False,
                                     linewidth=line, edgecolor=shade))
        above = y1 > height * 0.12 / figure.get_figheight()
        axes.text(x1, y1, box.describe(), fontsize=6, clip_on=True,
                  va='bottom' if above else 'top', bbox=dict(
                      boxstyle='square,pad=0.1', facecolor='white',
                      edgecolor=colour, linewidth=0.8, alpha=0.85))
    out = io.BytesIO()
    figure.savefig(out, dpi=130, format='jpeg',
                   pil_kwargs=dict(quality=85))
    return out.getvalue()
