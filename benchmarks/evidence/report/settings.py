"""The page's sections about mechanisms, gaps, explanations and settings."""
import json
from typing import Iterable, Mapping

import numpy as np

from ..design import (CALIBRATION, EPOCHS, MECHANISMS, SHARE, at_scale,
                      with_mechanism)
from ..results import Evidence, aps_of, full_stage
from ..statistics import noise_of_orders
from . import cells
from .cells import Results, Row, Section, Values
from .shares import shares


def mechanisms(results: Results) -> Section:
    """Direct and progressive, by mechanism: with equal gradients, and with
    the weights that they have by default."""
    groups: dict[str, list[Row]] = {}
    spreads = ''
    for dataset, evidence in results.items():
        for equal, what in ((True, 'equal gradients'),
                            (False, 'default weights')):
            aps: dict[str, dict[str, Values]] = {}
            rows = [[name, *row] for name in MECHANISMS if len(
                evidence.arms) > 1 and (row := _mechanism_row(
                    evidence, name, equal, aps))]
            if rows:
                group = f'{dataset}, {what}'
                groups[group] = rows
                spreads += _spread_of_mechanisms(group, aps)
    if not groups:
        return '', {}
    return MECHANISM_GROUPS + cells.grouped([
        '', 'direct', 'progression', 'progression minus direct',
        'direct minus alone', 'progression minus alone',
        'distill_ratio of both'], groups) + spreads + cells.not_run(
            dataset for dataset in results
            if not any(group.startswith(f'{dataset},') for group in groups)
        ), {}


MECHANISM_GROUPS = f'''Equal gradients are
`loss_weight=dict(share={SHARE}, iterations={CALIBRATION})`, found once then;
now it follows the gradients. Default weights were published for larger maps.

'''


def _mechanism_row(evidence: Evidence, name: str, equal: bool,
                   aps: dict[str, dict[str, Values]]) -> list[str]:
    """Cells of one mechanism, whose APs are added to ``aps``; none if it was
    not run."""
    arms = evidence.arms
    runs = {arm: evidence.runs_of(arms[arm], with_mechanism(name, equal))
            for arm in ('direct', 'progression') if arm in arms}
    seeds = sorted(set.intersection(*map(set, runs.values())))
    if not seeds:
        return []
    aps[name] = {arm: {s: by_seed[s]['AP'] for s in seeds}
                 for arm, by_seed in runs.items()}
    direct = aps[name]['direct']
    progression = aps[name].get('progression', {})
    alone = evidence.aps(arms['alone'])
    return [
        cells.by_seed(direct),
        cells.by_seed(progression) if progression else '',
        cells.difference(progression, direct),
        cells.difference(direct, alone),
        cells.difference(progression, alone),
        ', '.join(cells.ratio(by_seed[seeds[0]])
                  for by_seed in runs.values())]


def _spread_of_mechanisms(group: str,
                          aps: Mapping[str, Mapping[str, Values]]) -> str:
    """Whether mechanisms differ by more than one mechanism's seeds."""
    seeds = sorted(set.intersection(*(
        set(values) for arms in aps.values() for values in arms.values())))
    if len(aps) < 2 or len(seeds) < 2:
        return ''
    arms = list(next(iter(aps.values())))
    tables = [[[by_arm[arm][s] for by_arm in aps.values()] for s in seeds]
              for arm in arms]
    tests = [noise_of_orders(table) for table in tables]

    def listed(texts: Iterable[str]) -> str:
        return ' and '.join(texts)

    return (
        f'\n{group}, {listed(arms)}: the means of the mechanisms vary by '
        + listed(f'{np.std(np.mean(one, 0), ddof=1):.2f} AP' for one in tables)
        + ', one mechanism between seeds by '
        + listed(f'{noise:.2f} AP' for noise, _ in tests) + ' (F test, '
        + listed(cells.chance(chance) for _, chance in tests) + ').\n')


def gaps(results: Results) -> Section:
    """Larger gaps between student and teacher, with and without a step in
    between."""
    table = cells.by_dataset(results, [
        '', 'first', 'AP by seed', 'second', 'AP by seed',
        'second minus first'], _gap_rows)
    return ('No teacher was trained at the smaller scale.\n\n'
            f'{table}' if table else ''), {}


def _gap_rows(evidence: Evidence) -> list[Row]:
    if evidence.costs is None:
        return []
    best, arms = evidence.best, evidence.arms
    rising = aps_of(evidence.by_path.get(('mtpd', (
        full_stage((best,), at_scale(best, 1)), full_stage((best,)))), {}))
    compared = [
        ('transformer to CNN', 'swin > swin', evidence.aps([('swin',)] * 2),
         'resnext > swin', evidence.aps([('resnext',), ('swin',)])),
        ('resolution', f'{best} twice at its own scale',
         evidence.aps([(best,)] * 2),
         f"{best} at the student's scale, then at its own", rising)]
    small = {arm: evidence.aps(stages, student='small')
             for arm, stages in arms.items()}
    names = {arm: cells.path(['+'.join(names) for names in stages])
             for arm, stages in arms.items()} | {'alone': 'alone'}
    for one, other in (('alone', 'direct'), ('alone', 'progression'),
                       ('direct', 'progression')):
        if other in small:
            compared.append(('smaller student', names[one], small[one],
                             names[other], small[other]))
    return [[what, one, cells.by_seed(aps), other, cells.by_seed(other_aps),
             cells.difference(other_aps, aps)]
            for what, one, aps, other, other_aps in compared
            if set(aps) & set(other_aps)]


