"""Errors while an image is prepared name the image and the step.

With mmengine 0.10.7 an error of a pipeline's step is that of the library
below: an empty file is "!buf.empty()" of OpenCV, and nobody learns which of
100,000 files it is. With this module installed, the error has a note. It is
of the same type and passes a loader's worker processes. Before Python 3.11 a
traceback does not show notes. No longer needed once mmengine's Compose says so
itself (no release does).
"""
import functools
from types import TracebackType
from typing import Any, Callable, NamedTuple

from mmengine.dataset import Compose

_START, _MIDDLE = 'In the step ', ' of the pipeline, image '


class Sample(NamedTuple):
    """Where an error came from.

    Attributes:
        step: The class of the pipeline's step.
        image: The image's path.
    """
    step: str
    image: str


def name_samples_in_errors() -> None:
    """Let all pipelines of this process do so. Calling it again changes
    nothing."""
    if not hasattr(Compose.__call__, '__wrapped__'):
        Compose.__call__ = _with_note(Compose.__call__)


def _with_note(whole: Callable[[Compose, dict], Any]
               ) -> Callable[[Compose, dict], Any]:
    @functools.wraps(whole)
    def __call__(self: Compose, data: dict) -> Any:
        try:
            return whole(self, data)
        except Exception as error:
            image = data.get('img_path')
            if image:
                step = _step_in(error.__traceback__)
                # As add_note does, which Python 3.10 does not have.
                vars(error).setdefault('__notes__', []).append(
                    f'{_START}{step}{_MIDDLE}{image}')
            raise
    return __call__


def _step_in(traceback: TracebackType | None) -> str:
    """The class of the step that Compose was in."""
    while traceback is not None:
        values = traceback.tb_frame.f_locals
        if 't' in values and isinstance(values.get('self'), Compose):
            return type(values['t']).__name__
        traceback = traceback.tb_next
    return 'unknown'


def sample_of(error: BaseException) -> Sample | None:
    """The image and step that an error came from, also one of a worker, whose
    text holds the note; None if it came from elsewhere."""
    lines = [*getattr(error, '__notes__', ()), *str(error).splitlines()]
    for line in lines:
        step, middle, image = line.removeprefix(_START).partition(_MIDDLE)
        if line.startswith(_START) and middle:
            return Sample(step, image)
    return None
