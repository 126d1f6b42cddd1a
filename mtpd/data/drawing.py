"""Draws one image of textured shapes on a textured ground, with clutter.

Fill, colour, size, aspect, rotation and contrast come from the same
distributions for all classes, so only the outline tells a class.
"""
import cv2
import numpy as np
from numpy.random import Generator

from .masks import is_recognisable

CLASSES = ('disc', 'triangle', 'square', 'star', 'cross')

_SUPERSAMPLE = 4  # outlines are drawn this much larger, for soft edges
_DIAMETER = (0.13, 0.4)  # of a shape, relative to the image's width
_CONTRAST = (60, 130)  # grey levels between a fill and the ground under it


def draw_image(rng: Generator, width: int, height: int
               ) -> tuple[np.ndarray, list[int], list[np.ndarray]]:
    """One image with 5 to 10 shapes, or fewer if there is no space for more.

    Returns:
        The image (H, W, 3) uint8, indices into :data:`CLASSES`, and bool masks
        (H, W) of the visible part of each shape.
    """
    canvas = _texture(rng, width, height, rng.uniform(20, 110, 3),
                      rng.uniform(4, 12))
    _draw_clutter(rng, canvas)
    labels: list[int] = []
    masks: list[np.ndarray] = []
    whole_areas: list[int] = []
    count = rng.integers(5, 11)
    for _ in range(4 * count):  # attempts
        if len(labels) == count:
            break
        label = int(rng.integers(len(CLASSES)))
        alpha = _shape_alpha(rng, CLASSES[label], width, height)
        mask = alpha >= 0.5
        remaining = [old & ~mask for old in masks]
        if not all(map(is_recognisable, remaining + [mask],
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
    """(H, W, 3) float32 with mean ``colour``: blotches, in half of the cases
    also stripes.

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
    """Draw strokes and arcs on ``canvas`` in place; they have no labels, and
    shapes are drawn over them."""
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
    """A BGR colour whose strongest channel is brighter than ``ground`` by
    ``_CONTRAST`` grey levels.

    Never darker: with both signs, a RetinaNet from random weights had learned
    almost nothing after 500 steps (4 AP).
    """
    tint = rng.uniform(0.2, 1, 3)
    return ground + rng.uniform(*_CONTRAST) * tint / tint.max()


def _shape_alpha(rng: Generator, name: str, width: int,
                 height: int) -> np.ndarray:
    """Coverage of each pixel by one shape, (H, W) float32 from 0 to 1.

    The shape has a random size, aspect, rotation and place, and lies inside
    the image.
    """
    outline = _unit_outline(name)
    # log-uniform, so that each octave of sizes is as frequent as the next
    diameter = width * np.exp(rng.uniform(*np.log(_DIAMETER)))
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
    """Corners (n, 2) of a shape around 0, with the area of a disc of radius
    0.9: with unequal areas, size would tell the class.
    """
    corners = dict(disc=48, triangle=3, square=4, star=10, cross=12)[name]
    turn = 2 * np.pi * np.arange(corners) / corners
    radius = np.ones(corners)
    if name == 'star':
        radius[1::2] = 0.45
    points = radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if name == 'cross':
        arm = 0.34
        quarters = [np.array([(1, arm), (arm, arm), (arm, 1)])]
        for _ in range(3):
            x, y = quarters[-1].T
            quarters.append(np.stack([-y, x], axis=1))
        points = np.concatenate(quarters)
    x, y = points.T
    area = np.abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return points * np.sqrt(0.81 * np.pi / area)
