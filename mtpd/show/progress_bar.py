"""Progress of a long pass: a bar on a terminal, lines in a log."""
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from time import monotonic
from typing import Callable, Iterator

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LOG_EVERY = 10.
"""Seconds from one line in a log to the next."""

_Show = Callable[[int, int, str], None]


@contextmanager
def progress_bar(task: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many images are done, how fast, and the time left.

    A bar on stderr if that is a terminal; otherwise a log line every
    :data:`LOG_EVERY` seconds and one when all are done. Only the main process
    shows anything.

    Args:
        task: What is being done, in a few words.

    Yields:
        A function of the number of images done and of all images. Call it
        once before any work: images of an earlier run do not count for the
        speed.
    """
    if not is_main_process():
        yield lambda done, total: None
        return
    console = Console(stderr=True)
    first = None

    def update(done: int, total: int) -> None:
        nonlocal first
        now = monotonic()
        first = first or (now, done)
        text = f'{done} of {total} images'
        seconds, new = now - first[0], done - first[1]
        if seconds > 0 and new > 0:
            left = timedelta(seconds=round(seconds / new * (total - done)))
            text += f', {new / seconds:.3g} images/s, {left} left'
        show(done, total, text)

    with _bar(task, console) if console.is_interactive \
            else nullcontext(_log_lines(task)) as show:
        yield update


@contextmanager
def _bar(task: str, console: Console) -> Iterator[_Show]:
    # Drawn by the calls alone: no thread takes time from the work.
    with Progress(TextColumn('{task.description}'), BarColumn(),
                  TextColumn('{task.fields[text]}'), console=console,
                  auto_refresh=False) as bar:
        bar_id = bar.add_task(task, total=None, text='')
        yield lambda done, total, text: bar.update(
            bar_id, completed=done, total=total, text=text, refresh=True)


def _log_lines(task: str) -> _Show:
    last = monotonic()

    def show(done: int, total: int, text: str) -> None:
        nonlocal last
        if done == total or monotonic() - last >= LOG_EVERY:
            last = monotonic()
            print_log(f'{task}: {text}', logger='current')

    return show
