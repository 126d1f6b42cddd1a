"""Loading of checkpoints that runs no code of theirs.

A checkpoint is a pickle, and a pickle may call anything. torch >= 2.6 refuses
all but tensors by default, and with them what mmengine 0.10.7 itself saves
(HistoryBuffer, numpy scalars): it can no longer resume its own runs. The usual
cures turn the protection off. Here the few harmless types that mmengine saves
are allowed instead, each only as far as mmengine needs it.

mmengine's loader for http(s) passes its files through torch.utils.model_zoo,
which does no checking at all on any version; it is replaced as well.

The list is no longer needed once mmengine registers these types itself (no
release does; the fork onedl-mmengine loads its own checkpoints), the http
loader once mmengine passes ``weights_only=True``.
"""
import errno
import hashlib
import os
import pickle
import re
import struct
import sys
import zipfile
from functools import cache
from http.client import HTTPException
from typing import Any, Callable
from urllib.parse import unquote, urlparse

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from filelock import FileLock  # torch itself depends on it
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader


class UnsafeCheckpoint(RuntimeError):
    """A checkpoint asks for something that could run code."""


class CorruptCheckpoint(RuntimeError):
    """A file is torn, or no checkpoint at all, or not the one expected."""


class CheckpointUnavailable(RuntimeError):
    """A checkpoint could not be downloaded."""


# ------------------------------------------------------------- what is allowed

# What numpy's pickles call a plain number type, without the byte order.
# Structured and object types are left out on purpose: with them numpy takes
# raw bytes of the file for addresses.
_NUMBERS = {
    code: np.dtype(code)
    for code in ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2',
                 'f4', 'f8', 'c8', 'c16')
}
_NDARRAY = 'numpy.ndarray'


def _history_buffer_method(owner: Any, name: str) -> Callable:
    """Stands in for getattr, which HistoryBuffer's pickle asks for."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(
        f'GLOBAL getattr was called with ({owner!r}, {name!r})')


def _number_dtype(code: str, align: bool = False,
                  copy: bool = True) -> np.dtype:
    """Stands in for numpy.dtype: plain numbers only.

    Answers with numpy's own instance although the pickle asks for a copy.
    The pickle sets flags and fields of what it gets, and numpy ignores that
    for its own instances; on a copy, a file can mark numbers as addresses.
    """
    if not isinstance(code, str) or code not in _NUMBERS:
        raise pickle.UnpicklingError(
            f'GLOBAL numpy.dtype was called with {code!r}')
    return _NUMBERS[code]


def _number(dtype: np.dtype, raw: bytes) -> np.generic:
    """Stands in for numpy's scalar(), which also unpacks objects."""
    if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes):
        raise pickle.UnpicklingError(
            f'GLOBAL numpy.scalar was called with ({dtype!r}, {raw!r})')
    value, = np.frombuffer(raw, dtype)
    return value


def _empty_array(subtype: Any, shape: tuple, typecode: bytes) -> np.ndarray:
    """Stands in for numpy's _reconstruct(): an array for its state to fill."""
    if subtype is not _NDARRAY:
        raise pickle.UnpicklingError(
            f'GLOBAL numpy._reconstruct was called with {subtype!r}')
    return np.ndarray((0, ), np.int8)


def _no_bytes() -> bytes:
    """Stands in for bytes, which an empty array's pickle calls."""
    return b''


def allow_mmengine_types() -> None:
    """Let torch.load(weights_only=True) read what mmengine 0.10.7 saves.

    That is HistoryBuffer, slice, and numpy's numbers and arrays of them, in
    the native byte order. Calling it again changes nothing.
    """
    allowed = [HistoryBuffer, slice,
               (_history_buffer_method, 'builtins.getattr'),
               (_no_bytes, 'builtins.bytes'),
               (_number_dtype, 'numpy.dtype'), (_NDARRAY, _NDARRAY)]
    for core in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed += [(_number, f'{core}.scalar'),
                    (_empty_array, f'{core}._reconstruct')]
    # torch sets the state of an object if its type is in the list. A file
    # always names a type with its module, so that no file can name these to
    # make instances as it likes.
    allowed.append((np.ndarray, 'ndarray'))
    for code, dtype in _NUMBERS.items():
        allowed.append((type(dtype), code))
    torch.serialization.add_safe_globals(allowed)


# --------------------------------------------------------------------- reading

# What torch says, as a RuntimeError, of files that it cannot make sense of.
_TORN = re.compile('PytorchStreamReader|magic number|protocol version|'
                   'unexpected EOF|corrupt|storage has wrong byte size|'
                   'file in archive is not in a subdirectory')


