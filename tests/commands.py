"""Commands in processes of their own, without importing everything each time.

torch, mmdet and mtpd take eight seconds to import. A server process imports
them once, and each command is a fork of it that has run nothing else. What
imports do is tested by interpreters of their own (test_packaging.py), and what
mmengine's formatting does by torchrun's (test_processes.py).
"""
import gc
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Mapping

import pytest
import torch

from plain_configs import use_plain_configs

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload([
    'commands', 'mtpd.progression', 'mtpd.report.page', 'mmdet.datasets',
    'mmdet.evaluation', 'mmdet.visualization', 'matplotlib.pyplot'])


class Command:
    """``python WORDS``, started.

    Args:
        words: A file and its arguments.
        cwd: The folder that it runs in.
        environment: Variables to be set in it.
    """

    def __init__(self, *words: Any, cwd: str | os.PathLike,
                 environment: Mapping[str, str] | None = None) -> None:
        self.words = [os.fspath(word) if isinstance(word, os.PathLike)
                      else str(word) for word in words]
        self._outputs = [tempfile.NamedTemporaryFile() for _ in range(2)]
        self._process = CONTEXT.Process(target=_run, args=(
            self.words, os.fspath(cwd), {**os.environ, **(environment or {})},
            [output.name for output in self._outputs]))
        self._process.start()

    def wait(self) -> subprocess.CompletedProcess[str]:
        """What it printed, once it has ended."""
        self._process.join()
        texts = [Path(output.name).read_text() for output in self._outputs]
        for output in self._outputs:
            output.close()
        return subprocess.CompletedProcess(
            self.words, self._process.exitcode, *texts)


def run_command(*words: Any, cwd: str | os.PathLike,
                environment: Mapping[str, str] | None = None
                ) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run([sys.executable, *words])`` with captured text."""
    return Command(*words, cwd=cwd, environment=environment).wait()


def run_two(*words: Any, cwd: str | os.PathLike, of_slurm: bool = False
            ) -> list[subprocess.CompletedProcess[str]]:
    """The command as the two processes of one job of torchrun or Slurm."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    started = []
    for rank in '01':
        job = dict(MASTER_PORT=str(port), RANK=rank)
        if of_slurm:
            job.update(SLURM_PROCID=rank, SLURM_LOCALID=rank,
                       SLURM_NTASKS='2')
        else:
            job.update(MASTER_ADDR='127.0.0.1', LOCAL_RANK=rank,
                       WORLD_SIZE='2')
        started.append(Command(*words, cwd=cwd, environment=job))
    return [command.wait() for command in started]


def _run(words: list[str], cwd: str, environment: dict[str, str],
         outputs: list[str]) -> None:
    gc.freeze()  # what imports have made is no garbage
    torch.set_num_threads(1)
    use_plain_configs(pytest.MonkeyPatch())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, path in enumerate(outputs, 1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
    sys.argv = words
    # What an interpreter would have: the file's folder, and what is installed;
    # mtpd by a line that names the repository. The server may not have
    # imported it: benchmarks/evidence starts the same one for its own jobs.
    sys.path[:] = [str(Path(words[0]).resolve().parent), *(
        path for path in sys.path
        if path.startswith((sys.prefix, sys.base_prefix))),
        str(Path(__file__).resolve().parents[1])]
    runpy.run_path(words[0], run_name='__main__')
