"""A drawn detection set: textured shapes on textured ground, in COCO's format.

The classes differ by outline alone. Fill, colour, size, aspect, rotation and
contrast are drawn from the same distributions for all of them, so a detector
cannot take the short cut of colour and has to spend channels on form: that is
what separates a tiny student from a larger teacher within minutes of training.
"""
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator

CLASSES = ('disc', 'triangle', 'square', 'star', 'cross')

# Raise it when a change below alters images: finished folders are then
# drawn again instead of being taken for up to date.
_DRAWING = 1

_SUPERSAMPLE = 4  # outlines are drawn this much larger, for soft edges
_SIDE = (0.13, 0.4)  # a shape's diameter as a part of the image's width
_CONTRAST = (60, 130)  # grey levels between a fill and the ground below it
_MIN_VISIBLE = 0.7  # of a shape, after everything above it is drawn
_MIN_AREA = 40  # visible pixels; smaller remnants tell no shape


def draw_shapes(folder: str | os.PathLike, train: int, val: int,
                size: tuple[int, int], seed: int) -> None:
    """Draw a training and a validation set, unless they are there already.

    Writes ``train/*.png``, ``val/*.png`` and
    ``annotations/instances_{train,val}.json`` below ``folder``, and last
    ``drawn_shapes.json`` with the parameters: a folder without it was
    interrupted and is drawn again; one with the same parameters is left as it
    is. Equal parameters give equal bytes under one version of OpenCV. A
    image depends on ``seed``, its split and its number only, so a larger set
    starts with the images of a smaller one.

    Args:
        folder: Where to write; made if absent.
        train: Images to train on.
        val: Images to validate on.
        size: (width, height) in pixels, at least 64 each.
        seed: Not negative.

    Raises:
        ValueError: A count below 1, a side below 64 or a negative seed.
    """
    width, height = size
    if min(train, val) < 1 or min(width, height) < 64 or seed < 0:
        raise ValueError(
            'draw_shapes needs at least one image per split, sides of at '
            f'least 64 pixels and a seed >= 0; got train={train}, val={val}, '
            f'size={tuple(size)}, seed={seed}.')
    folder = Path(folder)
    record = folder / 'drawn_shapes.json'
    parameters = dict(drawing=_DRAWING, classes=list(CLASSES), train=train,
                      val=val, size=[width, height], seed=seed)
    if record.exists() and json.loads(record.read_text()) == parameters:
        return
    record.unlink(missing_ok=True)
    (folder / 'annotations').mkdir(parents=True, exist_ok=True)
    for split_index, (split, count) in enumerate((('train', train),
                                                  ('val', val))):
        (folder / split).mkdir(exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(count):
            rng = np.random.default_rng([seed, split_index, number])
            image, labels, masks = _draw_image(rng, width, height)
            name = f'{number:05d}.png'
            if not cv2.imwrite(str(folder / split / name), image):
                raise OSError(f'{folder / split / name} could not be written.')
            images.append(dict(
                id=number + 1, file_name=name, width=width, height=height))
            for label, mask in zip(labels, masks, strict=True):
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=number + 1,
                    category_id=label + 1, bbox=_bounding_box(mask),
                    area=int(mask.sum()), iscrowd=0,
                    segmentation=_outlines(mask)))
        coco = dict(
            info=dict(description=f'drawn shapes, {split}'), licenses=[],
            categories=[dict(id=i + 1, name=name)
                        for i, name in enumerate(CLASSES)],
            images=images, annotations=annotations)
        (folder / 'annotations' / f'instances_{split}.json').write_text(
            json.dumps(coco))
    unfinished = record.with_suffix('.json.part')
    unfinished.write_text(json.dumps(parameters))
    os.replace(unfinished, record)


def _draw_image(rng: Generator, width: int, height: int
                ) -> tuple[np.ndarray, list[int], list[np.ndarray]]:
    """One image: (H, W, 3) uint8, class numbers, visible (H, W) bool masks.
    """
    canvas = _texture(rng, width, height, rng.uniform(20, 110, 3),
                      rng.uniform(4, 12))
    _draw_clutter(rng, canvas)
    labels: list[int] = []
    masks: list[np.ndarray] = []
    whole_areas: list[int] = []
    wanted = rng.integers(5, 11)
    for _ in range(4 * wanted):  # tries; a full image may end with fewer
        if len(labels) == wanted:
            break
        label = int(rng.integers(len(CLASSES)))
        alpha = _shape_alpha(rng, CLASSES[label], width, height)
        mask = alpha >= 0.5
        remaining = [old & ~mask for old in masks]
        if not all(map(_stays_recognisable, remaining + [mask],
                       whole_areas + [mask.sum()])):
            continue
        ground = canvas[mask].mean(axis=0)
        fill = _texture(rng, width, height, _contrasting(rng, ground),
                        rng.uniform(3, 12))
        canvas += alpha[..., None] * (fill - canvas)
        labels.append(label)
        masks = remaining + [mask]
        whole_areas.append(int(mask.sum()))
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 0.9))
    canvas += rng.normal(0, rng.uniform(2, 7), canvas.shape)
    return np.clip(canvas, 0, 255).round().astype(np.uint8), labels, masks


