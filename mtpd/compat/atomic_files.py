"""Writes files atomically: a path holds the old file or the whole new one.

mmengine 0.10.7 writes a checkpoint over the old file in place: if the disk is
full or the process is killed, both are lost. With this module imported,
``CheckpointHook(backend_args=dict(backend='atomic'))`` writes a second file
and then replaces the old one. No longer needed once mmengine's LocalBackend
does so (no release does yet). The hook's file ``last_checkpoint`` is not
written atomically, because mmengine writes it without a backend.
"""
import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterator

from mmengine.fileio import LocalBackend, register_backend


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces ``path`` when the block ends.

    If the block raises, the file at ``path`` stays as it was. A link stays a
    link: the file that it points to is replaced. A missing folder is created.

    Raises:
        OSError: The new file could not be written whole; it is removed.
    """
    # In the same folder: a rename is atomic within one file system only.
    path = os.path.realpath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # Not by tempfile, which creates files that no other user can read.
    partial = f'{path}.{uuid.uuid4().hex}.partial'
    try:
        with open(partial, 'xb') as f:
            yield f
            # Without this, a crash of the machine can keep the new name and
            # lose the new content.
            f.flush()
            os.fsync(f.fileno())
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.remove(partial)
        raise


def remove_partial_files(folder: str) -> None:
    """Remove what processes left that were killed while they wrote.

    Args:
        folder: Where they wrote; folders in it are not looked into.
    """
    for path in Path(folder).glob('*.partial'):
        path.unlink()


def atomic_write(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path``, or leave the file there untouched.

    Raises:
        OSError: As :func:`atomic_file`.
    """
    with atomic_file(path) as f:
        f.write(data)


@register_backend('atomic', force=True)
class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files, writing by :func:`atomic_write`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        atomic_write(filepath, obj)

    def put_text(self,
                 obj: str,
                 filepath: str | Path,
                 encoding: str = 'utf-8') -> None:
        atomic_write(filepath, obj.encode(encoding))
