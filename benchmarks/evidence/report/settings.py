"""The page's sections about mechanisms, gaps, explanations and settings."""
import json
import re
from typing import Mapping

import numpy as np

from ..design import (ARMS, CALIBRATION, EPOCHS, MECHANISMS, SHARE, at_scale,
                      with_mechanism)
from ..results import Evidence, aps_of, full_stage
from ..statistics import noise_of_orders
from . import cells
from .cells import Section, Values


def mechanisms(evidence: Evidence) -> Section:
    """Direct and progressive, by mechanism: with equal gradients, and with
    the weights that they have by default."""
    if len(evidence.arms) < 2:
        return '', {}
    text = ''
    for equal, remark in ((True, EQUAL_GRADIENTS), (False, DEFAULT_WEIGHTS)):
        rows: list[list[str]] = []
        aps: dict[str, dict[str, Values]] = {}
        for name in MECHANISMS:
            row = _mechanism_row(evidence, name, equal, aps)
            if row:
                rows.append([name, *row])
        if rows:
            text += remark + cells.table(
                ['', 'direct', 'progression', 'progression minus direct',
                 'direct minus trained on alone',
                 'progression minus trained on alone',
                 'distill_ratio of both'], rows) + _spread_of_mechanisms(aps)
    return ('### Mechanisms\n' + text if text else ''), {}


