"""Configs without the two costs that dominate a toy progression."""
from functools import lru_cache

import mmengine.config.config
import mmengine.config.utils
import pytest


def use_plain_configs(patch: pytest.MonkeyPatch) -> None:
    """Leave configs unformatted, and parse mmdet's metafiles once."""
    # mmengine formats a config's text by yapf for every log and checkpoint:
    # two thirds of the time of a toy progression.
    patch.setattr(mmengine.config.config, 'FormatCode',
                  lambda text, **_: (text, True))
    # For each config of mmdet's, mmengine parses all of mmdet's 100
    # metafiles: 0.25 s.
    patch.setattr(mmengine.config.utils, 'load',
                  lru_cache(mmengine.config.utils.load))