def read_checkpoint(path: str, map_location: Any = 'cpu') -> dict:
    """The content of a checkpoint file; nothing in it is run.

    Args:
        map_location: As in :func:`torch.load`.

    Raises:
        FileNotFoundError: There is no such file.
        UnsafeCheckpoint: It asks for a function or class that is not allowed.
        CorruptCheckpoint: It is torn, or no checkpoint.
    """
    path = _existing(path)
    allow_mmengine_types()
    try:
        content = torch.load(path, map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        # The file's own author wrote what is refused if it begins as a
        # checkpoint does; otherwise it is some other file.
        if zipfile.is_zipfile(path) or _first_byte(path) == pickle.PROTO:
            raise _unsafe(path, _refused(str(error))) from error
        raise _corrupt(path, 'is not a checkpoint of torch') from error
    except RuntimeError as error:
        script = re.search('TorchScript archive|legacy .tar format',
                           str(error))
        if script:
            raise _unsafe(path, f'a {script.group()}') from error
        if _TORN.search(str(error)) is None:
            raise  # about the device or its memory, not the file
        raise _corrupt(path, f'cannot be read ({_first_line(error)})') \
            from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # torch's word for a torn archive
            raise
        raise _corrupt(path, 'is torn') from error
    except (EOFError, struct.error, LookupError, TypeError, ValueError,
            AttributeError, AssertionError) as error:
        reason = f'{type(error).__name__}: {_first_line(error)}'
        raise _corrupt(path, f'is torn or no checkpoint ({reason})') from error
    if not isinstance(content, dict):
        raise _corrupt(path, f'holds a {type(content).__name__} where a '
                       'checkpoint is a dict')
    return content


def _existing(path: str) -> str:
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f'There is no checkpoint at {path!r} (seen from the folder '
            f'{os.getcwd()!r}).')
    return path


def _first_byte(path: str) -> bytes:
    with open(path, 'rb') as f:
        return f.read(1)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [''])[0]


def _refused(message: str) -> str:
    """What torch's long message says was refused."""
    name = re.search(r'GLOBAL (\S+( was called with .*)?)', message)
    if name:
        return name.group(1)
    return message.split('WeightsUnpickler error:')[-1].strip().splitlines()[0]


def _unsafe(path: str, refused: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f'{path} was not loaded: it asks for {refused}, which is not needed '
        'for weights and could run code of its author. If you trust where it '
        'comes from, load it in an environment that you can throw away and '
        "save its tensors alone: torch.save({'state_dict': "
        "torch.load(FILE, weights_only=False)['state_dict']}, NEW_FILE).")


def _corrupt(path: str, what: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f'{path} {what}. If it was downloaded or copied, delete it and fetch '
        'it again; if a run was stopped while writing it, use the checkpoint '
        'before it.')


# -------------------------------------------------------------------- fetching

# mmdet's and torchvision's file names end in the first digits of their
# content's SHA-256. Eight digits that begin with 20 are a date in some names.
_NAMED_HASH = re.compile(r'-(?!20\d{6}\.)([0-9a-f]{8,64})\.\w+$')


def fetch_checkpoint(path_or_url: str) -> str:
    """Local path of a checkpoint, which is downloaded once if it is a URL.

    Downloads lie where torch.hub keeps its own. A file whose name does not
    carry its hash lies in a folder named after its URL: another site may have
    another file of that name. Processes that ask at once wait for the one that
    downloads.

    Raises:
        FileNotFoundError: There is no such local file.
        CheckpointUnavailable: The URL cannot be downloaded.
        CorruptCheckpoint: The downloaded file is not the one that its name
            promises.
    """
    if not path_or_url.startswith(('http://', 'https://')):
        return _existing(path_or_url)
    name = unquote(os.path.basename(urlparse(path_or_url).path))
    expected = _NAMED_HASH.search(name)
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    if not expected:
        url_hash = hashlib.sha256(path_or_url.encode()).hexdigest()
        folder = os.path.join(folder, url_hash[:16])
    path = os.path.join(folder, name)
    try:
        if not name:
            raise OSError('it does not end in a file name')
        os.makedirs(folder, exist_ok=True)
        with FileLock(f'{path}.lock'):
            if not os.path.isfile(path):
                torch.hub.download_url_to_file(
                    path_or_url, path, progress=sys.stderr.isatty())
            if expected:
                _check_hash(path, expected.group(1), path_or_url)
    except (OSError, HTTPException) as error:  # urllib's are OSErrors
        raise CheckpointUnavailable(
            f'{path_or_url} could not be downloaded to {folder} ({error}). '
            'Download it by hand and set the config to the path of the local '
            'file.') from error
    return path


def _check_hash(path: str, expected: str, url: str) -> None:
    """Delete a download that is not what its name promises, and say so."""
    found = checkpoint_hash(path)
    if found.startswith(expected):
        return
    os.remove(path)
    raise CorruptCheckpoint(
        f'What {url} delivers has the SHA-256 {found[:12]}..., but its name '
        f'promises {expected}...; the download was deleted. Try again. If the '
        'name is wrong and you trust the file, download it by hand and set '
        'the config to its local path, which is taken as it is.')


def checkpoint_hash(path: str) -> str:
    """SHA-256 of a file's content, as hex; read again only when it changed."""
    path = os.path.realpath(_existing(path))
    status = os.stat(path)
    return _sha256(path, status.st_size, status.st_mtime_ns)


@cache
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        for block in iter(lambda: f.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


# --------------------------------------------------------- in mmengine's place


# mmengine prints what stands after "load_from_" in the name of a loader.
def load_from_local(filename: str, map_location: Any = None) -> dict:
    """mmengine's loader for local paths, by :func:`read_checkpoint`."""
    return read_checkpoint(filename, map_location)


def load_from_http(filename: str, map_location: Any = None) -> dict:
    """mmengine's loader for URLs, by :func:`fetch_checkpoint`."""
    return read_checkpoint(fetch_checkpoint(filename), map_location)


def install_safe_loading() -> None:
    """Make every load through mmengine safe: local paths, URLs, model zoos.

    Calling it again changes nothing.
    """
    allow_mmengine_types()
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'),
                                     load_from_http,
                                     force=True)
    # The loaders for torchvision://, open-mmlab:// and mmcls:// call this one
    # by its name in their module, past the register.
    mmengine_checkpoint.load_from_http = load_from_http