EQUAL_GRADIENTS = f'''
Equal gradients: `loss_weight=dict(share={SHARE}, iterations={CALIBRATION})`.
The first {CALIBRATION} iterations of a stage do not distil; they determine the
weight at which the mechanism's gradient at the student's maps is half of the
detection loss's. distill_ratio as above. In these runs MGD's generators, FGD's
blocks and random adapters started from the same weights in every seed; since
then they follow the run's seed.

'''
DEFAULT_WEIGHTS = '''
With their default weights, which were published for larger maps with more
channels: a weak result may be due to the weight.

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


def _spread_of_mechanisms(aps: Mapping[str, Mapping[str, Values]]) -> str:
    """Whether mechanisms differ by more than one mechanism's seeds."""
    seeds = sorted(set.intersection(*(
        set(values) for arms in aps.values() for values in arms.values())))
    if len(aps) < 2 or len(seeds) < 2:
        return ''
    text = ''
    for arm in next(iter(aps.values())):
        table = [[arms[arm][s] for arms in aps.values()] for s in seeds]
        noise, chance = noise_of_orders(table)
        text += (
            f'\n{arm.capitalize()}: the means of the mechanisms vary by '
            f'{np.std(np.mean(table, 0), ddof=1):.2f} AP; one mechanism '
            f'varies between seeds by {noise:.2f} AP (F test, '
            f'{cells.chance(chance)}).\n')
    return text


def gaps(evidence: Evidence) -> Section:
    """Larger gaps between student and teacher, with and without a step in
    between."""
    if evidence.costs is None:
        return '', {}
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
             for arm, stages in arms.items()} | {'alone': ARMS['alone']}
    for one, other in (('alone', 'direct'), ('alone', 'progression'),
                       ('direct', 'progression')):
        if other in small:
            compared.append(('smaller student', names[one], small[one],
                             names[other], small[other]))
    rows = [[what, one, cells.by_seed(aps), other, cells.by_seed(other_aps),
             cells.difference(other_aps, aps)]
            for what, one, aps, other, other_aps in compared
            if set(aps) & set(other_aps)]
    if not rows:
        return '', {}
    return ('### Crossing gaps\n\nA teacher at a smaller scale is the same '
            'detector, which was never trained at that scale.\n\n'
            + cells.table(['', 'first', 'AP by seed', 'second', 'AP by seed',
                           'second minus first'], rows)), {}


EXPLAINED = {
    'training detection loss': lambda side: side['training_loss'],
    'validation AP': lambda side: side['ap'],
    'sharpness, both moved alike': lambda side: side['sharpness']['common'],
    "sharpness, each student's own norms":
        lambda side: side['sharpness']['own']}


def why(evidence: Evidence) -> Section:
    """Training loss, AP and sharpness with and without distillation."""
    rows = []
    for arm in ('direct', 'progression'):
        runs = {run['seed']: run['runs'] for run in evidence.explained
                if run['arm'] == arm}
        for name, value in EXPLAINED.items() if runs else ():
            first, second = (
                {seed: value(sides[i]) for seed, sides in runs.items()
                 if value(sides[i]) is not None} for i in (0, 1))
            form = '.1f' if 'AP' in name else '.4f'
            rows.append([arm, name, cells.by_seed(first, form),
                         cells.by_seed(second, form),
                         cells.difference(first, second, form)])
    if not rows:
        return '', {}
    return ('### Why\n\nThe students at the end of the main comparison, on '
            'the same 128 training images ([how](analysis.md)). The paper '
            'reports a higher loss, a higher AP and a lower sharpness after '
            'distillation.\n\n' + cells.table(
                ['', '', 'distilled', 'trained on alone', 'difference'],
                rows)), {}


def sweeps(evidence: Evidence) -> Section:
    """One stage with changed settings, and the number of teachers."""
    if evidence.costs is None:
        return '', {}
    rows = _changed_stages(evidence)
    text = '' if len(rows) < 2 else (
        f'One stage of {EPOCHS} epochs taught by {evidence.best}. '
        "`'auto'` finds the weight in the first iterations, without "
        'distillation. distill_ratio: in the last epoch, of the first '
        'seed.\n\n' + cells.table(
            ['', 'AP by seed', 'minus unchanged', 'minus trained on alone',
             'distill_ratio'],
            [rows[0], *sorted(rows[1:])]))
    numbers = _numbers_of_teachers(evidence)
    if numbers:
        text += '\n' * bool(text) + numbers
    missing = []
    if not any(re.match(r'distill.loss_weight [\d.]+$', row[0])
               for row in rows):
        missing.append('the weight')
    if not numbers:
        missing.append('the number of teachers')
    if text and missing:
        text += f'\nNot run: {", ".join(missing)}.\n'
    return ('### Sweeps\n\n' + text if text else ''), {}


def _changed_stages(evidence: Evidence) -> list[list[str]]:
    """Cells of one stage as in the main comparison, and of the same with
    changed settings."""
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
                'distill.loss_weight', 'init_adapters', 'adapter'}:
            continue
        aps = aps_of(runs)
        name = ', '.join(f'{key} {value}' for key, value in changes)
        rows.append([
            name or 'unchanged, as in the main comparison',
            cells.by_seed(aps),
            cells.difference(aps, evidence.aps([(evidence.best,)]))
            if name else '', cells.difference(aps, alone),
            cells.ratio(runs[min(runs)]) if runs else ''])
    return rows


def _numbers_of_teachers(evidence: Evidence) -> str:
    """The orders found, from short to long; empty for fewer than three."""
    aps = {tuple(order): evidence.aps([(name,) for name in order])
           for order in evidence.costs['orders'].values()}
    if sum(map(bool, aps.values())) <= 2:
        return ''
    rows = []
    for order, values in aps.items():
        alone, direct = (evidence.aps([names] * len(order))
                         for names in ((), (evidence.best,)))
        against_direct = [
            cells.by_seed(direct), cells.difference(values, direct)
        ] if len(order) > 1 else ['', '']
        rows.append([cells.path(order), cells.by_seed(values),
                     cells.by_seed(alone), cells.difference(values, alone),
                     *against_direct])
    return ('The number of teachers, and with it the number of epochs: each '
            'line has its own controls.\n\n' + cells.table(
                ['order', 'AP by seed', 'trained on alone, as long',
                 'minus that', 'direct from the best, as long', 'minus that'],
                rows))