EXPLAINED = {
    'training detection loss': lambda side: side['training_loss'],
    'validation AP': lambda side: side['ap'],
    'sharpness, both moved alike': lambda side: side['sharpness']['common']}


def why(results: Results) -> Section:
    """Training loss, AP and sharpness with and without distillation."""
    table = cells.by_dataset(results, [
        '', 'alone', *(cell for arm in EXPLAINED_ARMS
                                  for cell in (arm, 'minus alone'))],
        _explained_rows)
    return ('The students of the main comparison, on the same 128 training '
            'images ([how](analysis.md)). The paper reports a higher loss, a '
            'higher AP and a lower sharpness after distillation. Means over '
            'the seeds; moved alike, the sharpness of alone depends on the '
            f'other student: first direct, then progression.\n\n{table}'
            if table else ''), {}


EXPLAINED_ARMS = 'direct', 'progression'


def _explained_rows(evidence: Evidence) -> list[Row]:
    """One for each of :data:`EXPLAINED`."""
    runs = {arm: {run['seed']: run['runs'] for run in evidence.explained
                  if run['arm'] == arm} for arm in EXPLAINED_ARMS}
    rows: list[Row] = []
    for name, value in EXPLAINED.items() if any(runs.values()) else ():
        form = '.1f' if 'AP' in name else '.4f'
        alone, cells_of_arms = [], []
        for sides_by_seed in runs.values():
            first, second = (
                {seed: value(sides[i])
                 for seed, sides in sides_by_seed.items()
                 if value(sides[i]) is not None} for i in (0, 1))
            shown = [f'{cells.average(side):{form}}' if side and form != '.1f'
                     else '' for side in (first, second)]
            cells_of_arms += [
                shown[0], cells.difference(first, second, form)]
            alone += filter(None, shown[1:])
        rows.append([name, '; '.join(dict.fromkeys(alone)), *cells_of_arms])
    return rows


def sweeps(results: Results) -> Section:
    """One stage with changed settings, and the number of teachers."""
    known = {name: one for name, one in results.items()
             if one.costs is not None}
    stages, numbers = (
        cells.by_dataset(known, columns, rows_of)
        for columns, rows_of in (
            (['', 'AP by seed', 'minus unchanged', 'minus alone',
              'distill_ratio'], _changed_stages),
            (['order', 'AP by seed', 'alone, as long', 'minus that',
              'direct, as long', 'minus that'], _numbers_of_teachers)))
    if stages:
        stages = (f'One stage of {EPOCHS} epochs taught by the best teacher. '
                  'With a share, the weight follows the gradients; `auto` '
                  'was half, found once in the first iterations.\n\n'
                  f'{stages}')
    if numbers:
        numbers = ('Other numbers of teachers, each with controls of as many '
                   f'epochs:\n\n{numbers}')
    return '\n'.join(filter(None, (stages, numbers, shares(known)))), {}


def _changed_stages(evidence: Evidence) -> list[Row]:
    """Cells of one stage as in the main comparison, and of the same with
    changed settings; none where nothing was changed."""
    unchanged = full_stage((evidence.best,))
    runs_by_changes = {unchanged[3]: evidence.runs_of([(evidence.best,)])}
    for (student, stages), runs in evidence.by_path.items():
        if student == 'mtpd' and len(stages) == 1 \
                and stages[0][:3] == unchanged[:3]:
            runs_by_changes[stages[0][3]] = runs
    alone = evidence.aps([()])
    rows = []
    for text, runs in runs_by_changes.items():
        changes = json.loads(text)
        if not {key for key, _ in changes} <= {
                'distill', 'distill.loss_weight', 'init_adapters', 'adapter',
                'distill.loss_weight.share'}:
            continue
        aps = aps_of(runs)
        # A share comes with the same mechanism, written anew; a mechanism
        # alone is another one.
        name = ', '.join(f'{key} {value}' for key, value in changes
                         if key != 'distill')
        if changes and not name:
            continue
        rows.append([
            name or 'unchanged', cells.by_seed(aps),
            cells.difference(aps, evidence.aps([(evidence.best,)]))
            if name else '', cells.difference(aps, alone),
            cells.ratio(runs[min(runs)]) if runs else ''])
    return [rows[0], *sorted(rows[1:])] if len(rows) > 1 else []


def _numbers_of_teachers(evidence: Evidence) -> list[Row]:
    """The orders found, from short to long, without that of the main
    comparison; none for fewer than three."""
    aps = {tuple(order): evidence.aps([(name,) for name in order])
           for order in evidence.costs['orders'].values()}
    if sum(map(bool, aps.values())) <= 2:
        return []
    rows: list[Row] = []
    for order, values in aps.items():
        alone, direct = (evidence.aps([names] * len(order))
                         for names in ((), (evidence.best,)))
        against_direct = [
            cells.by_seed(direct), cells.difference(values, direct)
        ] if len(order) > 1 else ['', '']
        if len(order) != 2:
            rows.append([
                cells.path(order), cells.by_seed(values),
                cells.by_seed(alone), cells.difference(values, alone),
                *against_direct])
    return rows
