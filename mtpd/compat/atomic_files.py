"""Files that are either the old one or the new one, never half of one.

mmengine 0.10.7 writes a checkpoint over the old file in place: a full disk or
a killed process leaves neither. With this module imported,
``CheckpointHook(backend_args=dict(backend='atomic'))`` writes beside it and
swaps. No longer needed once mmengine's own LocalBackend does that (no release
does yet). The hook's ``last_checkpoint`` note stays out of its reach: mmengine
writes that one without a backend.
"""
import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterator

from mmengine.fileio import LocalBackend, register_backend


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to that is at ``path`` when the block ends; what is
    there stays untouched until then, and if the block raises.

    A link stays a link: the file that it points to is replaced. The folder is
    made if it is missing.

    Raises:
        OSError: The new file could not be written whole; nothing of it stays.
    """
    # In the same folder: a rename is atomic within one file system only.
    path = os.path.realpath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # Not tempfile's: it makes files that no other user can read.
    partial = f'{path}.{uuid.uuid4().hex}.partial'
    try:
        with open(partial, 'xb') as f:
            yield f
            # Without it a crash of the machine can keep the new name and lose
            # the new content.
            f.flush()
            os.fsync(f.fileno())
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.remove(partial)
        raise


def atomic_write(path: str | Path, data: bytes) -> None:
    """Put ``data`` at ``path``, or leave what is there untouched.

    Raises:
        OSError: As :func:`atomic_file`.
    """
    with atomic_file(path) as f:
        f.write(data)


@register_backend('atomic', force=True)
class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files, with :func:`atomic_write`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        atomic_write(filepath, obj)

    def put_text(self,
                 obj: str,
                 filepath: str | Path,
                 encoding: str = 'utf-8') -> None:
        atomic_write(filepath, obj.encode(encoding))
