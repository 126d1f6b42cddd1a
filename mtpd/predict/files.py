"""Boxes for files: drawn images and videos, and one JSON file."""
import json
from itertools import chain
from typing import Any, NamedTuple, Sequence

from mtpd.compat.atomic_files import atomic_write
from mtpd.show.progress_bar import progress_bar

from .inputs import find_inputs, result_folder
from .media import (Unreadable, missing_frames, predict_image,
                    predict_video)
from .predictor import BasePredictor

JSON = 'predictions.json'
"""In the folder of the results."""


class Predicted(NamedTuple):
    """What was done.

    Attributes:
        json: Path of the file with all detections.
        done: Number of images and videos with results.
        detections: Their number in all.
        unread: Path -> why it could not be read, or not to its end.
        files: Number of images and videos.
    """
    json: str
    done: int
    detections: int
    unread: dict[str, str]
    files: int


def predict_files(predictor: BasePredictor, paths: Sequence[str], out: str,
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
    folder = result_folder(out, inputs)
    images: list[dict] = []
    videos: list[dict] = []
    unread = {}
    with progress_bar('Predicting') as update:
        update(0, len(inputs))
        for number, one in enumerate(inputs, 1):
            try:
                if one.is_video:
                    videos.append(predict_video(predictor, one, folder))
                    if why := missing_frames(videos[-1]):
                        unread[str(one.path)] = why
                else:
                    images.append(predict_image(predictor, one, folder))
            except Unreadable as error:
                unread[str(one.path)] = str(error)
            update(number, len(inputs))
    path = str(folder / JSON)
    text = json.dumps(
        {**origin, 'classes': predictor.classes, 'images': images,
         'videos': videos, 'not_read': unread}, indent=1, ensure_ascii=False)
    # A byte of a file's name that is no UTF-8 becomes JSON's \udc00 to
    # \udcff, which Python reads back as the same name.
    atomic_write(path, text.encode(errors='backslashreplace'))
    detections = 0
    for frame in chain(images, *(video['frames'] for video in videos)):
        detections += len(frame['detections'])
    return Predicted(path, len(images) + len(videos), detections, unread,
                     len(inputs))
