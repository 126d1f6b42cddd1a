"""The page's section about sequences of teachers."""
import csv
import io
import math
from collections import defaultdict
from itertools import permutations
from statistics import fmean
from typing import Iterator, Mapping, Sequence

import numpy as np

from mtpd.order.baselines import compare_orders

from ..design import ADAPTED, GENTLE, SHORT, Changes
from ..predictors import choices_right
from ..results import Evidence, Order, complete_seeds
from ..statistics import f_chance, noise_of_orders
from . import cells
from .cells import Results, Row, Section, Values
from .plots import points

VARIANTS: Mapping[str, Changes] = {
    '': (), 'a fifth of the weight': GENTLE, 'with adapters': ADAPTED}
"""What was changed in all stages -> the changes."""


def orders(results: Results) -> Section:
    """All sequences of one seed by AP, with the ranks of the rules' orders;
    the sequences of two teachers over seeds."""
    results = {name: evidence for name, evidence in results.items()
               if evidence.costs is not None and evidence.aps([]).get(0)
               and evidence.short_aps().get(0)}
    if not results:
        return '', {}
    text = (
        f'Every sequence of the teachers, {SHORT} epochs each, with a linear '
        'decay of the learning rate, seed 0:\n\n' + cells.grouped([
            'teachers', 'sequences', 'best', 'median', 'worst',
            'alone, as long', 'above that'],
            {_about(evidence): _lengths(evidence)
             for evidence in results.values()})
        + RULES)
    spread = cells.by_dataset(results, [
        'teachers', 'seeds', 'noise', 'spread', 'lowest mean',
        'highest mean', 'p', 'rank of the order found', 'right'], spreads)
    if spread:
        text += SPREAD + spread
    files = {f'{name}_orders.svg': _plot(evidence)
             for name, evidence in results.items()}
    files['rules.csv'] = _as_csv(
        ['group', 'order', 'chosen by', 'AP', 'rank'],
        {name: ranks(evidence) for name, evidence in results.items()})
    sequences = dict(_sequences_of_two(results))
    if sequences:
        text += SEQUENCES
        files['sequences_of_two.csv'] = _as_csv([
            'group', 'last', 'first', 'cost', 'mean AP', 'minus alone',
            'minus its reverse', 'distill_ratio', 'minus unchanged'],
            sequences)
    return text + cells.figure(results, 'AP by length', '{}_orders.svg'), files


def _as_csv(columns: Sequence[str], groups: Mapping[str, list[Row]]) -> str:
    """The rows of all groups, one a line."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(columns)
    for group, rows in groups.items():
        for row in rows:
            writer.writerow([group, *(
                str(cell).replace('**', '') for cell in row)])
    return file.getvalue()


RULES = '''
[rules.csv](results/rules.csv) has the orders that the rules choose for each
maximum of teachers, with their ranks.
'''
SPREAD = f'''
Do sequences differ by more than seeds do? **Noise** is how far one sequence
varies between seeds (standard deviation without the means of seed and
sequence), **spread** how far the sequences' means vary, p of an F test of the
two; above 0.05 ranks mean nothing. Longer sequences are tested with the noise
of 2 teachers. **Right** is how often the better of two predecessors has the
smaller cost (p in brackets). A fifth of the weight
({dict(GENTLE)["distill.loss_weight"]}) keeps distillation below detection.
Adapters are `adapter='conv'`; equal channels have none by default.

'''
SEQUENCES = '''
[sequences_of_two.csv](results/sequences_of_two.csv) has all sequences of two
teachers, by the last one, then by cost.
'''


def _about(evidence: Evidence) -> str:
    """The data set, and how much of it was run."""
    first, count = evidence.short_aps()[0], len(evidence.teachers)
    total = sum(math.perm(count, length + 1) for length in range(count))
    return (f'{evidence.dataset}, starting at {evidence.aps([])[0]:.1f} AP, '
            f'{len(first)} of {total} sequences')


def _plot(evidence: Evidence) -> str:
    first = evidence.short_aps()[0]
    lengths = sorted({len(order) for order in first})
    return points(
        {cells.plural(length, 'teacher'): list(
            _of_length(first, length).values()) for length in lengths},
        'box AP', 'one sequence',
        beside=[evidence.short_alone(length).get(0, math.nan)
                for length in lengths])


def _of_length(aps: Mapping[Order, float],
               length: int) -> dict[Order, float]:
    return {order: ap for order, ap in aps.items() if len(order) == length}


def _lengths(evidence: Evidence) -> list[Row]:
    """Best, median and worst sequence of each length."""
    first = evidence.short_aps()[0]
    rows: list[Row] = []
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
    return rows


def ranks(evidence: Evidence) -> list[Row]:
    """The orders of the rules for every maximum number of teachers, each
    order once."""
    first = evidence.short_aps()[0]
    chosen: dict[Order, dict[str, list[int]]] = defaultdict(
        lambda: defaultdict(list))
    count = len(evidence.teachers)
    for maximum in range(1, count + 1):
        for row in compare_orders(evidence.adaptation, evidence.student,
                                  evidence.costs['aps'], maximum):
            chosen[row.teachers][row.name].append(maximum)
    rows: list[Row] = []
    for order in sorted(chosen, key=len):
        by_maxima: dict[str, list[str]] = defaultdict(list)
        for rule, maxima in chosen[order].items():
            text = 'any' if len(maxima) == count > 1 \
                else ', '.join(map(str, maxima))
            by_maxima[text].append(rule)
        rules = '; '.join(f'{", ".join(names)} ({text})'
                          for text, names in by_maxima.items())
        rank = ['', '']
        if order in first:
            aps = list(_of_length(first, len(order)).values())
            rank = [f'{first[order]:.1f}', cells.rank(first[order], aps)]
        rows.append([cells.path(order), rules, *rank])
    return rows


def _complete(evidence: Evidence, length: int, changes: Changes
              ) -> tuple[list[Order], list[int]]:
    """The sequences of a length, and the seeds that have them all; of
    unchanged stages those that seed 0 has, else those that any has."""
    by_seed = evidence.short_aps(changes)
    found = [by_seed[0]] if not changes else by_seed.values()
    sequences = sorted({order for aps in found for order in aps
                        if len(order) == length})
    seeds = complete_seeds(by_seed, sequences)
    return sequences, seeds if len(sequences) > 1 < len(seeds) else []


def spreads(evidence: Evidence) -> list[Row]:
    """Whether sequences differ by more than one sequence's seeds."""
    rows: list[Row] = []
    for length, (name, changes) in [
            (1, ('', ())), *((2, one) for one in VARIANTS.items())]:
        sequences, seeds = _complete(evidence, length, changes)
        if seeds:
            rows.append([
                ', '.join(filter(None, (str(length), name))),
                *_spread(evidence, sequences, seeds, changes)])
    return rows + _spreads_of_longer(evidence)


