"""A drawn detection set: textured shapes on textured ground, in COCO's format.

The classes differ by outline alone. Fill, colour, size, aspect, rotation and
contrast come from the same distributions for all of them. A detector cannot
rely on colour and has to spend channels on form, which separates a tiny
student from a larger teacher within minutes of training.
"""
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Iterator

import cv2
import numpy as np

from .drawing import CLASSES, draw_image
from .masks import bounding_box, outlines

__all__ = ['CLASSES', 'draw_shapes']

# Increase it with every change that alters images: existing folders are then
# drawn again.
_DRAWING = 1


def draw_shapes(folder: str | os.PathLike, train: int, val: int,
                size: tuple[int, int], seed: int) -> None:
    """Draw a training and a validation set, unless the folder holds them.

    Writes ``train/*.png``, ``val/*.png`` and
    ``annotations/instances_{train,val}.json`` to ``folder``, and
    ``drawn_shapes.json`` with the parameters, which ends in ``.part`` until
    all is drawn. A folder with other parameters, or without all of its files,
    is drawn again. Equal parameters give equal bytes with the same version of
    OpenCV. An image depends only on ``seed``, its split and its number, so a
    larger set starts with the images of a smaller one.

    Args:
        folder: Where to write; created if missing.
        train: Number of training images.
        val: Number of validation images.
        size: (width, height) in pixels, at least 64 each.
        seed: Not negative.

    Raises:
        ValueError: A count below 1, a side below 64 or a negative seed.
        TypeError: One of them is no whole number.
        FileExistsError: The folder holds other files.
        OSError: An image could not be written.
    """
    width, height = size
    _check_numbers(train, val, width, height, seed)
    folder = Path(folder)
    record = folder / 'drawn_shapes.json'
    unfinished = record.with_suffix('.json.part')
    parameters = dict(drawing=_DRAWING, classes=list(CLASSES), train=train,
                      val=val, size=[width, height], seed=seed)
    with suppress(OSError, ValueError):  # not there, or torn
        if json.loads(record.read_text()) == parameters and all(
                map(Path.is_file, _files(folder, train, val))):
            return
    if folder.exists() and any(folder.iterdir()) \
            and not (record.exists() or unfinished.exists()):
        raise FileExistsError(f'{folder} holds files that were not drawn. '
                              'Name an empty folder, or a new one.')
    (folder / 'annotations').mkdir(parents=True, exist_ok=True)
    unfinished.write_text(json.dumps(parameters))
    record.unlink(missing_ok=True)
    # The numbers 0 and 1 of the splits are part of the seeds.
    for number, (split, count) in enumerate(dict(train=train,
                                                 val=val).items()):
        coco = _draw_split(folder / split, count, (width, height),
                           [seed, number])
        path = folder / 'annotations' / f'instances_{split}.json'
        path.write_text(json.dumps(coco))
    os.replace(unfinished, record)


def _check_numbers(train: int, val: int, width: int, height: int,
                   seed: int) -> None:
    """Raise what :func:`draw_shapes` says."""
    for number in (train, val, width, height, seed):
        if type(number) is not int:
            raise TypeError(f'{number!r} is no whole number')
    if min(train, val) < 1 or min(width, height) < 64 or seed < 0:
        raise ValueError(
            'draw_shapes needs at least one image per split, sides of at '
            f'least 64 pixels and a seed >= 0; got train={train}, val={val}, '
            f'size={(width, height)}, seed={seed}.')


def _files(folder: Path, train: int, val: int) -> Iterator[Path]:
    """All that is drawn."""
    for split, count in (('train', train), ('val', val)):
        yield folder / 'annotations' / f'instances_{split}.json'
        for index in range(count):
            yield folder / split / _name(index)


def _name(index: int) -> str:
    return f'{index:05d}.png'


def _draw_split(folder: Path, count: int, size: tuple[int, int],
                seeds: list[int]) -> dict[str, Any]:
    """Write the images of one split, and return its COCO annotations."""
    width, height = size
    folder.mkdir(exist_ok=True)
    for path in folder.glob('[0-9]*.png'):  # there may have been more
        path.unlink()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        rng = np.random.default_rng([*seeds, index])
        image, labels, masks = draw_image(rng, width, height)
        name = _name(index)
        if not cv2.imwrite(str(folder / name), image):
            raise OSError(f'{folder / name} could not be written.')
        images.append(dict(
            id=index + 1, file_name=name, width=width, height=height))
        for label, mask in zip(labels, masks, strict=True):
            annotations.append(dict(
                id=len(annotations) + 1, image_id=index + 1,
                category_id=label + 1, bbox=bounding_box(mask),
                area=int(mask.sum()), iscrowd=0, segmentation=outlines(mask)))
    categories = [dict(id=label + 1, name=name)
                  for label, name in enumerate(CLASSES)]
    return dict(info=dict(description=f'drawn shapes, {folder.name}'),
                licenses=[], categories=categories, images=images,
                annotations=annotations)
