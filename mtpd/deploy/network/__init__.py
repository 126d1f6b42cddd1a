"""The whole way from an image to boxes as one module, to be traced."""
from .whole import THRESHOLD, Network, test_cfg_of

__all__ = ['THRESHOLD', 'Network', 'test_cfg_of']
