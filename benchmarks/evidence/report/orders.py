"""The page's section about sequences of teachers."""
import math
from collections import defaultdict
from itertools import permutations
from statistics import fmean
from typing import Mapping, Sequence

import numpy as np

from mtpd.order.baselines import compare_orders

from ..design import ADAPTED, GENTLE, SHORT, Changes
from ..predictors import choices_right
from ..results import Evidence, Order, complete_seeds
from ..statistics import f_chance, noise_of_orders
from . import cells
from .cells import Section, Values
from .plots import points


def orders(evidence: Evidence) -> Section:
    """All sequences of one seed by AP, with the ranks of the rules' orders;
    the sequences of two teachers over seeds."""
    first = evidence.short_aps().get(0)
    start = evidence.aps([]).get(0)
    if not first or evidence.costs is None or not start:
        return '', {}
    count = len(evidence.teachers)
    total = sum(math.perm(count, length + 1) for length in range(count))
    groups, alone = {}, []
    for length in sorted({len(order) for order in first}):
        groups[cells.plural(length, 'teacher')] = list(
            _of_length(first, length).values())
        alone.append(evidence.short_alone(length).get(0, math.nan))
    file = f'{evidence.dataset}_orders.svg'
    return (
        f'### Orders\n\nEvery sequence of 1 to {count} teachers, {SHORT} '
        'epochs each, with a linear decay of the learning rate; seed 0, '
        f'starting at {start:.1f} AP. {len(first)} of {total} sequences were '
        'run.\n\n' + _table_of_lengths(evidence, first)
        + '\nThe orders that the rules choose (in brackets: for which maximum '
        'number of teachers), and their ranks among the sequences of the same '
        'length, 1 is best; seed 0.\n\n'
        + ranks(evidence, first) + _between_seeds(evidence)
        + _with_changes(
            evidence, GENTLE, 'With a fifth of the weight ('
            f'{dict(GENTLE)["distill.loss_weight"]}), so that distillation '
            'does not outweigh detection')
        + _with_changes(
            evidence, ADAPTED, 'Student and teachers have equal channels '
            'here and therefore no adapter: their maps are compared as they '
            'are. With a trained 1x1 convolution in between '
            "(`adapter='conv'`)")
        + f'\n![AP by length](results/{file})\n'), {
            file: points(groups, 'box AP', 'one sequence', beside=alone)}


def _of_length(aps: Mapping[Order, float],
               length: int) -> dict[Order, float]:
    return {order: ap for order, ap in aps.items() if len(order) == length}


def _table_of_lengths(evidence: Evidence,
                      first: Mapping[Order, float]) -> str:
    """Best, median and worst sequence of each length."""
    rows = []
    for length in sorted({len(order) for order in first}):
        aps = _of_length(first, length)
        ranked = sorted(aps, key=lambda order: -aps[order])
        best, worst = (f'{aps[order]:.1f} ({cells.path(order)})'
                       for order in (ranked[0], ranked[-1]))
        alone = evidence.short_alone(length).get(0)
        controls = ['', ''] if alone is None else [
            f'{alone:.1f}', sum(ap > alone for ap in aps.values())]
        rows.append([length, len(aps), best,
                     f'{np.median(list(aps.values())):.1f}', worst,
                     *controls])
    return cells.table(
        ['teachers', 'sequences', 'best', 'median', 'worst',
         'trained on alone, as long', 'sequences above that'], rows)


def ranks(evidence: Evidence, first: Mapping[Order, float]) -> str:
    """The orders of the rules for every maximum number of teachers, each
    order once."""
    chosen: dict[Order, dict[str, list[str]]] = defaultdict(
        lambda: defaultdict(list))
    for maximum in range(1, len(evidence.teachers) + 1):
        for row in compare_orders(evidence.adaptation, evidence.student,
                                  evidence.costs['aps'], maximum):
            chosen[row.teachers][row.name].append(str(maximum))
    rows = []
    for order in sorted(chosen, key=len):
        rules = '; '.join(f'{rule} ({", ".join(maxima)})'
                          for rule, maxima in chosen[order].items())
        rows.append([cells.path(order), rules, '', ''])
        if order in first:
            aps = list(_of_length(first, len(order)).values())
            rows[-1][2:] = [f'{first[order]:.1f}',
                            cells.rank(first[order], aps)]
    return cells.table(['order', 'chosen by', 'AP', 'rank'], rows)


def _between_seeds(evidence: Evidence) -> str:
    """Whether orders differ by more than one order's seeds."""
    text = ''
    by_seed = evidence.short_aps()
    for length in (1, 2):
        sequences = sorted(_of_length(by_seed[0], length))
        seeds = complete_seeds(by_seed, sequences)
        if len(seeds) < 2 or len(sequences) < 2:
            continue
        table = [[by_seed[s][order] for order in sequences] for s in seeds]
        noise, _ = noise_of_orders(table)
        text += (f'\n{cells.plural(length, "teacher")}, '
                 + spread_of(sequences, table))
        if length == 2:
            text += _sequences_of_two(evidence, seeds)
            freedom = (len(seeds) - 1) * (len(sequences) - 1)
            text += _longer_sequences(by_seed[0], noise, freedom)
    return text


