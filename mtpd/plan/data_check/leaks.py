"""Images without labels that are also validated or tested on."""
import hashlib
import os
from collections import defaultdict
from typing import Any, Iterable, Mapping, Sequence

from mtpd.plan.detectors import is_url


def leaks(entries: Sequence[Mapping[str, Any]],
          paths: Mapping[str, Sequence[str] | None]) -> list[str]:
    """Images that are also validated or tested on, byte for byte.

    Args:
        entries: What the data set knows of each image.
        paths: As in :func:`check_unlabelled`.
    """
    problems = []
    own = list(map(path_of, entries))
    for split, use in (('val', 'validation'), ('test', 'test')):
        same = equal_files(own, paths.get(split) or ())
        if same:
            problems.append(
                f'mtpd.unlabelled: {len(same)} of {len(entries)} images are '
                f'also in the {use} set, byte for byte: {some_of(same)}. The '
                'student would be taught on what it is measured with. Remove '
                'them there, or from the other set.')
    return problems


def equal_files(files: Iterable[str], others: Iterable[str]) -> list[str]:
    """The files that have the same bytes as one of the others. Files of a
    size that no other has are not opened."""
    sizes: dict[int, list[str]] = defaultdict(list)
    for path in set(filter(os.path.isfile, others)):
        sizes[os.path.getsize(path)].append(path)
    digests: dict[int, set[bytes]] = {}
    same = []
    for path in files:
        size = os.path.getsize(path) if path else -1
        if size not in sizes:
            continue
        if size not in digests:
            digests[size] = set(map(_digest, sizes[size]))
        if _digest(path) in digests[size]:
            same.append(path)
    return same


def _digest(path: str) -> bytes:
    with open(path, 'rb') as file:
        return hashlib.blake2b(file.read()).digest()


def path_of(entry: Mapping[str, Any]) -> str:
    """The file of an image that a data set knows; empty for none or a URL."""
    path = entry.get('img_path') or ''
    return path if isinstance(path, str) and not is_url(path) else ''


def some_of(paths: Sequence[str]) -> str:
    """The first of some paths, in words."""
    more = f' and {len(paths) - 5} more' if len(paths) > 5 else ''
    return ', '.join(paths[:5]) + more
