"""Loads checkpoints without running any code that they contain.

A checkpoint is a pickle, and a pickle may call any function. By default torch
>= 2.6 refuses everything but tensors. It also refuses what mmengine 0.10.7
itself saves (HistoryBuffer, numpy scalars), which can then no longer resume
its own runs. The usual cures turn the protection off. This module keeps it and
allows the few harmless types that mmengine saves (``pickled_types.py``).

mmengine's loader for http(s) reads its files through torch.utils.model_zoo,
which checks nothing in any version; it is replaced as well. This replacement
is no longer needed once mmengine passes ``weights_only=True``.
"""
import errno
import hashlib
import lzma
import os
import pickle
import re
import struct
import sys
import zipfile
from functools import cache
from http.client import HTTPException
from typing import Any, BinaryIO, Mapping
from urllib.parse import unquote, urlparse

import mmengine.runner.checkpoint as mmengine_checkpoint
import torch
from filelock import FileLock  # torch itself depends on it
from mmengine.runner import CheckpointLoader

from .checksums import (PACKED, decompressed, is_compressed, is_damaged,
                        is_packed)
from .pickled_types import allow_mmengine_types


class UnsafeCheckpoint(RuntimeError):
    """A checkpoint asks for a function or class that could run code."""


class CorruptCheckpoint(RuntimeError):
    """A file is incomplete, is no checkpoint, or is not the expected one."""


class CheckpointUnavailable(RuntimeError):
    """A checkpoint could not be downloaded."""


# --------------------------------------------------------------------- reading

# Messages of torch's RuntimeErrors about files that it cannot parse.
_TORN = re.compile('PytorchStreamReader|magic number|protocol version|'
                   'unexpected EOF|corrupt|storage has wrong byte size|'
                   'file in archive is not in a subdirectory')


def read_checkpoint(path: str, map_location: Any = 'cpu') -> dict:
    """The content of a checkpoint file, read without running its code.

    A file that was compressed by xz is read as it is. What tools/pack.py has
    written is compared with its checksums first.

    Args:
        map_location: As in :func:`torch.load`.

    Raises:
        FileNotFoundError: There is no such file.
        UnsafeCheckpoint: The file asks for a function or class that is not
            allowed.
        CorruptCheckpoint: The file is incomplete, damaged or no checkpoint.
    """
    path = _existing(path)
    source = _source(path)
    packed = is_packed(source)
    if packed:  # before anything of a damaged file is taken for a weight
        check_sums(path, source)
    try:
        content = _read(path, source, map_location)
    except CorruptCheckpoint:
        raise
    except (RuntimeError, ArithmeticError, MemoryError):
        check_sums(path, source)  # a wrong byte may look like anything
        raise
    meta = content.get('meta')
    if not packed and isinstance(meta, Mapping) and PACKED in meta:
        check_sums(path, source)  # packed by an earlier version
    return content


def check_sums(path: str, source: str | BinaryIO | None = None) -> None:
    """Compare a checkpoint with the checksums in it, where it has any.

    Args:
        path: The file.
        source: Its content, if it was compressed.

    Raises:
        CorruptCheckpoint: They do not match.
    """
    if is_damaged(source or _source(path)):
        raise _corrupt(path, 'is damaged: its checksum does not match')


def _source(path: str) -> str | BinaryIO:
    """What torch reads a checkpoint from."""
    try:
        return decompressed(path) if is_compressed(path) else path
    except (lzma.LZMAError, EOFError) as error:
        raise _corrupt(path, 'is damaged: xz finds an error or a checksum '
                       f'that does not match ({_first_line(error)})') \
            from error


def _read(path: str, source: str | BinaryIO, map_location: Any) -> dict:
    """As :func:`read_checkpoint`, from a path or an open file."""
    allow_mmengine_types()
    if not isinstance(source, str):
        source.seek(0)
    try:
        content = torch.load(source, map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        # A file that begins as a checkpoint does asks for something unsafe;
        # any other is a file of another kind.
        if _begins_as_pickle(source) or zipfile.is_zipfile(source):
            raise _unsafe(path, _refused_name(str(error))) from error
        raise _corrupt(path, 'is not a checkpoint of torch') from error
    except RuntimeError as error:
        script = re.search('TorchScript archive|legacy .tar format',
                           str(error))
        if script:
            raise _unsafe(path, f'a {script.group()}') from error
        if _TORN.search(str(error)) is None:
            raise  # an error of the device or its memory, not of the file
        raise _corrupt(path, f'cannot be read ({_first_line(error)})') \
            from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # torch's code for a torn archive
            raise
        raise _corrupt(path, 'is incomplete') from error
    except (EOFError, struct.error, LookupError, TypeError, ValueError,
            AttributeError, AssertionError) as error:
        reason = f'{type(error).__name__}: {_first_line(error)}'
        raise _corrupt(path, 'is incomplete or no checkpoint '
                       f'({reason})') from error
    if not isinstance(content, dict):
        raise _corrupt(path, f'holds a {type(content).__name__}, but a '
                       'checkpoint is a dict')
    return content


def _begins_as_pickle(source: str | BinaryIO) -> bool:
    if isinstance(source, str):
        with open(source, 'rb') as file:
            return file.read(1) == pickle.PROTO
    source.seek(0)
    return source.read(1) == pickle.PROTO


def _existing(path: str) -> str:
    """The path with ``~`` expanded, of a file that exists."""
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f'There is no checkpoint at {path!r} (relative to '
            f'{os.getcwd()!r}).')
    return path


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [''])[0]


