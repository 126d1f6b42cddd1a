"""A smaller detector cut out of a trained one.

``narrow`` writes the smaller model as mmdet's config has it, ``channels``
finds the weights for it in the trained detector, ``calibrate`` measures the
batch norms anew, ``budget`` finds the width that fits, and ``files`` writes
what is trained next.
"""
from .errors import CannotSlice
from .narrow import Narrowed, narrowed
from .slicing import sliced_detector

__all__ = ['CannotSlice', 'Narrowed', 'narrowed', 'sliced_detector']
