"""The page's sections about the pool, the pilot and the main comparison."""
import numpy as np

from ..design import (ARMS, ASSUMED_DEVIATION, EPOCHS, PILOT_SEED, WEIGHT,
                      WITHOUT_ADAPTERS)
from ..results import Evidence, Run, aps_of
from ..statistics import smallest_difference
from . import cells
from .cells import Section, Values
from .plots import points


def pool(evidence: Evidence) -> Section:
    """How good student and teachers are."""
    students = evidence.runs_of([])
    rows = [[f'student, seed {seed}', *cells.aps(run), '']
            for seed, run in sorted(students.items())]
    known = evidence.costs is not None
    for run in evidence.pool:
        cost = f'''{evidence.adaptation.cost(
            evidence.student, run['name']):.3f}''' if known else ''
        rows.append([f'teacher {run["name"]}', *cells.aps(run), cost])
    text = '### The pool\n\n' + cells.table(
        ['', *cells.APS, 'cost from the student of seed 0'], rows)
    if students and evidence.pool:
        gap = max(run['AP'] for run in evidence.pool) \
            - cells.average(aps_of(students))
        text += (f'\nThe best teacher is {gap:.1f} AP above the mean of the '
                 'students.')
    if known:
        orders = '; '.join(map(cells.path,
                               evidence.costs['orders'].values()))
        text += (' The orders found for a maximum of 1, 2, ... teachers: '
                 f'{orders}. The decisions behind them (standard errors are '
                 'over images):\n')
        for decision in evidence.costs['decisions']:
            if decision and 'no cost was compared' not in decision:
                text += f'\n- {decision}'
    return text + '\n', {}


def pilot(evidence: Evidence) -> Section:
    """Which weight, on a seed of its own."""
    rows = []
    for run in evidence.runs:
        stages = run['node']['stages']
        if run['seed'] == PILOT_SEED and len(stages) == 1:
            changes = ' and '.join(f'{key} {value:g}' for key, value
                                   in stages[0]['changes'])
            rows.append([changes or 'trained on alone', f'{run["start"]:.1f}',
                         f'{run["AP"]:.1f}', cells.ratio(run)])
    if not rows:
        return '', {}
    return (f'### Pilot\n\nSeed {PILOT_SEED}, one stage of {EPOCHS} epochs '
            'taught by the best teacher. One seed shows only which weights '
            f'are far too small or too large: {WEIGHT:g} was taken for all '
            'comparisons, from the middle of the weights that do not '
            'differ.\n\n' + cells.table(
                ['', 'AP before', 'AP after', 'distill_ratio at the end'],
                sorted(rows))), {}


def main_comparison(evidence: Evidence) -> Section:
    """Every arm against the student trained on alone, and against direct."""
    runs = {arm: evidence.runs_of(stages)
            for arm, stages in evidence.arms.items()}
    start = evidence.aps([])
    seeds = sorted(set.intersection(set(start), *map(set, runs.values())))
    if len(runs) < 2 or not seeds:
        return '', {}
    runs = {arm: {s: by_seed[s] for s in seeds}
            for arm, by_seed in runs.items()}
    aps = {arm: aps_of(by_seed) for arm, by_seed in runs.items()}
    start = {s: start[s] for s in seeds}
    rows = [['the student that all start from', cells.by_seed(start),
             cells.mean(start), cells.difference(start, aps['alone']),
             '', '', ''], *_arm_rows(evidence, runs, aps)]
    file = f'{evidence.dataset}_main.svg'
    adapters = (
        'Student and teachers have equal channels and therefore no adapter. '
        'One map cannot equal the maps of several teachers, so the ratio of '
        '"all teachers at once" stays high. '
    ) if evidence.dataset in WITHOUT_ADAPTERS else ''
    text = (
        f'### Main comparison\n\n{len(evidence.arms["alone"])} stages of '
        f'{EPOCHS} epochs in every arm; the learning rate restarts with each '
        'stage. The progression has the order found for a maximum of 2 '
        "teachers, as in most of the paper's experiments. distill_ratio: "
        'distillation loss over detection loss in the last epoch, seed '
        f'{seeds[0]}. Time: of the last stage, relative to the student '
        'trained on alone (median over seeds); all arms have the same number '
        f'of epochs, but not the same time. {adapters}The weight is from a '
        'pilot of direct distillation; the other arms had no pilot.\n\n')
    text += cells.table(
        ['', 'AP by seed', 'mean', 'minus trained on alone', 'minus direct',
         'distill_ratio', 'time'], rows)
    groups = {ARMS[arm].replace(' from the', '\nfrom the'):
              [by_seed[s] for s in seeds] for arm, by_seed in aps.items()}
    return (f'{text}\n{_arm_differences(aps, seeds)}\n'
            f'![AP by arm](results/{file})\n'), {
        file: points(groups, 'box AP', 'one seed', paired=True)}


def _arm_rows(evidence: Evidence, runs: dict[str, dict[int, Run]],
              aps: dict[str, Values]) -> list[list[str]]:
    rows = []
    for arm, values in aps.items():
        name = ARMS[arm]
        if arm in ('direct', 'progression'):
            order = cells.path(['+'.join(t) for t in evidence.arms[arm]])
            name += f' ({order})'
        differences = [
            cells.difference(values, aps[other]) if arm != other else ''
            for other in ('alone', 'direct')]
        times = [run['minutes'] / runs['alone'][seed]['minutes']
                 for seed, run in runs[arm].items()]
        rows.append([name, cells.by_seed(values), cells.mean(values),
                     *differences, cells.ratio(runs[arm][min(values)]),
                     f'{np.median(times):.1f}'])
    return rows


def _arm_differences(aps: dict[str, Values], seeds: list[int]) -> str:
    text = ''
    for one, other in (
            ('progression', 'direct'), ('progression', 'alone'),
            ('direct', 'alone'), ('progression', 'together'),
            ('together', 'alone')):
        if one in aps and other in aps:
            text += (f'- {ARMS[one]} against {ARMS[other]}: '
                     f'{cells.difference(aps[one], aps[other])}\n')
    if len(seeds) > 2 and 'progression' in aps:
        spread = float(np.std([aps['progression'][s] - aps['direct'][s]
                               for s in seeds], ddof=1))
        text += (
            '\nThe standard deviation of a paired difference (progression '
            f'minus direct) was {spread:.2f} AP, where {ASSUMED_DEVIATION} '
            f'was assumed. With the measured deviation, {len(seeds)} seeds '
            'detect differences of '
            f'{smallest_difference(len(seeds), spread):.1f} AP and more.\n')
    return text
