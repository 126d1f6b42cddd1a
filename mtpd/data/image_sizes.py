"""The sizes to which images come in a training pipeline, by its config."""
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from mtpd.config_types import type_name

Size = tuple[int, int]
"""(height, width) in pixels."""

_TAKE_ONE = 'RandomChoice'
"""The step that takes one of several pipelines."""


class _Sizes(NamedTuple):
    """Sizes that images can have.

    Attributes:
        sizes: The largest ones.
        known: Whether a step has set them; those of files alone say nothing
            of a pipeline that joins several images.
    """
    sizes: frozenset[Size]
    known: bool

    def through(self, sizes: Iterable[Size], sets: bool = False) -> '_Sizes':
        """The sizes after a step."""
        return _Sizes(frozenset(sizes), self.known or sets)

    def beside(self, other: '_Sizes') -> '_Sizes':
        """Those of either."""
        return _Sizes(self.sizes | other.sizes, self.known or other.known)


def largest_sizes(dataset: Mapping[str, Any],
                  shapes: Iterable[Size]) -> list[Size]:
    """The sizes of images that leave a data set, at their largest.

    Resizes, crops to a number of pixels, and paddings count, in their order.
    Of other steps nothing is known here. A pipeline that resizes nothing has
    no sizes.

    Args:
        dataset: The config, also of wrapped data sets.
        shapes: Of the images in their files.
    """
    found = _of(dataset, _Sizes(frozenset(shapes), False))
    return sorted(found.sizes) if found.known else []


def _of(dataset: Mapping[str, Any], images: _Sizes) -> _Sizes:
    """After the pipelines of the data sets within it, and its own."""
    within = [*(dataset.get('datasets') or []), dataset.get('dataset')]
    inner = [_of(one, images) for one in within if isinstance(one, Mapping)]
    for found in inner[1:]:
        inner[0] = inner[0].beside(found)
    return _after(dataset.get('pipeline'), inner[0] if inner else images)


def _after(steps: Any, images: _Sizes) -> _Sizes:
    """After the steps of a pipeline."""
    for step in steps if isinstance(steps, (list, tuple)) else [steps]:
        if isinstance(step, (list, tuple)):
            images = _after(step, images)
        elif isinstance(step, Mapping):
            images = _after_step(step, images)
    return images


def _after_step(step: Mapping[str, Any], images: _Sizes) -> _Sizes:
    kind = type_name(step.get('type'))
    inner = step.get('transforms')
    if kind == _TAKE_ONE and isinstance(inner, (list, tuple)) and inner:
        taken = [_after(one, images) for one in inner]
        for found in taken[1:]:
            taken[0] = taken[0].beside(found)
        return taken[0]
    images = _after(inner, images)
    if 'Resize' in kind:
        sizes = _resized(step, images.sizes)
        return images.through(sizes, True) if sizes else images
    if kind == 'RandomCrop':
        return images.through(_cropped(step, size) for size in images.sizes)
    if kind == 'Pad':
        return images.through(_padded(step, size) for size in images.sizes)
    return images


def _resized(step: Mapping[str, Any], sizes: Iterable[Size]) -> set[Size]:
    """The sizes of images at each scale of a step.

    With ``keep_ratio`` a scale bounds both edges, and a bound that no image
    reaches (4200 in DETR's pipelines) costs nothing.
    """
    found = set()
    for height, width in sizes:
        for scale in _scales(step):
            if not step.get('keep_ratio', False):
                found.add((scale[1], scale[0]))
                continue
            factor = min(max(scale) / max(height, width),
                         min(scale) / min(height, width))
            found.add((round(height * factor), round(width * factor)))
        factors = _pair(step.get('scale_factor'))
        if factors is not None:
            found.add((round(height * factors[1]), round(width * factors[0])))
    return found


def _scales(step: Mapping[str, Any]) -> Iterator[Size]:
    """All (width, height) that a step resizes to, at their largest."""
    pairs = _pairs(step.get('scales') or step.get('scale'))
    ratio = max(_pair(step.get('ratio_range')) or (1., 1.))
    for width, height in pairs:
        yield int(width * ratio), int(height * ratio)
    if 'scale' in step and len(pairs) == 2:
        # Any between the two, each edge by itself.
        yield max(p[0] for p in pairs), max(p[1] for p in pairs)


def _pairs(scales: Any) -> list[Size]:
    """One scale, or several, as a list; a number stands for both edges."""
    if isinstance(scales, int):
        return [(scales, scales)]
    if not isinstance(scales, (list, tuple)):
        return []
    if scales and not isinstance(scales[0], (list, tuple)):
        scales = [scales]
    return [(one[0], one[1]) for one in scales if len(one) == 2]


def _cropped(step: Mapping[str, Any], size: Size) -> Size:
    crop = _pair(step.get('crop_size'))
    kind = step.get('crop_type', 'absolute')
    if crop is None or not kind.startswith('absolute'):
        return size
    width, height = crop if kind == 'absolute' else (crop[1], crop[1])
    return min(size[0], int(height)), min(size[1], int(width))


def _padded(step: Mapping[str, Any], size: Size) -> Size:
    if step.get('pad_to_square'):
        size = max(size), max(size)
    divisor = step.get('size_divisor')
    if divisor:
        return size[0] + -size[0] % divisor, size[1] + -size[1] % divisor
    wanted = _pair(step.get('size'))  # (width, height)
    if wanted is None:
        return size
    return max(size[0], int(wanted[1])), max(size[1], int(wanted[0]))


def _pair(value: Any) -> Sequence[float] | None:
    """Two numbers, also where one stands for both; None for anything else."""
    pair = value if isinstance(value, (list, tuple)) else (value, value)
    return pair if len(pair) == 2 and all(
        isinstance(one, (int, float)) and not isinstance(one, bool)
        for one in pair) else None
