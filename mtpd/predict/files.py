"""Boxes for files: drawn images and videos, and one JSON file."""
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import cv2
import mmcv
import numpy as np

from mtpd.compat.atomic_files import atomic_write
from mtpd.show.progress_bar import progress_bar

from .inputs import Input, UnusableInput, find_inputs
from .predictor import UNREADABLE, Predictor

JSON = 'predictions.json'
"""In the folder of the results."""


class Predicted(NamedTuple):
    """What was done.

    Attributes:
        json: Path of the file with all detections.
        done: Number of images and videos with results.
        detections: Their number in all.
        unread: Path -> why it could not be read.
    """
    json: str
    done: int
    detections: int
    unread: dict[str, str]


def predict_files(predictor: Predictor, paths: Sequence[str], out: str,
                  origin: dict[str, Any]) -> Predicted:
    """Predict on images and videos, and write what was found.

    A file that cannot be read is left out and named in the result.

    Args:
        predictor: The detector.
        paths: Image files, video files and folders of both.
        out: Folder for the drawn images and videos, under their own names,
            and the JSON file.
        origin: Plain values to put first into the JSON file.

    Raises:
        FileNotFoundError: There is no such file or folder.
        UnusableInput: There is nothing to predict on, or ``out`` cannot be
            written to.
    """
    inputs = find_inputs(paths, out)
    folder = _writable(out, inputs)
    results: dict[str, list[dict]] = {'images': [], 'videos': []}
    unread = {}
    with progress_bar('Predicting') as update:
        update(0, len(inputs))
        for number, one in enumerate(inputs, 1):
            try:
                if one.is_video:
                    results['videos'].append(
                        _predict_video(predictor, one, folder))
                else:
                    results['images'].append(
                        _predict_image(predictor, one, folder))
            except _Unreadable as error:
                unread[str(one.path)] = str(error)
            update(number, len(inputs))
    path = str(folder / JSON)
    atomic_write(path, json.dumps(
        {**origin, 'classes': predictor.classes, **results,
         'not_read': unread}, indent=1, ensure_ascii=False).encode())
    frames = [*results['images'],
              *(frame for video in results['videos']
                for frame in video['frames'])]
    return Predicted(path, len(inputs) - len(unread), sum(
        len(frame['detections']) for frame in frames), unread)


class _Unreadable(Exception):
    """A file is no image or no video that can be read."""


def _writable(out: str, inputs: Sequence[Input]) -> Path:
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableInput(f'--out {out} cannot be written to '
                            f'({error.strerror}). Name another folder.') \
            from error
    for one in inputs:
        target = folder / one.written_name
        if target.exists() and target.samefile(one.path):
            raise UnusableInput(f'--out {out} would write over {one.path}. '
                                'Name another folder.')
    return folder


def _predict_image(predictor: Predictor, one: Input,
                   folder: Path) -> dict[str, Any]:
    try:
        image = predictor.read(str(one.path))
    except UNREADABLE as error:
        raise _Unreadable(_reason(error, one.path)) from error
    sample = predictor.predict(image)
    # mmcv writes through Python, so that a name may have any letters.
    mmcv.imwrite(np.ascontiguousarray(predictor.draw(image, sample)),
                 str(folder / one.written_name))
    height, width = image.shape[:2]
    return {'file': str(one.path), 'drawn': one.written_name, 'width': width,
            'height': height, 'detections': predictor.describe(sample)}


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if not os.path.getsize(path):
        return 'the file is empty'
    return 'it is no image that OpenCV can read'


def _predict_video(predictor: Predictor, one: Input,
                   folder: Path) -> dict[str, Any]:
    video = mmcv.VideoReader(str(one.path))
    if not video.opened or min(video.width, video.height) < 1:
        raise _Unreadable('it is no video that OpenCV can read')
    # Some cameras write none.
    rate = video.fps if math.isfinite(video.fps) and video.fps > 0 else 25.
    target = folder / one.written_name
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*'mp4v'),
                             rate, (video.width, video.height))
    if not writer.isOpened():
        raise UnusableInput(f'OpenCV cannot write the video {target}. Name '
                            'another folder with --out.')
    frames: list[dict[str, Any]] = []
    while True:
        frame = video.read()
        if frame is None:
            break
        sample = predictor.predict(frame)
        writer.write(np.ascontiguousarray(predictor.draw(frame, sample)))
        frames.append({'frame': len(frames),
                       'detections': predictor.describe(sample)})
    writer.release()
    if not frames:
        target.unlink(missing_ok=True)
        raise _Unreadable('it has no frame that OpenCV can read')
    return {'file': str(one.path), 'drawn': one.written_name, 'fps': rate,
            'width': video.width, 'height': video.height, 'frames': frames}