def _texture(rng: Generator, width: int, height: int, colour: np.ndarray,
             strength: float) -> np.ndarray:
    """(H, W, 3) float32 of mean ``colour``: blotches, with or without stripes.

    Args:
        colour: Three grey levels, BGR.
        strength: Standard deviation of the pattern, in grey levels.
    """
    blotches = rng.normal(size=(height, width)).astype(np.float32)
    pattern = cv2.GaussianBlur(blotches, (0, 0), rng.uniform(1, 8))
    pattern /= pattern.std() + 1e-6
    if rng.random() < 0.5:
        y, x = np.mgrid[:height, :width]
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 20)
        phase = (x * np.cos(angle) + y * np.sin(angle)) / period
        pattern += 1.5 * np.sin(2 * np.pi * (phase + rng.random()))
        pattern /= pattern.std() + 1e-6
    tint = rng.uniform(0.5, 1.0, 3)
    return (colour + strength * pattern[..., None] * tint).astype(np.float32)


def _draw_clutter(rng: Generator, canvas: np.ndarray) -> None:
    """Draw unlabelled strokes and arcs on ``canvas``, below all shapes."""
    height, width = canvas.shape[:2]
    for _ in range(rng.integers(2, 8)):
        colour = _contrasting(rng, canvas.mean(axis=(0, 1))).tolist()
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        thickness = int(rng.integers(1, 4))
        if rng.random() < 0.5:
            reach = rng.integers(-width // 3, width // 3, 2)
            end = (int(centre[0] + reach[0]), int(centre[1] + reach[1]))
            cv2.line(canvas, centre, end, colour, thickness, cv2.LINE_8)
        else:
            axes = (int(rng.integers(4, width // 5)),
                    int(rng.integers(4, width // 5)))
            start = int(rng.integers(360))
            cv2.ellipse(canvas, centre, axes, int(rng.integers(180)), start,
                        start + int(rng.integers(40, 160)), colour, thickness,
                        cv2.LINE_8)


def _contrasting(rng: Generator, ground: np.ndarray) -> np.ndarray:
    """A BGR colour, in its strongest channel brighter than ``ground`` by
    ``_CONTRAST`` grey levels.

    Always brighter: with either sign a RetinaNet from random weights had
    learned next to nothing after 500 steps (4 AP).
    """
    tint = rng.uniform(0.2, 1, 3)
    return ground + rng.uniform(*_CONTRAST) * tint / tint.max()


def _shape_alpha(rng: Generator, name: str, width: int,
                 height: int) -> np.ndarray:
    """Coverage of each pixel by one shape at a random place: (H, W) float32,
    0 to 1, no part outside of the image.
    """
    outline = _unit_outline(name)
    # log-uniform, so that each octave of sizes is as frequent as the next
    diameter = width * np.exp(rng.uniform(*np.log(_SIDE)))
    stretch = np.exp(rng.uniform(-0.25, 0.25))
    outline = outline * (diameter / 2) * [np.sqrt(stretch),
                                          1 / np.sqrt(stretch)]
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    outline = outline @ np.array([[cos, sin], [-sin, cos]])
    low, high = outline.min(axis=0), outline.max(axis=0)
    outline += rng.uniform(-low, [width, height] - high)
    canvas = np.zeros((height * _SUPERSAMPLE, width * _SUPERSAMPLE), np.uint8)
    cv2.fillPoly(canvas, [np.round(outline * _SUPERSAMPLE).astype(np.int32)],
                 255)
    return cv2.resize(canvas, (width, height),
                      interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _unit_outline(name: str) -> np.ndarray:
    """Corners (n, 2) of a shape around 0, scaled to the area of a disc of
    radius 0.9: equal areas, or size would give the class away.
    """
    corners = dict(disc=48, triangle=3, square=4, star=10, cross=12)[name]
    turn = 2 * np.pi * np.arange(corners) / corners
    radius = np.ones(corners)
    if name == 'star':
        radius[1::2] = 0.45
    points = radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if name == 'cross':
        arm = 0.34
        points = np.array([
            (1, arm), (arm, arm), (arm, 1), (-arm, 1), (-arm, arm), (-1, arm),
            (-1, -arm), (-arm, -arm), (-arm, -1), (arm, -1), (arm, -arm),
            (1, -arm)], float)
    x, y = points.T
    area = np.abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return points * np.sqrt(0.81 * np.pi / area)


def _stays_recognisable(mask: np.ndarray, whole_area: int) -> bool:
    """Whether a visible mask is large enough and has no hole.

    COCO's polygons cannot have holes: a shape drawn inside another one would
    have to count as a part of it.
    """
    if mask.sum() < max(_MIN_AREA, _MIN_VISIBLE * whole_area):
        return False
    _, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP,
                                    cv2.CHAIN_APPROX_SIMPLE)[-2:]
    return bool((hierarchy[0, :, 3] < 0).all())


def _bounding_box(mask: np.ndarray) -> list[int]:
    """COCO's [x, y, width, height] in pixels of a mask (H, W)."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1),
            int(ys[-1] - ys[0] + 1)]


def _outlines(mask: np.ndarray) -> list[list[int]]:
    """COCO polygons [[x, y, x, y, ...], ...] along the pixels' outer edges.

    OpenCV's contours run through pixel centres, half a pixel inside. In a
    threefold enlargement the centres of a cell's first and last pixel lie at
    3 x and 3 x + 2, which a division by 3 rounds to the cell's own edges x and
    x + 1: the polygon then covers the mask's pixels and no others.
    """
    enlarged = cv2.resize(mask.astype(np.uint8), None, fx=3, fy=3,
                          interpolation=cv2.INTER_NEAREST)
    contours = cv2.findContours(enlarged, cv2.RETR_EXTERNAL,
                                cv2.CHAIN_APPROX_NONE)[-2]
    polygons = []
    for contour in contours:
        points = np.round(contour[:, 0] / 3).astype(int)
        points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
        before = points - np.roll(points, 1, axis=0)
        after = np.roll(points, -1, axis=0) - points
        corner = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
        polygons.append(points[corner].ravel().tolist())
    return polygons
