"""Does it help, and does the order matter? Measured, with seeds.

    python benchmarks/evidence.py --budget small --jobs 2
    python benchmarks/evidence.py --budget full --jobs 8 --minutes 8

From random weights, on each of the data sets of configs/evidence: the pool,
the student of each seed, and what the comparisons are made of, each stage once
however many comparisons share it. Every result is a line of JSON in
benchmarks/evidence as soon as it is there; run again, the command goes on.
--jobs processes run at a time, each with its share of the cores; after
--minutes none is begun. --dataset and --only take some; --list shows what is
done.

    python benchmarks/evidence.py --report

writes docs/results.md and its plots from the JSON alone.

Comparisons (the small budget has the first four and 3 seeds, the full one all
and 5 seeds):

    pilot       on a seed that no other comparison has: which weight?
    main        student trained on alone, direct from the best teacher, all
                teachers at once, progression in the order found; equal epochs
    orders      every sequence of 1 to 4 teachers, 3 epochs each
    cost        one stage below each teacher: does the cost predict its gain?
    mechanisms  five of them, each direct and progressive
    gaps        transformer to CNN, rising resolution, a smaller backbone
    why         training loss and sharpness of what main trained
    sweeps      number of teachers, weight, adapters
"""
import argparse
import itertools
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Collection, Iterator

sys.path.insert(0, str(Path(__file__).parent))

from mmengine.registry import DefaultScope

import evidence_report
from evidence_report import (ADAPTED, DATASETS, EPOCHS, GENTLE, MECHANISMS,
                             PILOT_SEED, SHORT, WEIGHT, WITHOUT_ADAPTERS,
                             Evidence, arms, at_scale, with_mechanism)
from evidence_runs import (WEIGHTS, Costs, Explanation, Job, Node, Stage,
                           pool_of, prepare_data)
from mtpd.command_line import plain_errors
from mtpd.show.tables import text_table
from mtpd.stage.preemption import EXIT_CODE

SEEDS = {'small': (0, 1, 2), 'full': (0, 1, 2, 3, 4)}
ITEMS = {'small': ('pilot', 'main', 'orders', 'cost'),
         'full': ('pilot', 'main', 'orders', 'cost', 'mechanisms', 'gaps',
                  'why', 'sweeps')}
PROCESSES = multiprocessing.get_context('forkserver')
IMPORTED = ['mtpd.analysis.comparison', 'mtpd.progression', 'mmdet.datasets',
            'mmdet.engine', 'mmdet.evaluation', 'mmdet.models',
            'mmdet.visualization']
"""Once, not again in each of some hundred processes."""


