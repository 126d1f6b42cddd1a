"""Does distillation help, and does the order matter? Measured with seeds.

    python benchmarks/evidence.py --budget small --jobs 2
    python benchmarks/evidence.py --budget full --jobs 8 --minutes 8

Trains from random weights, on each of the data sets of configs/evidence: the
pool, the student of each seed, and the stages of the comparisons. A stage that
several comparisons share is trained once. Every result is appended to
benchmarks/evidence/DATASET.jsonl when it is measured, and the command can be
stopped and run again to continue. --jobs processes run at a time, each with
its share of the cores; after --minutes no job is started. --dataset and --only
select; --list shows what is done.

    python benchmarks/evidence.py --report

writes docs/results.md and its plots from the results alone.

Comparisons (the small budget has the first four and 3 seeds, the full one all
and 5 seeds):

    pilot       which weight? on a seed that no other comparison uses
    main        student trained on alone, direct from the best teacher, all
                teachers at once, progression in the order found; equal epochs
    orders      every sequence of 1 to 4 teachers, 3 epochs each
    cost        one stage with each teacher: does the cost predict its gain?
    mechanisms  five mechanisms, each direct and progressive
    gaps        transformer to CNN, rising resolution, a smaller backbone
    why         training loss and sharpness of the students of main
    sweeps      number of teachers, weight, adapters
    shares      the automatic weight's share, also for an early student
    compress    the student cut to 75, 50 and 25% of its width: not trained,
                from random weights, alone, and taught by what it was; half of
                it also by a stronger teacher after that, and as ONNX files.
                In no budget: name it by --only. Needs torch-pruning, onnx and
                onnxruntime.
                Results: benchmarks/evidence/DATASET_slices.jsonl
    labels      few labels, all labels, images without any, and what of a
                teacher arrives: on txl and deeppcb alone, which no other
                comparison but compress is on. --data is the folder that holds
                the folders txl_pbc and deeppcb (and bccd): annotations/
                instances_{train,val}.json, train and val
"""
import argparse
import functools
import itertools
import os
import signal
import sys
import time

from evidence import comparisons
from evidence.design import DATASETS, FEW_LABELS
from evidence.jobs import queue
from evidence.jobs.training import prepare_data
from evidence.report import page, small
from mmengine.registry import DefaultScope

from mtpd.command_line import plain_errors
from mtpd.show.tables import text_table
from mtpd.stage.preemption import EXIT_CODE


def main() -> None:
    args = read_arguments()
    DefaultScope.get_instance('evidence', scope_name='mmdet')
    if args.report:
        page.write()
        small.write()
    else:
        if not args.list:
            run(args)
        print(table_of_jobs(args))


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--budget', choices=comparisons.BUDGETS,
                        default='small')
    parser.add_argument('--only', choices=comparisons.COMPARISONS, nargs='+')
    parser.add_argument('--dataset', choices=[*DATASETS, *FEW_LABELS],
                        nargs='+', default=list(DATASETS))
    parser.add_argument('--data', help='folder with the data of bccd and txl')
    parser.add_argument('--minutes', type=float, default=float('inf'))
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--report', action='store_true')
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error('--jobs has to be at least 1')
    args.only = args.only or comparisons.BUDGETS[args.budget]
    if args.data:  # read by the configs, also in other processes
        os.environ['MTPD_DATA'] = os.path.abspath(args.data)
    return args


def run(args: argparse.Namespace) -> None:
    """Run all jobs without a result, until the time is over."""
    end = time.monotonic() + 60 * args.minutes
    # An exception, so that run_jobs ends the processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CODE))
    with plain_errors():
        for dataset in args.dataset:
            prepare_data(dataset)
    queue.PROCESSES.set_forkserver_preload(queue.PRELOADED)
    os.environ.setdefault('OMP_NUM_THREADS', str(
        max(1, (os.cpu_count() or 1) // args.jobs)))
    queue.run_jobs(functools.partial(
        comparisons.all_jobs, args.dataset, args.only,
        comparisons.SEEDS[args.budget]), args.jobs, end)


def table_of_jobs(args: argparse.Namespace) -> str:
    """How many jobs of each comparison have a result."""
    rows = []
    for dataset, name in itertools.product(args.dataset, args.only):
        jobs = list(comparisons.COMPARISONS[name](
            dataset, comparisons.SEEDS[args.budget]))
        rows.append([f'{dataset}: {name}', sum(job.done for job in jobs),
                     len(jobs)])
    return text_table('Results', ['comparison', 'done', 'of'], rows)


if __name__ == '__main__':
    main()
