"""A trained detector in a file of few bytes.

``codes`` lets the weights of a tensor share a few values, ``fine_tune`` trains
these values, ``files`` writes what plain ``torch.load`` reads, and ``packing``
leads through them.
"""
from .errors import CannotPack
from .packing import Packed, Request, pack

__all__ = ['CannotPack', 'Packed', 'Request', 'pack']
