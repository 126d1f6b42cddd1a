"""Which jobs each comparison is made of."""
import itertools
from dataclasses import replace
from typing import Callable, Iterator, Mapping, Sequence

from .design import (ADAPTED, ARRIVALS, EARLY, EPOCHS, FEW_LABELS, FEWEST,
                     GENTLE, LABEL_ARMS, LABELS, LIMITS, MECHANISMS,
                     PILOT_SEED, SHARES, SHORT, SPLITS, THREE_TIMES,
                     TWO_STAGES, WEIGHT, WEIGHTLESS, WITHOUT_ADAPTERS, Changes,
                     LabelStage, at_scale, default_with_share, with_mechanism,
                     with_share)
from .jobs.arrivals import Arrival
from .jobs.job import Job
from .jobs.limits import Limit
from .jobs.students import Costs, Explanation, Node, Stage
from .results import Evidence
from .jobs.slices import (LAYERED, SLICE_ARMS, WIDTHS, Packed, Shipped, Slice,
                          SliceTraining)
from .jobs.training import pool_of

SEEDS = {'small': (0, 1, 2), 'full': (0, 1, 2, 3, 4)}
BUDGETS = {'small': ('pilot', 'main', 'orders', 'cost'),
           'full': ('pilot', 'main', 'orders', 'cost', 'mechanisms', 'gaps',
                    'why', 'sweeps', 'shares')}


def all_jobs(datasets: Sequence[str], comparisons: Sequence[str],
             seeds: tuple[int, ...]) -> list[Job]:
    """All jobs of some comparisons, each once; without those that need an
    order that is not found yet."""
    return list(dict.fromkeys(
        job for dataset in datasets
        for job in jobs_on(dataset, comparisons, seeds)))


def jobs_on(dataset: str, comparisons: Sequence[str],
            seeds: tuple[int, ...]) -> Iterator[Job]:
    """The jobs on one data set, with repetitions."""
    few = dataset in FEW_LABELS
    if not few:
        yield Costs(dataset)
    for comparison in comparisons:
        if comparison != 'compress' and few != (comparison == 'labels'):
            continue
        for job in COMPARISONS[comparison](dataset, seeds):
            if isinstance(job, Node):
                for number in range(len(job.stages)):
                    yield replace(job, stages=job.stages[:number])
            yield job


def pilot_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """One stage with several weights, and without a teacher."""
    evidence = Evidence(dataset)
    yield chain(dataset, PILOT_SEED, ())
    if evidence.costs is not None:
        for weight in (.03, .1, .3, 1.):
            yield chain(dataset, PILOT_SEED, (evidence.best,), changes=(
                ('distill.loss_weight', weight),))


def main_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """Equal epochs, restarts and seeds in every arm."""
    for seed in seeds:
        for stages in Evidence(dataset).arms.values():
            yield chain(dataset, seed, *stages)


def order_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """Every sequence for the first seed; for the others the sequences of one
    and two teachers; beside them the student trained on alone."""
    costs = Evidence(dataset).costs
    if costs is None:
        return
    teachers = sorted(costs['aps'])
    for length in range(1, len(teachers) + 1):
        for seed in seeds if length < 3 else seeds[:1]:
            for order in itertools.permutations(teachers, length):
                yield short_chain(dataset, seed, *((n,) for n in order))
            yield short_chain(dataset, seed, *[()] * length)


def cost_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """One stage with each teacher, for every seed."""
    for seed in seeds:
        for name in sorted(pool_of(dataset)):
            yield chain(dataset, seed, (name,))


def mechanism_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """Each mechanism direct and progressive, with gradients of equal size,
    and with the weight that it has by default."""
    arms = Evidence(dataset).arms
    for equal, seed, mechanism, arm in itertools.product(
            (True, False), seeds[:3], MECHANISMS, ('direct', 'progression')):
        if arm in arms and (equal or mechanism != 'FeatureL2Loss'):
            yield chain(dataset, seed, *arms[arm],
                        changes=with_mechanism(mechanism, equal))


def gap_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """A Swin teacher directly and after a convolutional one; rising
    resolutions, where the pool sees larger images than the student; a
    smaller student directly and after another teacher."""
    evidence = Evidence(dataset)
    if evidence.costs is None:
        return
    best = evidence.best
    for seed in seeds[:3]:
        if {'swin', 'resnext'} <= set(evidence.costs['aps']):
            for first in 'swin', 'resnext':
                yield chain(dataset, seed, (first,), ('swin',))
        if pool_of(dataset)[best].scale > 1:
            yield chain(dataset, seed, (best,), (best,))
            yield Node(dataset, seed, (
                Stage((best,), EPOCHS, changes=at_scale(best, 1)),
                Stage((best,), EPOCHS)))
        for arm in ('alone', 'direct', 'progression'):
            if arm in evidence.arms:
                yield replace(chain(dataset, seed, *evidence.arms[arm]),
                              student='small')


def why_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """The distilled students beside the student trained on alone."""
    arms = Evidence(dataset).arms
    for seed in seeds[:3]:
        for arm in ('direct', 'progression'):
            if arm in arms:
                yield Explanation(arm, chain(dataset, seed, *arms[arm]),
                                  chain(dataset, seed, *arms['alone']))


