"""Random generators: isolated blocks, seeds from keys, saved states.

"The generators" are Python's, numpy's and torch's global ones on the CPU.
"""
import random
from contextlib import contextmanager
from typing import Any, Iterator, NamedTuple

import numpy as np
import torch
from torch import Tensor


class RngStates(NamedTuple):
    """The states of the generators at one moment."""
    python: tuple[Any, ...]
    numpy: Any
    torch: Tensor


def rng_states() -> RngStates:
    """The present states."""
    return RngStates(random.getstate(), np.random.get_state(),
                     torch.get_rng_state())


def set_rng_states(states: RngStates) -> None:
    """Continue from saved states."""
    random.setstate(states.python)
    np.random.set_state(states.numpy)
    torch.set_rng_state(states.torch)


@contextmanager
def draws_from(states: RngStates) -> Iterator[None]:
    """Within the block, random numbers continue from saved states; after it,
    from where they were before it."""
    present = rng_states()
    set_rng_states(states)
    try:
        yield
    finally:
        set_rng_states(present)


@contextmanager
def isolate_rng(seed: int) -> Iterator[None]:
    """Within the block, random numbers follow from ``seed``; after it, the
    generators are as they were before it.

    Building adapters or a teacher so leaves the student's initialisation,
    dropout and augmentation exactly as plain mmdet has them. The generator of
    the current CUDA device is isolated too, once CUDA is in use.
    """
    states = rng_states()
    devices = [torch.cuda.current_device()] \
        if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states.python)
            np.random.set_state(states.numpy)


def seed_generators(*key: int) -> int:
    """Seed the generators from whole numbers.

    Without those of devices, for which ``torch.manual_seed`` formats the call
    stack three times: a millisecond for each image that is loaded.

    Args:
        key: Each at least 0. Keys of one length that differ anywhere give
            streams that have nothing in common.

    Returns:
        The seed of torch's generator.
    """
    words = np.random.SeedSequence(key).generate_state(8)
    random.seed(words[:4].tobytes())
    np.random.seed(words[4:])
    seed = int.from_bytes(words[2:4].tobytes(), 'little')
    torch.default_generator.manual_seed(seed)
    return seed


def seed_everything(*key: int) -> None:
    """Seed the generators and those of all devices from whole numbers.

    Args:
        key: As in :func:`seed_generators`.
    """
    torch.manual_seed(seed_generators(*key))


def derived_seed(*key: int) -> int:
    """One seed, at least 0 and below 2**32, from whole numbers.

    Args:
        key: As in :func:`seed_generators`.
    """
    return int(np.random.SeedSequence(key).generate_state(1)[0])
