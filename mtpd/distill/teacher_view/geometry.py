"""Affine maps between images, and images moved by them.

Coordinates are continuous, x to the right and y down, and pixel i covers
[i, i + 1): mmdet's boxes and the ``homography_matrix`` that its steps record
are in these. OpenCV's warps are not; theirs have pixel i's centre at i.
"""
from collections.abc import Mapping
from fractions import Fraction

import cv2
import mmcv
import numpy as np

Size = tuple[int, int]  # (height, width) in pixels


def scaled_size(size: Size, scale: Fraction) -> Size:
    """Both sides times ``scale``, rounded to whole pixels, halves up."""
    height, width = (max(1, int(side * scale + Fraction(1, 2)))
                     for side in size)
    return height, width


def added_matrix(before: np.ndarray | None,
                 after: np.ndarray | None) -> np.ndarray:
    """The factor by which a step has multiplied the recorded matrix."""
    if before is None:
        before = np.eye(3)
    if after is None:
        after = np.eye(3)
    # The inverse would round where the step did nothing.
    if np.array_equal(before, after):
        return np.eye(3)
    return after.astype(np.float64) @ np.linalg.inv(before.astype(np.float64))


def _shift(by: float) -> np.ndarray:
    return np.array([[1, 0, by], [0, 1, by], [0, 0, 1]], np.float64)


def from_opencv(matrix: np.ndarray) -> np.ndarray:
    """A matrix in OpenCV's coordinates -> the same map in mmdet's."""
    return _shift(0.5) @ matrix @ _shift(-0.5)


def move_image(image: np.ndarray, matrix: np.ndarray, size: Size,
               resize: Mapping[str, str]) -> np.ndarray:
    """``image`` moved by ``matrix`` into a frame of ``size``.

    Outside of the image its edge is repeated.

    Args:
        image: (H, W, channels).
        matrix: (3, 3), from the image to the frame.
        size: The frame's (h, w).
        resize: Interpolation and backend of ``mmcv.imresize``, for a move
            along whole pixels.
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
        in_opencv = _shift(-0.5) @ matrix @ _shift(0.5)
        return cv2.warpAffine(
            image, in_opencv[:2], size[::-1],
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


def inside_frame(matrix: np.ndarray, frame: Size, size: Size) -> np.ndarray:
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
