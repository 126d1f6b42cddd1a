"""What a result was made with, and where two of them differ."""
import platform
import sys
import time
from typing import Any, Mapping

import mmdet
import mmengine
import numpy as np
import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.utils import get_git_hash
from torch import Tensor

from mtpd.version import __version__


def command() -> list[str]:
    """The words that started this process."""
    return list(sys.argv)


def versions() -> dict[str, str]:
    """Of everything that has a say in numbers, and the kind of device."""
    return {'mtpd': __version__, 'mmdet': mmdet.__version__,
            'mmengine': mmengine.__version__, 'torch': torch.__version__,
            'python': platform.python_version(), 'device': get_device()}


def this_start(resume: bool) -> dict[str, Any]:
    """When, how and from which state of the working folder's repository a
    process was started.

    Args:
        resume: Whether it continues what the work dir holds.

    Returns:
        Plain values; ``git`` is the commit, None outside of a repository.
    """
    return {'time': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
            'command': command(), 'resume': resume,
            'git': get_git_hash(fallback='') or None,
            'processes': get_world_size(), 'threads': torch.get_num_threads(),
            'versions': versions()}


def differences(found: Mapping[str, Any], expected: Mapping[str, Any],
                path: str = '') -> list[str]:
    """Lines ``field: found, expected`` where two nested dicts differ."""
    lines = []
    for key in sorted({*found, *expected}, key=str):
        one, other = found.get(key), expected.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            lines += differences(one, other, f'{path}{key}.')
        elif one != other:
            lines.append(f'{path}{key}: {one!r} there, {other!r} here')
    return lines


def as_plain(value: Any) -> Any:
    """Dicts, lists, tuples, strings, numbers, booleans, None and tensors as
    they are; numpy's arrays and numbers as Python's.

    Raises:
        TypeError: Anything else, which a plain ``torch.load`` would refuse.
    """
    if value is None or isinstance(value, (bool, Tensor)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    for plain in (str, int, float):  # torch's version is a subclass of str
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, Mapping):
        return {as_plain(k): as_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        return kind(map(as_plain, value))
    raise TypeError(f'{type(value).__name__} cannot stand in a plain '
                    'checkpoint; record a string or a number.')
