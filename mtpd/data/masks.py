"""Masks of drawn shapes as COCO's boxes and polygons."""
import cv2
import numpy as np

_MIN_VISIBLE = 0.7  # of a shape, after the shapes above it are drawn
_MIN_AREA = 40  # visible pixels; the class of a smaller part is not visible


def is_recognisable(mask: np.ndarray, whole_area: int) -> bool:
    """Whether the visible part of a shape is large enough and has no hole.

    COCO's polygons cannot have holes: a shape drawn inside another one would
    count as a part of it.

    Args:
        mask: Visible part, (H, W).
        whole_area: Pixels of the whole shape.
    """
    if mask.sum() < max(_MIN_AREA, _MIN_VISIBLE * whole_area):
        return False
    _, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP,
                                    cv2.CHAIN_APPROX_SIMPLE)[-2:]
    return bool((hierarchy[0, :, 3] < 0).all())


def bounding_box(mask: np.ndarray) -> list[int]:
    """COCO's [x, y, width, height] of a mask (H, W), in pixels."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1),
            int(ys[-1] - ys[0] + 1)]


def outlines(mask: np.ndarray) -> list[list[int]]:
    """COCO polygons [[x, y, x, y, ...], ...] along the pixels' outer edges.

    OpenCV's contours run through pixel centres, half a pixel inside. In a
    threefold enlargement the centres of a cell's first and last pixel lie at
    3 x and 3 x + 2. Divided by 3, they round to the edges x and x + 1 of the
    cell, so the polygon covers exactly the pixels of the mask.
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
