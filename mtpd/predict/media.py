"""One image or video: its boxes as values, and drawn."""
import math
import os
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample

from .inputs import Input, UnusableInput
from .onnx_file import first_line
from .predictor import UNREADABLE, BasePredictor


class Unreadable(Exception):
    """A file is no image or no video that can be predicted on."""


def predict_image(predictor: BasePredictor, one: Input,
                  folder: Path) -> dict[str, Any]:
    """The detections in an image, as plain values.

    Args:
        predictor: The detector.
        one: The image.
        folder: Where the drawn image is written.

    Raises:
        Unreadable: The file is no image, or cannot be drawn.
    """
    try:
        image = predictor.read(str(one.path))
    except UNREADABLE as error:
        raise Unreadable(
            'the file is empty' if not os.path.getsize(one.path) else
            getattr(error, 'strerror', None)
            or 'it is no image that OpenCV can read') from error
    sample = _predicted(predictor, image)
    drawn = _drawn(predictor, image, sample)
    try:
        # mmcv writes through Python, so that a name may have any letters.
        mmcv.imwrite(drawn, str(folder / one.written_name))
    except OSError as error:
        raise Unreadable('the drawn image cannot be written '
                         f'({error.strerror or error})') from error
    height, width = image.shape[:2]
    return {'file': str(one.path), 'drawn': one.written_name, 'width': width,
            'height': height, 'detections': predictor.describe(sample)}


def predict_video(predictor: BasePredictor, one: Input,
                  folder: Path) -> dict[str, Any]:
    """The detections in each frame of a video, as plain values.

    Args:
        predictor: The detector.
        one: The video.
        folder: Where the drawn video is written.

    Raises:
        Unreadable: The file is no video.
        UnusableInput: The drawn video cannot be written.
    """
    video = mmcv.VideoReader(str(one.path))
    if not video.opened:
        raise Unreadable('it is no video that OpenCV can read')
    # Some cameras write none.
    rate = video.fps if 0 < video.fps < math.inf else 25.
    target = folder / one.written_name
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*'mp4v'),
                             rate, (video.width, video.height))
    if not writer.isOpened():
        raise UnusableInput(f'OpenCV cannot write the video {target}. Name '
                            'another folder with --out.')
    frames: list[dict[str, Any]] = []
    try:
        for frame in video:
            sample = _predicted(predictor, frame)
            writer.write(_drawn(predictor, frame, sample))
            frames.append({'frame': len(frames),
                           'detections': predictor.describe(sample)})
        writer.release()
        if not frames:
            raise Unreadable('it has no frame that OpenCV can read')
    except BaseException:  # also a stop from the keyboard
        writer.release()
        target.unlink(missing_ok=True)
        raise
    return {'file': str(one.path), 'drawn': one.written_name, 'fps': rate,
            'width': video.width, 'height': video.height,
            'frames_in_header': max(0, video.frame_cnt), 'frames': frames}


def missing_frames(video: dict[str, Any]) -> str:
    """That a video ends before its time, in words; empty if it does not, or
    its header does not say.

    A header counts by duration and rate, some frames more or less.

    Args:
        video: As :func:`predict_video` describes it.
    """
    count, expected = len(video['frames']), video['frames_in_header']
    if count >= .95 * expected - 2:
        return ''
    return f'it ends after {count} of the {expected} frames that its header ' \
        'tells of; these are in the results'


def _drawn(predictor: BasePredictor, image: np.ndarray,
           sample: DetDataSample) -> np.ndarray:
    """An image with its boxes.

    Raises:
        Unreadable: mmdet cannot draw them.
    """
    try:
        return np.ascontiguousarray(predictor.draw(image, sample))
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever matplotlib may raise
        raise Unreadable(f'its boxes cannot be drawn ({type(error).__name__}: '
                         f'{first_line(error)})') from error


def _predicted(predictor: BasePredictor, image: np.ndarray) -> DetDataSample:
    """The detections in an image.

    Raises:
        Unreadable: The pipeline or the detector cannot take it, as one of two
            pixels' height that is resized to nothing.
    """
    try:
        return predictor.predict(image)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a step may raise
        height, width = image.shape[:2]
        raise Unreadable(
            f'the detector fails on it, {width}x{height} pixels '
            f'({type(error).__name__}: {first_line(error)})') from error