def main() -> None:
    args = read_arguments()
    DefaultScope.get_instance('evidence', scope_name='mmdet')
    if args.report:
        evidence_report.write()
    else:
        if not args.list:
            # So that a stop reaches the processes: see go_on's `finally`.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CODE))
            with plain_errors():
                for dataset in args.dataset:
                    prepare_data(dataset)
            PROCESSES.set_forkserver_preload(IMPORTED)
            os.environ.setdefault('OMP_NUM_THREADS', str(
                max(1, (os.cpu_count() or 1) // args.jobs)))
            go_on(args, time.monotonic() + 60 * args.minutes)
        listed(args)


def read_arguments() -> argparse.Namespace:
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument('--budget', choices=SEEDS, default='small')
    made.add_argument('--only', choices=ITEMS['full'], nargs='+')
    made.add_argument('--dataset', choices=DATASETS, nargs='+',
                      default=list(DATASETS))
    made.add_argument('--minutes', type=float, default=float('inf'))
    made.add_argument('--jobs', type=int, default=1)
    made.add_argument('--list', action='store_true')
    made.add_argument('--report', action='store_true')
    args = made.parse_args()
    if args.jobs < 1:
        made.error('--jobs has to be at least 1')
    return args


def go_on(args: argparse.Namespace, end: float) -> None:
    """Run what is not done, ``--jobs`` processes at a time, until ``end``; no
    job before what it starts from is there."""
    running: dict[Job, BaseProcess] = {}
    try:
        while True:
            if time.monotonic() < end:
                for job in itertools.islice(
                        ready(args, running), args.jobs - len(running)):
                    running[job] = begin(job)
            if not running:
                return
            while all(p.exitcode is None for p in running.values()):
                time.sleep(.2)
            for job, process in list(running.items()):
                if process.exitcode is not None:
                    del running[job]
                    if process.exitcode:
                        sys.exit(f'{job.name} failed; see {log_of(job)}')
    finally:
        # Also one that a stop found between its start and its entry above.
        left = {*running.values(), *multiprocessing.active_children()}
        for process in left:
            process.terminate()
        for process in left:
            process.join()


def ready(args: argparse.Namespace,
          running: Collection[Job]) -> Iterator[Job]:
    """What can begin now, each once: what is not done, or what that has to
    start from and is not on this machine."""
    steps = dict.fromkeys(step for job in jobs(args) if not job.done
                          for step in job.steps())
    for step in steps:
        if step not in running and all(n.usable for n in step.needs):
            yield step


def begin(job: Job) -> BaseProcess:
    """One job in a process of its own."""
    print(time.strftime('%H:%M:%S'), job.dataset, job.name, flush=True)
    log_of(job).parent.mkdir(parents=True, exist_ok=True)
    process = PROCESSES.Process(target=run_alone, args=(job,))
    process.start()
    return process


def run_alone(job: Job) -> None:
    """Do a job; all that it prints goes into its log."""
    with log_of(job).open('w') as out:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(out.fileno(), stream.fileno())
    DefaultScope.get_instance('evidence', scope_name='mmdet')
    job.run()


def log_of(job: Job) -> Path:
    """What a job printed."""
    return WEIGHTS / job.dataset / 'log' / f'{job.name}.txt'


def jobs(args: argparse.Namespace) -> list[Job]:
    """All that the comparisons asked for are made of, each once; without those
    that need an order that is not found yet."""
    return list(dict.fromkeys(job for dataset in args.dataset
                              for job in jobs_on(args, dataset)))


def jobs_on(args: argparse.Namespace, dataset: str) -> Iterator[Job]:
    """Those on one data set, with repetitions."""
    yield Costs(dataset)
    for item in args.only or ITEMS[args.budget]:
        for job in ITEM[item](dataset, SEEDS[args.budget]):
            if isinstance(job, Node):
                yield from (replace(job, stages=job.stages[:done])
                            for done in range(len(job.stages)))
            yield job


def of_pilot(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """One stage with several weights, and without."""
    of = Evidence(dataset)
    yield chain(dataset, PILOT_SEED, ())
    if of.costs is not None:
        for weight in (.03, .1, .3, 1.):
            yield chain(dataset, PILOT_SEED, (of.best,), changes=(
                ('distill.loss_weight', weight),))


def of_main(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """Equal epochs, restarts and seeds in every arm."""
    for seed in seeds:
        for teachers in arms(Evidence(dataset)).values():
            yield chain(dataset, seed, *teachers)


def of_orders(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """Every sequence of the first seed; of the others those of one and two
    teachers; beside them the student trained on alone."""
    costs = Evidence(dataset).costs
    if costs is None:
        return
    teachers = sorted(costs['aps'])
    for length in range(1, len(teachers) + 1):
        for seed in seeds if length < 3 else seeds[:1]:
            for order in itertools.permutations(teachers, length):
                yield short_chain(dataset, seed, *((n,) for n in order))
            yield short_chain(dataset, seed, *[()] * length)


def of_cost(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """One stage below each teacher, of every seed."""
    for seed in seeds:
        for name in sorted(pool_of(dataset)):
            yield chain(dataset, seed, (name,))


def of_mechanisms(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """Each direct and progressive, with gradients of equal size, and with the
    weight that it has by default."""
    of = arms(Evidence(dataset))
    for equal, seed, mechanism, arm in itertools.product(
            (True, False), seeds[:3], MECHANISMS, ('direct', 'progression')):
        if arm in of and (equal or mechanism != 'FeatureL2Loss'):
            yield chain(dataset, seed, *of[arm],
                        changes=with_mechanism(mechanism, equal))


def of_gaps(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """A Swin teacher directly and after a convolutional one; rising
    resolutions, where the pool sees larger pictures than the student; a
    smaller student directly and after another teacher."""
    of = Evidence(dataset)
    if of.costs is None:
        return
    best = of.best
    for seed in seeds[:3]:
        if {'swin', 'resnext'} <= set(of.costs['aps']):
            for first in 'swin', 'resnext':
                yield chain(dataset, seed, (first,), ('swin',))
        if pool_of(dataset)[best].scale > 1:
            yield chain(dataset, seed, (best,), (best,))
            yield Node(dataset, seed, (
                Stage((best,), EPOCHS, changes=at_scale(best, 1)),
                Stage((best,), EPOCHS)))
        for arm in ('alone', 'direct', 'progression'):
            if arm in arms(of):
                yield replace(chain(dataset, seed, *arms(of)[arm]),
                              student='small')


def of_why(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """The distilled students beside the one trained on alone."""
    of = arms(Evidence(dataset))
    for seed in seeds[:3]:
        for arm in ('direct', 'progression'):
            if arm in of:
                yield Explanation(arm, chain(dataset, seed, *of[arm]),
                                  chain(dataset, seed, *of['alone']))


def of_sweeps(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """The number of teachers, the weight, where adapters start; where there
    are none, the orders of two teachers also with them, and at a smaller
    weight."""
    of = Evidence(dataset)
    if of.costs is None:
        return
    none = dataset in WITHOUT_ADAPTERS
    settings = (
        *((*(ADAPTED if none else ()), ('init_adapters', start))
          for start in ('fitted', 'random', 'identity', 'zero')),
        (('distill.loss_weight', 'auto'), ('init_adapters', 'random')),
        *((('distill.loss_weight', round(factor * WEIGHT, 3)),)
          for factor in (10., 3., .3, .1)))
    for changes, seed in itertools.product(settings, seeds[:3]):
        yield chain(dataset, seed, (of.best,), changes=changes)
    for order, seed in itertools.product(of.costs['orders'].values(),
                                         seeds[:3]):
        yield chain(dataset, seed, *((name,) for name in order))
        yield chain(dataset, seed, *[()] * len(order))
        if len(order) > 1:
            yield chain(dataset, seed, *[(of.best,)] * len(order))
    if none:
        for changes, seed, order in itertools.product(
                (GENTLE, ADAPTED), seeds[:3],
                itertools.permutations(sorted(of.costs['aps']), 2)):
            yield short_chain(dataset, seed, *((n,) for n in order),
                              changes=changes)


ITEM = {'pilot': of_pilot, 'main': of_main, 'orders': of_orders,
        'cost': of_cost, 'mechanisms': of_mechanisms, 'gaps': of_gaps,
        'why': of_why, 'sweeps': of_sweeps}


def chain(dataset: str, seed: int, *teachers: tuple[str, ...],
          changes: tuple = ()) -> Node:
    """Stages of full length, one for each tuple of teachers."""
    return Node(dataset, seed, tuple(
        Stage(names, EPOCHS, changes=changes) for names in teachers))


def short_chain(dataset: str, seed: int, *teachers: tuple[str, ...],
                changes: tuple = ()) -> Node:
    """Short stages, as orders are tried in."""
    return Node(dataset, seed, tuple(
        Stage(names, SHORT, 'linear', changes) for names in teachers))


def listed(args: argparse.Namespace) -> None:
    """What is done and what is not, by comparison."""
    rows = []
    for dataset, item in itertools.product(
            args.dataset, args.only or ITEMS[args.budget]):
        of = list(ITEM[item](dataset, SEEDS[args.budget]))
        rows.append([f'{dataset}: {item}', sum(job.done for job in of),
                     len(of)])
    print(text_table('Results', ['comparison', 'done', 'of'], rows))


if __name__ == '__main__':
    main()
