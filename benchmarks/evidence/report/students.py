"""The page's sections about the pool and the main comparison."""
from typing import Mapping

import numpy as np

from ..design import (ARMS, ASSUMED_DEVIATION, EPOCHS, WITHOUT_ADAPTERS)
from ..results import Evidence, Run, aps_of
from ..statistics import smallest_difference
from . import cells
from .cells import Results, Row, Section, Values
from .plots import points

NAMES = ARMS | {'start': 'start', 'alone': 'alone', 'direct': 'direct'}
Runs = Mapping[str, Mapping[int, Run]]
"""Arm -> seed -> run, of the same seeds."""


def pool(results: Results) -> Section:
    """How good student and teachers are."""
    return cells.by_dataset(results, [
        '', *cells.APS, 'cost from the student of seed 0'], _pool_rows) \
        + '\n' + ''.join(map(_about_pool, results.values())), {}


def _pool_rows(evidence: Evidence) -> list[Row]:
    students = evidence.runs_of([])
    rows: list[Row] = []
    if students:
        seeds = sorted(students)
        rows.append([f'student, mean of {cells.plural(len(seeds), "seed")}',
                     *cells.mean_aps([students[seed] for seed in seeds]),
                     ''])
    for run in evidence.pool:
        cost = '' if evidence.costs is None else f'''{
            evidence.adaptation.cost(evidence.student, run['name']):.3f}'''
        rows.append([run['name'], *cells.mean_aps([run]), cost])
    return rows


def _about_pool(evidence: Evidence) -> str:
    """The gap to the student."""
    students = evidence.runs_of([])
    if not students or not evidence.pool:
        return ''
    gap = max(run['AP'] for run in evidence.pool) \
        - cells.average(aps_of(students))
    return f'- **{evidence.dataset}**: The best teacher is {gap:.1f} AP ' \
        "above the students' mean.\n"


def main_comparison(results: Results) -> Section:
    """Every arm against the student trained on alone, and against direct."""
    runs = {name: found for name, evidence in results.items()
            if (found := _runs_of_arms(evidence))}
    if not runs:
        return '', {}
    aps = {name: {arm: aps_of(by_seed) for arm, by_seed in arms.items()}
           for name, arms in runs.items()}
    without = [name for name in runs if name in WITHOUT_ADAPTERS]
    adapters = (
        f'On {", ".join(without)} channels are equal: there is no adapter, '
        'and one map cannot equal those of several teachers, so their '
        'distill_ratio stays high. '
    ) if without else ''
    stages = cells.numbers(
        len(results[name].arms['alone']) for name in runs)
    text = (
        f'Every arm has {stages} stages of {EPOCHS} epochs; the learning rate '
        'restarts with each. Time is that of the last stage over that of the '
        f'student alone (median over seeds). {adapters}Only the weight of '
        'direct distillation had a pilot.\n\n')
    text += cells.by_dataset(results, [
        '', 'AP by seed', 'mean', 'minus alone', 'minus direct',
        'minus all at once', 'distill_ratio', 'time'],
        lambda evidence: _arm_rows(evidence, runs.get(evidence.dataset, {})))
    plots = {f'{name}_main.svg': points(
        {ARMS[arm].replace(' from the', '\nfrom the'): list(by_seed.values())
         for arm, by_seed in arms.items() if arm != 'start'},
        'box AP', 'one seed', paired=True)
        for name, arms in aps.items()}
    return text + _deviations(aps) + cells.figure(
        {name: results[name] for name in runs}, 'AP by arm',
        '{}_main.svg'), plots


def _runs_of_arms(evidence: Evidence) -> Runs:
    """The arms, and ``start``; empty where there is nothing to compare."""
    runs = {'start': evidence.runs_of([])} | {
        arm: evidence.runs_of(stages)
        for arm, stages in evidence.arms.items()}
    seeds = sorted(set.intersection(*map(set, runs.values())))
    if len(evidence.arms) < 2 or not seeds:
        return {}
    return {arm: {s: by_seed[s] for s in seeds}
            for arm, by_seed in runs.items()}


def _arm_rows(evidence: Evidence, runs: Runs) -> list[Row]:
    aps = {arm: aps_of(by_seed) for arm, by_seed in runs.items()}
    rows: list[Row] = []
    for arm, values in aps.items():
        name = NAMES[arm]
        if arm in ('direct', 'progression'):
            order = cells.path(['+'.join(t) for t in evidence.arms[arm]])
            name += f' ({order})'
        controls = {'alone': (), 'together': ('alone', 'direct'),
                    'progression': ('alone', 'direct', 'together')
                    }.get(arm, ('alone',))
        last = ['', '']
        if arm != 'start':
            times = [run['minutes'] / runs['alone'][seed]['minutes']
                     for seed, run in runs[arm].items()]
            last = [cells.ratio(runs[arm][min(values)]),
                    f'{np.median(times):.1f}']
        rows.append([name, cells.by_seed(values), cells.mean(values), *(
            cells.difference(values, aps[other])
            if other in controls else ''
            for other in ('alone', 'direct', 'together')), *last])
    return rows


def _deviations(aps: Mapping[str, Mapping[str, Values]]) -> str:
    """Which differences the main question's deviation lets us see."""
    said = []
    for dataset, arms in aps.items():
        seeds = arms['alone']
        if len(seeds) > 2 and 'progression' in arms:
            spread = float(np.std([arms['progression'][s] - arms['direct'][s]
                                   for s in seeds], ddof=1))
            least = smallest_difference(len(seeds), spread)
            said.append(f'{spread:.2f} AP on {dataset} ({len(seeds)} seeds '
                        f'detect {least:.1f} AP)')
    return ('\nThe standard deviation of progression minus direct was '
            f'{" and ".join(said)}, where {ASSUMED_DEVIATION} was assumed.\n'
            if said else '')