def _refused_name(message: str) -> str:
    """The function or class that was refused, from torch's long message."""
    name = re.search(r'GLOBAL (\S+( was called with .*)?)', message)
    if name:
        return name.group(1)
    return message.split('WeightsUnpickler error:')[-1].strip().splitlines()[0]


def _unsafe(path: str, refused: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f'{path} was not loaded: it asks for {refused}, which weights do not '
        'need and which could run code of its author. If you trust its '
        'source, load it in an environment that you can throw away and save '
        "only its tensors: torch.save({'state_dict': "
        "torch.load(FILE, weights_only=False)['state_dict']}, NEW_FILE).")


def _corrupt(path: str, problem: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f'{path} {problem}. If it was downloaded or copied, delete it and '
        'fetch it again; if a run was stopped while writing it, use the '
        'previous checkpoint.')


# -------------------------------------------------------------------- fetching

# File names of mmdet and torchvision end in the first digits of the SHA-256 of
# their content. In some names, eight digits that begin with 20 are a date.
_NAMED_HASH = re.compile(r'-(?!20\d{6}\.)([0-9a-f]{8,64})\.\w+$')


def fetch_checkpoint(path_or_url: str) -> str:
    """Local path of a checkpoint; a URL is downloaded once.

    Downloads are kept in torch.hub's folder. A file whose name does not hold
    its hash gets a folder named after its URL, because another site may have
    another file of this name. If several processes ask at the same time, one
    downloads and the others wait.

    Raises:
        FileNotFoundError: There is no such local file.
        CheckpointUnavailable: The URL cannot be downloaded.
        CorruptCheckpoint: The hash of the downloaded file is not the one in
            its name.
    """
    if not path_or_url.startswith(('http://', 'https://')):
        return _existing(path_or_url)
    path = download_path(path_or_url)
    folder, name = os.path.split(path)
    expected = _NAMED_HASH.search(name)
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


def download_path(url: str) -> str:
    """Where the download of a URL is kept, whether it is there or not."""
    name = unquote(os.path.basename(urlparse(url).path))
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    if not _NAMED_HASH.search(name):
        url_hash = hashlib.sha256(url.encode()).hexdigest()
        folder = os.path.join(folder, url_hash[:16])
    return os.path.join(folder, name)


def _check_hash(path: str, expected: str, url: str) -> None:
    """Delete a download with another hash than its name holds, and raise."""
    actual = checkpoint_hash(path)
    if actual.startswith(expected):
        return
    os.remove(path)
    raise CorruptCheckpoint(
        f'The file from {url} has the SHA-256 {actual[:12]}..., but its name '
        f'holds {expected}...; the download was deleted. Try again. If the '
        'name is wrong and you trust the file, download it by hand and set '
        'the config to its local path: local files are not checked against '
        'their names.')


def checkpoint_hash(path: str) -> str:
    """SHA-256 of a file's content, in hex.

    Computed once; again only if the size or time of the file has changed.
    """
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


# mmengine prints the part of a loader's name after "load_from_".
def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Replaces mmengine's loader for local paths."""
    return read_checkpoint(filename, map_location)


def load_from_http(filename: str, map_location: Any = None) -> dict:
    """Replaces mmengine's loader for URLs."""
    return read_checkpoint(fetch_checkpoint(filename), map_location)


def install_safe_loading() -> None:
    """Make mmengine load local paths, URLs and model zoos safely.

    Calling it again changes nothing.
    """
    allow_mmengine_types()
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'),
                                     load_from_http,
                                     force=True)
    # The loaders for torchvision://, open-mmlab:// and mmcls:// call this
    # function by its name in their module and not through the registry.
    mmengine_checkpoint.load_from_http = load_from_http
