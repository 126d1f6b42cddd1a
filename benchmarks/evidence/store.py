"""Results of the evidence as JSON Lines: benchmarks/evidence/DATASET.jsonl.

A line is one result: the name of its job under ``job``, beside all values that
the job measured. Jobs append lines, several processes at a time; nothing is
rewritten. Where a job was run again, its later line replaces the earlier one.
"""
import fcntl
import json
import os
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Iterator, Mapping

FOLDER = Path(__file__).resolve().parent
"""Of the data sets' files."""


def results_file(dataset: str) -> Path:
    """The file of a data set's results."""
    return FOLDER / f'{dataset}.jsonl'


def read_results(path: Path) -> Mapping[str, dict[str, Any]]:
    """Job -> its newest result, by the jobs' names; to be read only.

    A last line that a killed process left incomplete is ignored; a file that
    does not exist has no results.

    Raises:
        ValueError: Any other line is no result.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        return {}
    return _results(path, state.st_size, state.st_mtime_ns)


def append_result(path: Path, job: str, values: Mapping[str, Any]) -> None:
    """Add the result of a job: one line, on the disk on return.

    An incomplete last line, left by a process that was killed while writing,
    is removed first.

    Args:
        path: The data set's file; it is created if it is missing.
        job: The job's name.
        values: What it measured, as JSON can hold it; other values are
            written as strings.

    Raises:
        OSError: The line could not be written whole; nothing of it stays.
    """
    line = (json.dumps({'job': job, **values}, default=str) + '\n').encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'ab+', buffering=0) as file:
        # Until the file is closed. Whoever has the lock is the only writer,
        # so an incomplete line is of none that is still at work.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = file.read()
        end = len(content)
        tail = content[content.rfind(b'\n') + 1:]
        if tail and _is_incomplete(tail):
            end -= len(tail)
        elif tail:  # an editor may have removed the end of the last line
            line = b'\n' + line
        file.truncate(end)
        try:
            if file.write(line) != len(line):
                raise OSError(f'{path}: the disk took only a part of the '
                              f'result of {job}. Make room, run it again.')
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise


@lru_cache(maxsize=8)
def _results(path: Path, size: int, changed: int
             ) -> Mapping[str, dict[str, Any]]:
    """Of a file in one state: the queue asks for the same one many times."""
    results = {line.pop('job'): line for line in _lines(path)}
    return MappingProxyType(dict(sorted(results.items())))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_bytes().split(b'\n')
    if _is_incomplete(lines[-1]):  # also where it is empty, as it should be
        del lines[-1]
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict) or 'job' not in values:
            raise ValueError(
                f'{path}, line {number}: expected a JSON object with "job", '
                f'the name of the job; got {line[:60]!r}. Remove the line: '
                'its job is run again.')
        yield values


def _is_incomplete(line: bytes) -> bool:
    """No beginning of a JSON object is a JSON object."""
    try:
        json.loads(line)
    except ValueError:
        return True
    return False
