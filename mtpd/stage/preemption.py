"""A cluster's wish to have the machine back (SIGTERM), granted in order."""
import signal
import threading
import time
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import Iterator

import torch
from mmengine.dist import all_reduce, get_comm_device, get_world_size
from mmengine.logging import print_log

EXIT_CODE = 75
"""Of a process that ended because it was asked to and can go on by
``--resume``; sysexits.h calls it EX_TEMPFAIL."""


class Preempted(SystemExit):
    """Ends the process with :data:`EXIT_CODE`.

    Attributes:
        agreed: Whether all processes raise it at the same place.
    """

    def __init__(self, agreed: bool = False) -> None:
        super().__init__(EXIT_CODE)
        self.agreed = agreed


class _Request:
    """What the signal's handler and the training loop share."""

    def __init__(self) -> None:
        self.made = False
        self.can_wait = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        if not self.can_wait:
            # Everything that is on the disk is whole at any moment.
            print_log('SIGTERM: stopping. The same command with --resume '
                      'goes on.', logger='current')
            raise Preempted


_request = _Request()


@contextmanager
def preemptible() -> Iterator[None]:
    """While the block runs, SIGTERM ends it by :class:`Preempted`.

    At once, except in a :func:`training` block, which looks for it by itself.
    Whatever else is raised after it is its consequence and becomes
    :class:`Preempted` too: mmengine has places that catch everything and raise
    an error of their own. Does nothing outside of the main thread, which alone
    gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _request.made = False
    before = signal.signal(signal.SIGTERM, _request)
    try:
        yield
        if _request.made:  # and nobody has acted on it
            raise Preempted
    except Preempted:
        raise
    except BaseException as error:
        if _request.made:
            raise Preempted from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def training() -> Iterator[None]:
    """While the block runs a SIGTERM waits until it is asked for, at the
    latest until the block ends."""
    _request.can_wait = True
    try:
        yield
    finally:
        _request.can_wait = False
    if _request.made:
        raise Preempted


@contextmanager
def at_once() -> Iterator[None]:
    """Within a :func:`training` block, a part that a SIGTERM ends at once."""
    _request.can_wait = False
    try:
        if _request.made:
            raise Preempted
        yield
    finally:
        _request.can_wait = True


def stop_is_asked(wait: bool = False) -> bool:
    """Whether this process got a SIGTERM.

    Args:
        wait: It may get one within a second, as others have got theirs.
    """
    if wait and not _request.made:
        time.sleep(1)
    return _request.made


@contextmanager
def workers_may_end() -> Iterator[None]:
    """Within a :func:`training` block with an open data loader.

    A signal to a whole job, as torchrun's and slurm's, ends the loader's
    workers too, and torch raises an error wherever the main process then is,
    in the middle of a step for example. Where it is a SIGTERM that has ended
    them, only the loader itself shall find them gone.
    """
    torchs = signal.getsignal(signal.SIGCHLD)
    if not callable(torchs) or \
            threading.current_thread() is not threading.main_thread():
        yield
        return

    def quiet(number: int, frame: FrameType | None) -> None:
        try:
            torchs(number, frame)
        except RuntimeError:
            if not stop_is_asked(wait=True):
                raise

    signal.signal(signal.SIGCHLD, quiet)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, torchs)


class Stop(IntEnum):
    """How urgent it is that all processes stop."""
    NO = 0
    SOON = 1
    NOW = 2


def agreed_stop(now: bool = False) -> Stop:
    """The most urgent of all processes' wishes; each has to ask at the same
    place, and all get the same answer.

    Args:
        now: This process cannot go on.
    """
    wish = Stop.NOW if now else Stop.SOON if _request.made else Stop.NO
    if get_world_size() == 1:
        return wish
    wishes = torch.tensor(int(wish), device=get_comm_device())
    all_reduce(wishes, 'max')
    return Stop(int(wishes))
