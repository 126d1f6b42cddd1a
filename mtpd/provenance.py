"""What a result was made with."""
import platform
import sys
import time
from typing import Any

import mmdet
import mmengine
import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.utils import get_git_hash

import mtpd


def command() -> list[str]:
    """The words that started this process."""
    return list(sys.argv)


def versions() -> dict[str, str]:
    """Of everything that has a say in numbers, and the kind of device."""
    return {'mtpd': mtpd.__version__, 'mmdet': mmdet.__version__,
            'mmengine': mmengine.__version__, 'torch': torch.__version__,
            'python': platform.python_version(), 'device': get_device()}


def this_start(resume: bool) -> dict[str, Any]:
    """When, how and from which state of the working folder's repository a
    process was started.

    Args:
        resume: Whether it goes on with what was there.

    Returns:
        Plain values; ``git`` is the commit, None outside of a repository.
    """
    return {'time': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
            'command': command(), 'resume': resume,
            'git': get_git_hash(fallback='') or None,
            'processes': get_world_size(), 'threads': torch.get_num_threads(),
            'versions': versions()}
