"""What a result was made with."""
import platform
import sys

import mmdet
import mmengine
import torch
from mmengine.device import get_device

import mtpd


def command() -> list[str]:
    """The words that started this process."""
    return list(sys.argv)


def versions() -> dict[str, str]:
    """Of everything that has a say in numbers, and the kind of device."""
    return {'mtpd': mtpd.__version__, 'mmdet': mmdet.__version__,
            'mmengine': mmengine.__version__, 'torch': torch.__version__,
            'python': platform.python_version(), 'device': get_device()}
