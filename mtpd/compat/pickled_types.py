"""The types beyond tensors that torch may unpickle from a checkpoint.

torch >= 2.6 reads tensors only, unless a type is on its list of safe globals.
The functions below stand in for those that the pickles of mmengine 0.10.7
call. Each does what these pickles need and refuses everything else.

No longer needed once mmengine registers these types itself (no release does;
the fork onedl-mmengine loads its own checkpoints).
"""
import pickle
from typing import Any, Callable

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

# Plain number types, by their name in numpy's pickles without the byte order.
# Structured and object types are left out on purpose: with them numpy takes
# raw bytes of the file for addresses.
NUMBERS = {
    code: np.dtype(code)
    for code in ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2',
                 'f4', 'f8', 'c8', 'c16')
}
NDARRAY = 'numpy.ndarray'


def allow_mmengine_types() -> None:
    """Let torch.load(weights_only=True) read what mmengine 0.10.7 saves.

    That is HistoryBuffer, slice, and numpy's numbers and arrays of them, in
    the native byte order. Calling it again changes nothing.
    """
    allowed = [HistoryBuffer, slice,
               (history_buffer_method, 'builtins.getattr'),
               (empty_bytes, 'builtins.bytes'),
               (number_dtype, 'numpy.dtype'), (NDARRAY, NDARRAY)]
    for core in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed += [(number, f'{core}.scalar'),
                    (empty_array, f'{core}._reconstruct')]
    # torch sets the state of an object only if its type is on the list. A
    # file always names a type together with its module. It cannot name these
    # types, which have none, and so cannot create instances of them.
    allowed.append((np.ndarray, 'ndarray'))
    for code, dtype in NUMBERS.items():
        allowed.append((type(dtype), code))
    torch.serialization.add_safe_globals(allowed)


def history_buffer_method(owner: Any, name: str) -> Callable:
    """Replaces getattr, which HistoryBuffer's pickle calls."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(
        f'GLOBAL getattr was called with ({owner!r}, {name!r})')


def number_dtype(code: str, align: bool = False,
                 copy: bool = True) -> np.dtype:
    """Replaces numpy.dtype, for plain numbers only.

    Returns numpy's own instance although the pickle asks for a copy. The
    pickle then sets the instance's flags and fields. numpy ignores that for
    its own instances; in a copy, a file can mark numbers as addresses.
    """
    if not isinstance(code, str) or code not in NUMBERS:
        raise pickle.UnpicklingError(
            f'GLOBAL numpy.dtype was called with {code!r}')
    return NUMBERS[code]


def number(dtype: np.dtype, raw: bytes) -> np.generic:
    """Replaces numpy's scalar(), which also unpickles objects."""
    if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes):
        raise pickle.UnpicklingError(
            f'GLOBAL numpy.scalar was called with ({dtype!r}, {raw!r})')
    value, = np.frombuffer(raw, dtype)
    return value


def empty_array(subtype: Any, shape: tuple, typecode: bytes) -> np.ndarray:
    """Replaces numpy's _reconstruct(): an array that its state then fills."""
    if subtype is not NDARRAY:
        raise pickle.UnpicklingError(
            f'GLOBAL numpy._reconstruct was called with {subtype!r}')
    return np.ndarray((0, ), np.int8)


def empty_bytes() -> bytes:
    """Replaces bytes, which an empty array's pickle calls."""
    return b''
