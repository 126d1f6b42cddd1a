"""Checksums that torch writes and does not read.

torch 2.11 stores a CRC-32 with every part of a checkpoint and loads a part
that does not match it, so that a flipped bit is a wrong weight without a word.
A file that was compressed by xz holds a checksum that lzma checks. No longer
needed once torch.load compares them.
"""
import io
import lzma
import zipfile
import zlib
from typing import BinaryIO

PACKED = 'packed'
"""The entry in a checkpoint's ``meta`` that says how it was packed."""

ARCHIVE = 'packed_by_mtpd'
"""The folder in a packed checkpoint's archive. It is in the name of each part,
so that no damage of one place hides that there are checksums to compare."""

_FOLDER = 0x10
"""Among the attributes of an archive's part, as MS-DOS has them."""

_XZ = b'\xfd7zXZ\x00'

_TORN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError,
         NotImplementedError, RuntimeError, LookupError)
"""What zipfile raises for an archive whose structure is damaged."""


def is_compressed(path: str) -> bool:
    """Whether a file was written by xz, by its content or by its name."""
    with open(path, 'rb') as file:
        return file.read(len(_XZ)) == _XZ or path.lower().endswith('.xz')


def decompressed(path: str) -> BinaryIO:
    """The content of a file that was compressed by xz.

    Raises:
        lzma.LZMAError, EOFError: It is damaged or torn.
    """
    with lzma.open(path, format=lzma.FORMAT_XZ) as file:
        return io.BytesIO(file.read())


def is_packed(source: str | BinaryIO) -> bool:
    """Whether a part of a checkpoint lies in :data:`ARCHIVE`.

    Args:
        source: As in :func:`is_damaged`.
    """
    if not isinstance(source, str):
        source.seek(0)
    try:
        with zipfile.ZipFile(source) as archive:
            return any(name.startswith(f'{ARCHIVE}/')
                       for name in archive.namelist())
    except _TORN:
        return False


def is_damaged(source: str | BinaryIO) -> bool:
    """Whether a part of a checkpoint does not match its checksum.

    Files without checksums are not: those of torch before 1.6, and those that
    were written with ``set_crc32_options(False)``.

    Args:
        source: Path, or the file itself; where it is read next is not kept.
    """
    if not isinstance(source, str):
        source.seek(0)
    try:
        if not zipfile.is_zipfile(source):
            return False
        with zipfile.ZipFile(source) as archive:
            parts = archive.infolist()
            # Of a part that is marked as a folder torch reads nothing, and
            # fills its tensor with whatever the memory holds.
            folders = [part for part in parts if part.external_attr & _FOLDER
                       and not part.is_dir()]
            recorded = any(part.CRC for part in parts)
            return bool(folders) or recorded and archive.testzip() is not None
    except _TORN:
        return True
