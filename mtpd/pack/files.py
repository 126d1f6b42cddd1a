"""The files of a packed detector: a checkpoint in 16 bits, and the same
compressed by xz."""
import lzma
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Mapping, NamedTuple

import torch
from torch import Tensor

from mtpd.compat.atomic_files import atomic_file
from mtpd.compat.checkpoints import read_checkpoint
from mtpd.compat.checksums import ARCHIVE, decompressed
from mtpd.compat.state_dicts import each_once
from mtpd.compress.files import refuse_existing

from .errors import CannotPack, CannotUnpack

XZ = '.xz'


class Files(NamedTuple):
    """Paths of what is written.

    Attributes:
        plain: The checkpoint, which plain ``torch.load`` reads.
        compressed: The same by xz.
    """
    plain: str
    compressed: str


def files_of(checkpoint: str, out: str | None) -> Files:
    """Where a checkpoint is packed to: ``my_packed.pth`` beside ``my.pth``,
    and ``my_packed.pth.xz``.

    Args:
        checkpoint: Of the detector.
        out: Path of the first file, if it is another.

    Raises:
        CannotPack: It is no name for a checkpoint.
    """
    if out is None:
        out = f'{os.path.splitext(checkpoint)[0]}_packed.pth'
    if not out.endswith('.pth'):
        raise CannotPack([f'--out is {out}; it has to end in .pth. The '
                          'compressed file gets the same name and .xz.'])
    return Files(out, out + XZ)


def in_16_bits(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detector's numbers in 16 bits, as far as these can hold them.

    Args:
        weights: By key. A tensor with a number that is too large (above
            65,504, as a batch norm's variance can be) stays in 32 bits, and
            integers as they are. What is one tensor under two keys stays one.
    """
    return each_once(weights, _in_16_bits)


def _in_16_bits(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    if not value.is_floating_point():
        return value.clone(memory_format=torch.contiguous_format)
    half = value.to(torch.half, memory_format=torch.contiguous_format,
                    copy=True)
    return half if torch.isfinite(half).all() \
        else value.to(torch.float, memory_format=torch.contiguous_format,
                      copy=True)


def write_files(files: Files, content: Mapping[str, Any]) -> tuple[int, int]:
    """Write both files, or none.

    Args:
        files: Where to.
        content: Of the checkpoint.

    Returns:
        Their sizes in bytes.

    Raises:
        OSError: They cannot be written; then there is none of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        # torch names the archive after its file.
        file = Path(folder, f'{ARCHIVE}.pth')
        torch.save(dict(content), file)
        plain = file.read_bytes()
    packed = lzma.compress(plain, check=lzma.CHECK_SHA256,
                           preset=9 | lzma.PRESET_EXTREME)
    with ExitStack() as stack:
        opened = [stack.enter_context(atomic_file(path)) for path in files]
        for written, data in zip(opened, (plain, packed), strict=True):
            written.write(data)
    return len(plain), len(packed)


def unpack(path: str, out: str | None = None, overwrite: bool = False) -> str:
    """Write the checkpoint in a file that was compressed by xz.

    Args:
        path: The file, such as ``my_packed.pth.xz``.
        out: Where to; None for the name without ``.xz``.
        overwrite: Whether a file there is replaced.

    Returns:
        Where the checkpoint is.

    Raises:
        CannotUnpack: ``out`` exists, or is no name of a file.
        CorruptCheckpoint: The file is damaged, or no checkpoint.
        OSError: The checkpoint cannot be written.
    """
    out = out or path.removesuffix(XZ)
    if out.endswith(os.sep):
        raise CannotUnpack([f'--out {out} is no name of a file.'])
    refuse_existing([out], [path], overwrite, CannotUnpack)
    read_checkpoint(path)
    with decompressed(path) as source, atomic_file(out) as file:
        file.write(source.read())
    return out
