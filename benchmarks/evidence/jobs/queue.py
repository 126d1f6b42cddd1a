"""Jobs in processes of their own, each after those that it starts from."""
import itertools
import multiprocessing
import os
import sys
import time
from multiprocessing.process import BaseProcess
from typing import Callable, Collection, Iterable, Iterator

from mmengine.registry import DefaultScope

from .job import Job

PROCESSES = multiprocessing.get_context('forkserver')
PRELOADED = ['mtpd.analysis.comparison', 'mtpd.progression', 'mmdet.datasets',
             'mmdet.engine', 'mmdet.evaluation', 'mmdet.models',
             'mmdet.visualization']
"""Imported once, not by each of some hundred processes."""


def run_jobs(list_jobs: Callable[[], Iterable[Job]], processes: int,
             end: float) -> None:
    """Run all jobs without a result, several at a time.

    Args:
        list_jobs: Called again and again: a result can lead to more jobs.
        processes: How many run at a time.
        end: Value of :func:`time.monotonic` after which none is started.

    Raises:
        SystemExit: A job failed. Those that were running are ended.
    """
    running: dict[Job, BaseProcess] = {}
    try:
        while True:
            if time.monotonic() < end:
                for job in itertools.islice(ready(list_jobs(), running),
                                            processes - len(running)):
                    running[job] = start(job)
            if not running:
                return
            while all(p.exitcode is None for p in running.values()):
                time.sleep(.2)
            for job, process in list(running.items()):
                if process.exitcode is not None:
                    del running[job]
                    if process.exitcode:
                        sys.exit(f'{job.name} failed; see {job.log}')
    finally:
        # Also one that a signal found between its start and its entry above.
        left = {*running.values(), *multiprocessing.active_children()}
        for process in left:
            process.terminate()
        for process in left:
            process.join()


def ready(jobs: Iterable[Job], running: Collection[Job]) -> Iterator[Job]:
    """The jobs that can start now, each once: without a result, or with one
    but without the weights that another has to start from."""
    steps = dict.fromkeys(step for job in jobs if not job.done
                          for step in job.steps())
    for step in steps:
        if step not in running and all(need.usable for need in step.needs):
            yield step


def start(job: Job) -> BaseProcess:
    """Start a job in a process of its own."""
    print(time.strftime('%H:%M:%S'), job.dataset, job.name, flush=True)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    process = PROCESSES.Process(target=run_logged, args=(job,))
    process.start()
    return process


def run_logged(job: Job) -> None:
    """Run a job; all that it prints goes into its log."""
    with job.log.open('w') as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    DefaultScope.get_instance('evidence', scope_name='mmdet')
    job.run()
