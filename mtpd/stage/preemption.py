"""Clean shutdown on SIGTERM, as a cluster sends it to have a machine back.

A process that is forked from this one has none of it: with Python's handler
SIGTERM would not end it at once, and whoever waits for its end, as
``multiprocessing.Pool`` does, would wait for ever.
"""
import os
import signal
import threading
import time
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import Any, Callable, Iterator

import torch
from mmengine.dist import all_reduce, get_comm_device, get_world_size
from mmengine.logging import print_log

EXIT_CODE = 75
"""Of a process that ended on request and can continue by ``--resume``;
sysexits.h calls it EX_TEMPFAIL."""

HOW_TO_RESUME = 'The same command continues (tools/train.py with --resume).'
"""tools/from_scratch.py and --control resume without a flag."""


class Preempted(SystemExit):
    """Ends the process with :data:`EXIT_CODE`.

    Attributes:
        agreed: Whether all processes raise it at the same place.
    """

    def __init__(self, agreed: bool = False) -> None:
        super().__init__(EXIT_CODE)
        self.agreed = agreed


class _Request:
    """The request to stop, shared by the signal's handler and the loop."""

    def __init__(self) -> None:
        self.made = False
        self.can_wait = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        if not self.can_wait:
            # Everything that is on the disk is whole at any moment.
            print_log(f'SIGTERM: stopping. {HOW_TO_RESUME}', logger='current')
            raise Preempted


_request = _Request()
_replaced: list[tuple[int, Any]] = []
"""The signals that are handled here, each with its former handler."""


@contextmanager
def _handled_by(number: int, handler: Callable[[int, FrameType | None], None]
                ) -> Iterator[None]:
    """Within the block, a signal has this handler, in this process alone."""
    former = signal.signal(number, handler)
    if former is None:  # set by C code, which Python cannot restore
        former = signal.SIG_DFL
    _replaced.append((number, former))
    try:
        yield
    finally:
        _replaced.pop()
        signal.signal(number, former)


# A signal that reaches a child before it has its own handlers waits, because
# Python would forget it. The mask is each thread's own, and pools fork in
# threads.
_mask = threading.local()


def _block_signals() -> None:
    _mask.former = signal.pthread_sigmask(
        signal.SIG_BLOCK, [number for number, _ in _replaced])


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.former)


def _restore_handlers() -> None:
    while _replaced:
        signal.signal(*_replaced.pop())
    _request.made = _request.can_wait = False
    _unblock_signals()


if hasattr(os, 'register_at_fork'):  # as everywhere but on Windows
    os.register_at_fork(before=_block_signals,
                        after_in_parent=_unblock_signals,
                        after_in_child=_restore_handlers)


@contextmanager
def preemptible() -> Iterator[None]:
    """While the block runs, SIGTERM ends it by :class:`Preempted`.

    It does so at once, except in a :func:`stops_between_iterations` block,
    which looks for the request itself. Any other exception after the signal
    is its consequence and becomes :class:`Preempted` too: mmengine has places
    that catch everything and raise an error of their own. At a Ctrl-C it says
    how to resume. Outside of the main
    thread, which alone gets signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _request.made = False
    with _handled_by(signal.SIGTERM, _request):
        try:
            yield
            if _request.made:  # and nobody has acted on it
                raise Preempted
        except Preempted:
            raise
        except BaseException as error:
            if _request.made:
                raise Preempted from error
            if isinstance(error, KeyboardInterrupt):
                print_log(HOW_TO_RESUME, logger='current')
            raise


@contextmanager
def stops_between_iterations() -> Iterator[None]:
    """While the block runs, a SIGTERM waits until the block asks for it, at
    the latest until the block ends."""
    _request.can_wait = True
    try:
        yield
    finally:
        _request.can_wait = False
    if _request.made:
        raise Preempted


@contextmanager
def interruptible() -> Iterator[None]:
    """Within a :func:`stops_between_iterations` block, a part that a SIGTERM
    ends at once."""
    _request.can_wait = False
    try:
        if _request.made:
            raise Preempted
        yield
    finally:
        _request.can_wait = True


def stop_is_requested(wait: bool = False) -> bool:
    """Whether this process got a SIGTERM.

    Args:
        wait: Whether to wait a second for it, because other processes have
            got theirs.
    """
    if wait and not _request.made:
        time.sleep(1)
    return _request.made


@contextmanager
def workers_may_end() -> Iterator[None]:
    """Within a :func:`stops_between_iterations` block with an open loader.

    A signal to a whole job, as torchrun and slurm send it, ends the loader's
    workers too, and torch then raises an error wherever the main process is,
    for example in the middle of a step. Where a SIGTERM has ended them, only
    the loader itself shall find them gone.
    """
    torch_handler = signal.getsignal(signal.SIGCHLD)
    if not callable(torch_handler) or \
            threading.current_thread() is not threading.main_thread():
        yield
        return

    def quiet(number: int, frame: FrameType | None) -> None:
        try:
            torch_handler(number, frame)
        except RuntimeError:
            if not stop_is_requested(wait=True):
                raise

    with _handled_by(signal.SIGCHLD, quiet):
        yield


class Stop(IntEnum):
    """How urgent it is that all processes stop."""
    NO = 0
    SOON = 1
    NOW = 2


def agreed_stop(now: bool = False) -> Stop:
    """The most urgent of all processes' requests; each has to ask at the same
    place, and all get the same answer.

    Args:
        now: This process cannot continue.
    """
    urgency = Stop.SOON if _request.made else Stop.NO
    if now:
        urgency = Stop.NOW
    if get_world_size() == 1:
        return urgency
    urgencies = torch.tensor(int(urgency), device=get_comm_device())
    all_reduce(urgencies, 'max')
    return Stop(int(urgencies))