def sweep_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """The weight, the first values of adapters, the number of teachers; on a
    data set without adapters, the orders of two teachers also with them, and
    at a smaller weight."""
    evidence = Evidence(dataset)
    if evidence.costs is None:
        return
    for changes, seed in itertools.product(
            _sweep_changes(dataset in WITHOUT_ADAPTERS), seeds[:3]):
        yield chain(dataset, seed, (evidence.best,), changes=changes)
    for order, seed in itertools.product(evidence.costs['orders'].values(),
                                         seeds[:3]):
        yield chain(dataset, seed, *((name,) for name in order))
        yield chain(dataset, seed, *[()] * len(order))
        if len(order) > 1:
            yield chain(dataset, seed, *[(evidence.best,)] * len(order))
    if dataset in WITHOUT_ADAPTERS:
        orders = itertools.permutations(sorted(evidence.costs['aps']), 2)
        for changes, seed, order in itertools.product(
                (GENTLE, ADAPTED), seeds[:3], orders):
            yield short_chain(dataset, seed, *((n,) for n in order),
                              changes=changes)


def share_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """Shares of the automatic weight, for the student and for one that is far
    from converged, on drawn shapes."""
    evidence = Evidence(dataset)
    if dataset != 'drawn' or evidence.costs is None:
        return
    best = evidence.best,
    for student, seed in itertools.product(('mtpd', EARLY), seeds[:3]):
        alone = chain(dataset, seed, ()) if student == 'mtpd' \
            else chain(dataset, seed, best, changes=WEIGHTLESS)
        for node in (alone, *(
                chain(dataset, seed, best, changes=default_with_share(share))
                for share in SHARES)):
            yield replace(node, student=student)


def label_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """Students with few and with all labels: alone, taught on the images
    that have labels, and taught on all images; what arrives in some of them;
    beside them the student with other numbers of labels."""
    for student, seed in itertools.product(LABELS.get(dataset, ()), seeds):
        few = TWO_STAGES if student == FEWEST else {}
        for stages in (*LABEL_ARMS[student].values(), *few.values()):
            yield label_node(dataset, seed, student, stages)
    for student, arm in ARRIVALS.get(dataset, ()):
        yield Arrival(label_node(dataset, seeds[0], student,
                                 LABEL_ARMS[student][arm]))
    for split in SPLITS if dataset == 'txl' else ():
        yield Costs(dataset, FEWEST, split)
    for labels in LIMITS if dataset == 'txl' else ():
        yield Limit(dataset, labels)


def label_node(dataset: str, seed: int, student: str,
               stages: Sequence[LabelStage]) -> Node:
    """A student after stages of its length."""
    return Node(dataset, seed, tuple(
        Stage(teachers, LABELS[dataset][student], changes=changes)
        for teachers, changes in stages), student.removesuffix(THREE_TIMES))


def slice_jobs(dataset: str, seeds: tuple[int, ...]) -> Iterator[Job]:
    """Slices of the students, trained in several ways for as long; half of
    the width also as files. On BCCD also by two teachers in turn, and
    students of other convolutions."""
    on_bccd = dataset == 'bccd'
    for width, seed in itertools.product(WIDTHS.get(dataset, ()), seeds[:3]):
        start = Slice(dataset, seed, width)
        arms = {arm: SliceTraining(start, arm) for arm in SLICE_ARMS}
        yield start
        tried = ['scratch', 'alone', TAUGHT_ARM[dataset],
                 *MORE_ARMS.get((dataset, width), ())]
        for arm in dict.fromkeys(tried):
            yield arms[arm]
        if width == .5:
            yield from _files_of(arms['distilled'])
    for layers, seed in itertools.product(LAYERED if on_bccd else (),
                                          seeds[:3]):
        start = Slice(dataset, seed, layers=layers)
        yield start
        for arm in ('alone', 'share1'):
            yield SliceTraining(start, arm)


TAUGHT_ARM = {'bccd': 'distilled', 'txl': 'share1'}
"""Data set -> how slices of all widths are taught."""
MORE_ARMS = {
    ('bccd', .5): ('distilled', 'share2', 'share1', 'fading', 'twice',
                   'progression', 'gentle'),
    ('txl', .5): ('distilled', 'scores', 'scores_and_maps', 'share1_fading',
                  'alone_longer', 'share1_longer'),
    ('txl', .75): ('share1_fading',)}
"""Data set and width -> the other arms."""


def _files_of(student: SliceTraining) -> Iterator[Job]:
    for bits in (32, 8):
        yield Shipped(student, bits)
    for bits in (6, 4):
        yield Packed(student, bits)


def _sweep_changes(add_adapters: bool) -> Iterator[Changes]:
    for start in ('fitted', 'random', 'identity', 'zero'):
        yield (*(ADAPTED if add_adapters else ()), ('init_adapters', start))
    for share in (4., .5):
        yield with_share(share)
    for factor in (10., 3., .3, .1):
        yield ('distill.loss_weight', round(factor * WEIGHT, 3)),


COMPARISONS: Mapping[str, Callable[[str, tuple[int, ...]], Iterator[Job]]] = {
    'pilot': pilot_jobs, 'main': main_jobs, 'orders': order_jobs,
    'cost': cost_jobs, 'mechanisms': mechanism_jobs, 'gaps': gap_jobs,
    'why': why_jobs, 'sweeps': sweep_jobs, 'labels': label_jobs,
    'compress': slice_jobs, 'shares': share_jobs}
"""Name -> its jobs on a data set, for some seeds."""


def chain(dataset: str, seed: int, *teachers: tuple[str, ...],
          changes: Changes = ()) -> Node:
    """Stages of full length, one for each tuple of teachers."""
    return Node(dataset, seed, tuple(
        Stage(names, EPOCHS, changes=changes) for names in teachers))


def short_chain(dataset: str, seed: int, *teachers: tuple[str, ...],
                changes: Changes = ()) -> Node:
    """Short stages, in which orders are tried."""
    return Node(dataset, seed, tuple(
        Stage(names, SHORT, 'linear', changes) for names in teachers))