def _longer_sequences(first: Mapping[Order, float], noise: float,
                      freedom: int) -> str:
    """Whether those of one seed differ by more than noise.

    Args:
        first: Of seed 0.
        noise: Standard deviation between seeds, of sequences of two.
        freedom: Its degrees of freedom.
    """
    text = ''
    for length in range(3, max(map(len, first)) + 1):
        aps = list(_of_length(first, length).values())
        if len(aps) < 2:
            continue
        ratio = float(np.var(aps, ddof=1)) / noise**2 if noise else math.inf
        chance = f_chance(ratio, len(aps) - 1, freedom)
        more = 'more than' if chance < .05 else 'not more than'
        text += (
            f'\nThe {len(aps)} sequences of {length} teachers, seed 0, vary '
            f'by {np.std(aps, ddof=1):.2f} AP: {more} this noise explains '
            f'(F test with the noise of 2 teachers, {cells.chance(chance)}'
            ').\n')
    return text


def spread_of(sequences: Sequence[Order],
              table: Sequence[Sequence[float]]) -> str:
    """How far seeds and sequences differ, as a sentence.

    Args:
        sequences: At least two.
        table: AP, (seeds, sequences).
    """
    noise, chance = noise_of_orders(table)
    means = {order: fmean(aps) for order, aps in zip(sequences, zip(*table))}
    ranked = sorted(means, key=lambda order: -means[order])
    worst, best = (f'{means[order]:.1f} ({cells.path(order)})'
                   for order in (ranked[-1], ranked[0]))
    verdict = 'The sequences differ' if chance < .05 else \
        'Within noise: their ranks mean nothing'
    return (
        f'{len(table)} seeds, all {len(means)} sequences: one sequence varies '
        f'between seeds by {noise:.2f} AP (standard deviation after removing '
        'the means of seed and sequence); the means of the sequences over '
        f'seeds vary by {np.std(list(means.values()), ddof=1):.2f} AP, from '
        f'{worst} to {best}. {verdict} (F test, {cells.chance(chance)}).\n')


def _sequences_of_two(evidence: Evidence, seeds: Sequence[int],
                      changes: Changes = ()) -> str:
    """All of them by their mean, and each against its reverse."""
    short_aps = evidence.short_aps(changes)
    aps = {order: {s: short_aps[s][order] for s in seeds}
           for order in _of_length(short_aps[seeds[0]], 2)}
    rows = []
    for order in sorted(aps):
        reverse = order[::-1]
        if order < reverse and reverse in aps:
            rows.append([cells.path(order),
                         cells.difference(aps[order], aps[reverse])])
    return ('\n' + _table_by_mean(evidence, aps, changes)
            + '\nThe same two teachers in both orders:\n\n'
            + cells.table(['', 'minus its reverse'], rows))


def _table_by_mean(evidence: Evidence, aps: Mapping[Order, Values],
                   changes: Changes) -> str:
    """Each sequence of two, beside training on alone; with changes, also
    beside the same sequence without them.

    Args:
        evidence: Of one data set.
        aps: Sequence -> seed -> AP, of the same seeds.
        changes: Of the stages.
    """
    runs, unchanged = evidence.short_runs(changes), evidence.short_aps()
    seeds = set.union(*map(set, aps.values()))
    alone = {s: ap for s, ap in evidence.short_alone(2).items() if s in seeds}
    rows = []
    for order in sorted(aps, key=lambda order: -cells.average(aps[order])):
        values = aps[order]
        ratio = fmean(runs[s][order]['last_epoch']['distill_ratio']
                      for s in values)
        same = {s: unchanged[s][order] for s in values
                if order in unchanged.get(s, {})}
        rows.append([cells.path(order), cells.mean(values),
                     cells.by_seed(values), cells.difference(values, alone),
                     cells.number(ratio, '.2f'),
                     cells.difference(values, same)])
    if alone:
        every = {s: fmean(values[s] for values in aps.values())
                 for s in alone}
        rows += [['all of them', cells.mean(every), cells.by_seed(every),
                  cells.difference(every, alone), '', ''],
                 ['trained on alone', cells.mean(alone), cells.by_seed(alone),
                  '', '', '']]
    columns = ['sequence', 'mean AP', 'by seed', 'minus trained on alone',
               'distill_ratio at the end', 'minus the same without the change']
    if not changes:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return cells.table(columns, rows)


def _with_changes(evidence: Evidence, changes: Changes, what: str) -> str:
    """The sequences of two teachers with a change in all stages."""
    by_seed = evidence.short_aps(changes)
    sequences = sorted({order for aps in by_seed.values() for order in aps
                        if len(order) == 2})
    seeds = complete_seeds(by_seed, sequences)
    if len(seeds) < 2 or len(sequences) < 2:
        return ''
    table = [[by_seed[s][order] for order in sequences] for s in seeds]
    text = f'\n{what}: 2 teachers, {spread_of(sequences, table)}'
    means = {order: fmean(aps) for order, aps in zip(sequences, zip(*table))}
    order = tuple(evidence.pair)
    if order in means:
        place = cells.rank(means[order], list(means.values()))
        text += f'The order found ranks {place} by its mean.\n'
    share, chance = choices_right(evidence, 2, 'cost', -1, changes)
    if not math.isnan(share):
        text += ('Of two predecessors, the one with the smaller cost is '
                 f'better in {share:.0%} of comparisons '
                 f'({cells.chance(chance)}; see below).\n')
    return text + _sequences_of_two(evidence, seeds, changes)


def differ(evidence: Evidence, changes: Changes) -> str:
    """Whether the sequences of two teachers do; empty if it is not known."""
    if evidence.costs is None:
        return ''
    by_seed = evidence.short_aps(changes)
    sequences = list(permutations(evidence.teachers, 2))
    seeds = complete_seeds(by_seed, sequences)
    if len(seeds) < 2 or len(sequences) < 2:
        return ''
    _, chance = noise_of_orders(
        [[by_seed[s][order] for order in sequences] for s in seeds])
    return f'{"yes" if chance < .05 else "no"}, {cells.chance(chance)}'