def _spread(evidence: Evidence, sequences: Sequence[Order],
            seeds: Sequence[int], changes: Changes) -> Row:
    """Cells of :func:`spreads` for sequences that these seeds have."""
    by_seed = evidence.short_aps(changes)
    table = [[by_seed[s][order] for order in sequences] for s in seeds]
    noise, chance = noise_of_orders(table)
    means = {order: fmean(aps) for order, aps in zip(sequences, zip(*table))}
    ends = (min(reversed(means), key=means.__getitem__),
            max(means, key=means.__getitem__))
    worst, best = (f'{means[order]:.1f} ({cells.path(order)})'
                   for order in ends)
    pair, rank, right = tuple(evidence.pair), '', ''
    if len(sequences[0]) == 2:
        worst, best = (f'{means[order]:.1f}' for order in ends)
        if pair in means:
            rank = cells.rank(means[pair], list(means.values()))
        share, by_chance = choices_right(evidence, 2, 'cost', -1, changes)
        if not math.isnan(share):
            right = f'{share:.0%} ({cells.bare_chance(by_chance)})'
    return [len(seeds), f'{noise:.2f}',
            f'{np.std(list(means.values()), ddof=1):.2f}', worst, best,
            cells.bare_chance(chance), rank, right]


def _spreads_of_longer(evidence: Evidence) -> list[Row]:
    """Cells of :func:`spreads` for sequences that only seed 0 has."""
    pairs, seeds = _complete(evidence, 2, ())
    if not seeds:
        return []
    by_seed = evidence.short_aps()
    noise, _ = noise_of_orders(
        [[by_seed[s][order] for order in pairs] for s in seeds])
    freedom = (len(seeds) - 1) * (len(pairs) - 1)
    rows: list[Row] = []
    for length in range(3, max(map(len, by_seed[0])) + 1):
        aps = list(_of_length(by_seed[0], length).values())
        if len(aps) > 1:
            ratio = float(np.var(aps, ddof=1)) / noise**2 if noise \
                else math.inf
            chance = f_chance(ratio, len(aps) - 1, freedom)
            rows.append([length, 1, '',
                         f'{np.std(aps, ddof=1):.2f}', '', '',
                         cells.bare_chance(chance), '', ''])
    return rows


def _sequences_of_two(results: Results) -> Iterator[tuple[str, list[Row]]]:
    """Group -> its rows."""
    for dataset, evidence in results.items():
        for name, changes in VARIANTS.items():
            sequences, seeds = _complete(evidence, 2, changes)
            if seeds:
                by_seed = evidence.short_aps(changes)
                aps = {order: {s: by_seed[s][order] for s in seeds}
                       for order in sequences}
                yield ', '.join(filter(None, (dataset, name))), [
                    *_sequence_rows(evidence, aps, changes),
                    *_means_and_control(evidence, aps)]


def _sequence_rows(evidence: Evidence, aps: Mapping[Order, Values],
                   changes: Changes) -> Iterator[Row]:
    """One for each sequence of two.

    Args:
        evidence: Of one data set.
        aps: Sequence -> seed -> AP, of the same seeds.
        changes: Of the stages.
    """
    runs, unchanged = evidence.short_runs(changes), evidence.short_aps()
    alone = evidence.short_alone(2)
    costs = {order: evidence.adaptation.cost(*order) for order in aps}
    for order in sorted(aps, key=lambda order: (order[1], costs[order])):
        values, reverse = aps[order], order[::-1]
        same = {s: unchanged[s][order] for s in values
                if changes and order in unchanged.get(s, {})}
        ratio = fmean(runs[s][order]['last_epoch']['distill_ratio']
                      for s in values)
        yield [order[1], order[0],
               '' if changes else f'{costs[order]:.3g}',
               cells.mean(values), cells.difference(values, alone),
               cells.difference(values, aps[reverse])
               if order < reverse and reverse in aps else '',
               cells.number(ratio, '.2f'), cells.difference(values, same)]


def _means_and_control(evidence: Evidence, aps: Mapping[Order, Values]
                       ) -> Iterator[Row]:
    """The mean of all sequences, and training on alone, of the same seeds."""
    seeds = set.union(*map(set, aps.values()))
    alone = {s: ap for s, ap in evidence.short_alone(2).items() if s in seeds}
    if alone:
        every = {s: fmean(values[s] for values in aps.values())
                 for s in alone}
        for name, values in (('all of them', every),
                             ('alone', alone)):
            yield [name, '', '', cells.mean(values),
                   cells.difference(values, alone) if values is every else '',
                   '', '', '']


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
