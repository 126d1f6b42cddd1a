"""Recording the changes of the student's image, and replaying them."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmcv import transforms as mmcv_steps
from mmdet.datasets import transforms as mmdet_steps

from mtpd.randomness import RngStates, draws_from, rng_states

from .geometry import Size, added_matrix, from_opencv, inside_frame, move_image
from .steps import (CURE, EARLY, GEOMETRIC, LEAVE_IMAGE, POINTWISE, RESAMPLE,
                    RESIZE, WARP, WRAPPERS)

KEY = 'teacher_view'  # in the results dict, between the steps


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
class View:
    """The image before it is resampled, and its changes from there on.

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
        """Images that show the same as the student's image.

        Args:
            original: (H, W, channels), the image before the changes.
            student: The size of the student's image.
            sizes: Of the images to make.

        Returns:
            One image (h, w, channels) for each of ``sizes``.
        """
        last = 0  # changes up to the last move
        for count, change in enumerate(self.changes, 1):
            if isinstance(change, _Move):
                last = count
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
            image = move_image(original, scaled, size, self.resize)
            # A later step's fill covers an earlier one's.
            for (until, frame), fill in zip(frames, fills, strict=True):
                from_frame = scaled @ np.linalg.inv(until)
                shown = inside_frame(from_frame, frame, size)
                image[~shown] = fill[0, 0]
            for change in self.changes[last:]:
                if isinstance(change, _Recolour):  # all of them are
                    image = change(image)
            images.append(image)
        return images


def watch(step: Any) -> Callable:
    """A step whose changes are recorded, also inside of a wrapper."""
    if type(step) not in WRAPPERS:
        return _Watched(step)
    inner = step.transforms
    if isinstance(inner, mmcv_steps.Compose):
        step.transforms = watch(inner)
    else:
        step.transforms = [watch(part) for part in inner]
    return step


class _Watched:
    """A step that records its changes in the results' ``View``."""

    def __init__(self, step: Any) -> None:
        self.step = step

    def __repr__(self) -> str:
        return repr(self.step)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        kind, view = type(self.step), results[KEY]
        if kind in RESAMPLE and view.image is None:
            # A copy: a warp that is not drawn returns this very array, and
            # YOLOXHSVRandomAug changes its input in place.
            view.image = results['img'].copy()
        if kind in LEAVE_IMAGE:
            return self.step(results)
        if view.image is None:
            return self._share(results)
        if kind in GEOMETRIC:
            return self._move(results)
        if kind in POINTWISE or getattr(self.step, 'pointwise', False):
            view.changes.append(_Recolour(self.step, rng_states()))
            return self.step(results)
        return self._leave(results)

    def _share(self, results: dict[str, Any]) -> dict[str, Any] | None:
        frame = results['img'].shape[:2]
        results = self.step(results)
        if results is not None and results['img'].shape[:2] != frame \
                and type(self.step) not in GEOMETRIC | EARLY:
            raise ValueError(
                f'{type(self.step).__name__} changed the size of the '
                "student's image in an unknown way: the teacher's image "
                f'cannot follow. {CURE}')
        return results

    def _move(self, results: dict[str, Any]) -> dict[str, Any] | None:
        view, states = results[KEY], rng_states()
        frame, dtype = results['img'].shape[:2], results['img'].dtype
        before = results.get('homography_matrix')
        results = self.step(results)
        if results is None:
            return None
        if type(self.step) is mmdet_steps.RandomAffine:
            matrix = _affine_matrix(self.step, frame, states)
        else:
            matrix = added_matrix(before, results.get('homography_matrix'))
            if type(self.step) in WARP:
                matrix = from_opencv(matrix)
        if not np.array_equal(matrix, np.eye(3)) \
                or results['img'].shape[:2] != frame:
            fill = _fill(self.step)
            if fill is not None:
                channels = results['img'].shape[2:]
                fill = np.broadcast_to(fill, (1, 1, *channels)).astype(dtype)
            view.changes.append(_Move(matrix, frame, fill))
        resize = getattr(self.step, 'resize', self.step)
        if type(resize) in RESIZE:
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
                f'it before the first such step. Else: {CURE}')
        return results


def _affine_matrix(step: Any, frame: Size, states: RngStates) -> np.ndarray:
    """The matrix of RandomAffine, which records none: drawn once more."""
    across, down = step.border
    with draws_from(states):
        return from_opencv(step._get_random_homography_matrix(
            frame[0] + 2 * down, frame[1] + 2 * across).astype(np.float64))


def _fill(step: Any) -> Any:
    """The colour around an image, a number or one per channel, or None."""
    if type(step) is mmdet_steps.Pad:
        return step.pad_val.get('img', 0)
    if type(step) is mmdet_steps.RandomAffine:
        return step.border_val
    return step.img_border_value if type(step) in WARP else None
