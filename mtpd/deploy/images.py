"""The images that an export is checked and calibrated with."""
import contextlib
import io
import os
from typing import Any, Iterator, Sequence

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mtpd.config_types import dict_of
from mtpd.plan.data_check import inner_datasets
from mtpd.predict.inputs import UnusableInput
from mtpd.predict.onnx_file import first_line
from mtpd.predict.test_set import BROKEN, file_pipeline, test_dataset

from .check import Batch

_TRAINING = 'train_dataloader.dataset'
# Height and width of the images that are drawn at random.
_DRAWN = ((360, 480), (480, 320))


class Reader:
    """From image files to what the network takes.

    Args:
        steps: See :func:`mtpd.predict.onnx_predictor.known_steps`.
    """

    def __init__(self, steps: list[dict[str, Any]]) -> None:
        self._read, self._pipeline = file_pipeline(ConfigDict(pipeline=steps))

    def file(self, path: str, owner: str = 'The test set') -> np.ndarray:
        """The network's input for an image file, (3, H, W), BGR.

        Args:
            path: The file.
            owner: What names it, for the message.

        Raises:
            UnusableInput: It is no image, or none that the pipeline takes.
        """
        try:
            return self.image(self._read(dict(img_path=path))['img'])
        except Exception as error:  # whatever a transform may raise
            raise UnusableInput(
                f'{owner} names {path}, which cannot be read and resized '
                f'({type(error).__name__}: {first_line(error)}). Replace the '
                'file, or take it out of the annotations.') from error

    def calibration(self, path: str) -> np.ndarray:
        """The same for a training image."""
        return self.file(path, _TRAINING)

    def image(self, image: np.ndarray) -> np.ndarray:
        """The same for an image, (H, W, 3), BGR."""
        packed = self._pipeline(dict(img=image, img_id=0))['inputs']
        array: np.ndarray = packed.numpy()
        return array


def image_paths(datasets: Sequence[ConfigDict], number: int) -> list[str]:
    """Image files of data sets, spread over all that they have.

    Args:
        datasets: Their configs; no annotation is used.
        number: Of files; fewer if there are no more.

    Raises:
        OSError, ValueError, KeyError, TypeError, AssertionError: A data set
            cannot be read.
    """
    paths = []
    for dataset in datasets:
        # pycocotools prints that it loads.
        with contextlib.redirect_stdout(io.StringIO()):
            built = DATASETS.build({**dataset, 'pipeline': [],
                                    'test_mode': True, 'lazy_init': False})
        paths += [built.get_data_info(place)['img_path']
                  for place in range(len(built))]
    places = np.linspace(0, len(paths) - 1, min(number, len(paths)))
    return [paths[round(place)] for place in places]


def check_batches(cfg: Config, reader: Reader, number: int) -> list[Batch]:
    """Images of several sizes and a batch of two, to compare detectors on.

    Args:
        cfg: With the test set, or else validation set, that they are of; they
            are drawn where it has no images here.
        reader: What makes the network's input.
        number: Of images.

    Raises:
        UnusableInput: One of them cannot be read.
    """
    try:
        paths = image_paths([test_dataset(cfg)], number)
    except BROKEN:
        paths = []
    if paths and all(map(os.path.isfile, paths)):
        name, images = 'test images', [reader.file(path) for path in paths]
    else:
        print_log('The images of the test set are not here; the file is '
                  'compared on images that are drawn.', 'current')
        name, images = 'drawn images', list(map(reader.image, drawn_images()))
    smaller = other_size(images[0])
    pair = np.stack([smaller, smaller[:, ::-1, ::-1]])
    return [*(Batch(name, image[None]) for image in images),
            Batch('another size', smaller[None]),
            Batch('a batch of two', pair)]


def calibration_paths(cfg: Config, reader: Reader, number: int) -> list[str]:
    """Training images, which tell in what range a layer's values lie.

    Args:
        cfg: With the training set.
        reader: What will make the network's input of them.
        number: Of images; fewer if there are no more.

    Raises:
        UnusableInput: There are none, or one cannot be read.
    """
    field = _TRAINING
    if not dict_of(cfg, 'train_dataloader').get('dataset'):
        raise UnusableInput(
            f'--int8 is calibrated with training images, and {cfg.filename} '
            f'has no {field}. Set it, or export without --int8.')
    datasets = [one for _, one in inner_datasets(
        cfg.train_dataloader.dataset, field)]
    try:
        paths = image_paths(datasets, number)
    except BROKEN as error:
        raise UnusableInput(
            f'--int8 is calibrated with training images, and {field} cannot '
            f'be read ({type(error).__name__}: {error}). Correct its paths, '
            'or export without --int8.') from error
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing or not paths:
        raise UnusableInput(
            '--int8 is calibrated with training images, and '
            + (f'{missing[0]} is missing' if missing else f'{field} has none')
            + f'. Correct the paths of {field}, or export without --int8.')
    for path in paths:  # now, and not after minutes
        reader.calibration(path)
    return paths


def drawn_images() -> Iterator[np.ndarray]:
    """Images of coloured spots of two sizes, (H, W, 3), uint8, the same in
    every call."""
    rng = np.random.default_rng(0)
    for height, width in _DRAWN:
        spots = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        yield cv2.resize(spots, (width, height),
                         interpolation=cv2.INTER_CUBIC)


def other_size(image: np.ndarray) -> np.ndarray:
    """An image (3, H, W) of about three quarters of the size.

    The sides are multiples of 32, which every neck takes.
    """
    height, width = (max(64, round(side * .75 / 32) * 32)
                     for side in image.shape[1:])
    resized = cv2.resize(np.ascontiguousarray(image.transpose(1, 2, 0)),
                         (width, height))
    return np.ascontiguousarray(resized.transpose(2, 0, 1))
