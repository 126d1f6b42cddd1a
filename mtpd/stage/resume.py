"""Which checkpoint a stopped run resumes from.

``mtpd.progression.stage_sequence`` asks for it at the start of each stage.
``StageCheckpointHook`` records which batch comes next, and the loops start
from that batch.
"""
import glob
import logging
import os
import re
from typing import Any, Callable

from mmengine.logging import print_log

from mtpd.compat.checkpoints import CorruptCheckpoint, read_checkpoint


_NAME = re.compile(r'epoch_(\d+)(?:_batch_(\d+))?\.pth|iter_(\d+)\.pth')


def position(path: str) -> tuple[int, int, int]:
    """Epochs, batches beyond them, iterations; (-1, 0, 0) for other files."""
    match = _NAME.fullmatch(os.path.basename(path))
    if match is None:
        return -1, 0, 0
    epochs, batches, iterations = (int(n or 0) for n in match.groups())
    return epochs, batches, iterations


def saved_checkpoints(folder: str) -> list[str]:
    """The checkpoints of a run by their names, the newest first."""
    files = glob.glob(os.path.join(glob.escape(folder), '*.pth'))
    checkpoints = [path for path in files if position(path)[0] >= 0]
    return sorted(checkpoints, key=position, reverse=True)


def newest_checkpoint(folder: str,
                      problem_of: Callable[[dict[str, Any]], str | None]
                      = lambda content: None) -> str | None:
    """The newest checkpoint of a run that can be read, None without one.

    The files themselves are looked at: mmengine's ``last_checkpoint`` is
    written in place, after the checkpoint, and may name one that is torn or
    gone. Files that are skipped are logged with the reason.

    Args:
        folder: The run's.
        problem_of: What is wrong with a file's content, None if nothing is.
    """
    for path in saved_checkpoints(folder):
        try:
            problem = problem_of(read_checkpoint(path))
        except CorruptCheckpoint as error:
            problem = str(error)
        if problem is None:
            return path
        print_log(f'{path} is skipped: {problem}', logger='current',
                  level=logging.WARNING)
    return None


def newest_finite_checkpoint(folder: str) -> str | None:
    """The newest checkpoint whose weights are all finite.

    A step may spoil the weights that the next checkpoint holds before any loss
    shows it. Newer checkpoints than that are renamed to ``*.pth.not_finite``,
    so that no run resumes from them.
    """
    while (path := newest_checkpoint(folder)) is not None:
        weights = read_checkpoint(path)['state_dict'].values()
        if all(w.isfinite().all() for w in weights if w.is_floating_point()):
            return path
        os.replace(path, path + '.not_finite')
    return None


def best_checkpoint(folder: str) -> str | None:
    """The file that mmengine's ``save_best`` keeps, None if there is none."""
    files = glob.glob(os.path.join(glob.escape(folder), 'best_*.pth'))
    return max(files, key=os.path.getmtime) if files else None
