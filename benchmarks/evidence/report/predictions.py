"""The page's section about whether costs predict how much a teacher helps."""
import math
from itertools import permutations
from statistics import fmean

from ..design import EPOCHS, SHORT
from ..predictors import (PREDICTORS, choices_right, later_gains, pair_values,
                          predecessors, predictors_of)
from ..results import Evidence, complete_seeds
from ..statistics import (PairMeasure, permutation_chance, rank_correlation,
                          relabelled, within_targets)
from . import cells
from .cells import Section


def predictions(evidence: Evidence) -> Section:
    """Which properties of a teacher correlate with the AP after it."""
    if evidence.costs is None:
        return '', {}
    text = _from_the_student(evidence) + _from_another_teacher(evidence) \
        + _choices(evidence)
    if not text:
        return '', {}
    return ('### Does the cost predict the AP?\n\nA cost is a mean squared '
            "distance in the units of the teacher's maps. Costs into the same "
            'teacher can be compared; costs into different teachers only '
            "after division by the teacher's variance.\n" + text), {}


def _from_the_student(evidence: Evidence) -> str:
    """The first stage with each teacher."""
    aps = {name: evidence.aps([(name,)]) for name in evidence.costs['aps']}
    seeds = set.intersection(*map(set, aps.values()))
    if not seeds or len(aps) < 3:
        return ''
    rows = []
    for key, name in PREDICTORS.items():
        pairs = [(predictors_of(evidence, evidence.student, teacher)[key],
                  fmean(by_seed[s] for s in seeds))
                 for teacher, by_seed in aps.items()]
        rows.append([name, cells.number(rank_correlation(pairs), '+.2f'),
                     f'{permutation_chance(pairs):.2f}'])
    smallest = 2 / math.factorial(len(aps))
    return (
        f'\n**From the student**: one stage of {EPOCHS} epochs with each '
        f'teacher, mean over {len(seeds)} seeds. The table shows the rank '
        'correlation (Spearman) with the AP after the stage; costs and '
        'similarities are from the student of seed 0. p: how often a random '
        f'ranking agrees or disagrees as much (with {len(aps)} teachers never '
        f'less than {smallest:.2f}, so nothing can be shown here).\n\n'
        + cells.table(['measure', 'correlation', 'p'], rows))


def _from_another_teacher(evidence: Evidence) -> str:
    """Later stages, among those that end with the same teacher."""
    gains = later_gains(evidence)
    if set(gains) != set(permutations(evidence.teachers, 2)):
        return ''
    expected = within_targets(gains)

    def correlation(values: PairMeasure) -> float:
        return rank_correlation(list(zip(within_targets(values), expected)))

    rows = []
    for key, name in PREDICTORS.items():
        if key != 'share':
            value, chance = relabelled(pair_values(evidence, key),
                                       correlation, 0)
            rows.append([name, cells.number(value, '+.2f'),
                         cells.chance(chance)])
    return (
        f'\n**From another teacher**: stages of {SHORT} epochs of the orders. '
        'The table shows the rank correlation of a measure with the AP after '
        f'the stage, over the {len(gains)} pairs (previous teacher, teacher). '
        'From both we subtract the mean over all previous teachers of the '
        'same teacher, and from the AP also the mean of its seed and number '
        'of stages. The method expects a negative correlation for the cost. '
        'p: how often the correlation is as far from 0 if the teachers swap '
        'their names, over all '
        f'{math.factorial(len(evidence.teachers))} relabellings.\n\n'
        + cells.table(['measure', 'correlation', 'p'], rows))


def _choices(evidence: Evidence) -> str:
    """How often a predictor prefers the better of two predecessors."""
    rows = []
    for length in range(2, len(evidence.teachers)):
        pairs = predecessors(evidence, length).values()
        for key, name, sign in (
                ('cost', 'smallest adaptation cost to the next', -1),
                ('similarity', 'largest kernel similarity (CKA)', 1),
                ('gap', 'highest AP', -1)):
            share, chance = choices_right(evidence, length, key, sign)
            if not math.isnan(share):
                rows.append([length, name, sum(map(len, pairs)),
                             f'{share:.0%}', cells.chance(chance)])
    if not rows:
        return ''
    return (
        '\n**The choice that the selection makes**: which of two candidates '
        'comes before the teachers that are already chosen? "Right" is the '
        'share of comparisons in which the student ends higher with the '
        'candidate that the measure prefers (a tie counts half): with two '
        'teachers over all seeds, with three on seed 0. p as above, of a '
        'share as far from a half.\n\n' + cells.table(
            ['teachers in all', 'preferred candidate', 'comparisons', 'right',
             'p'], rows) + _predecessors_by_cost(evidence))


def _predecessors_by_cost(evidence: Evidence) -> str:
    by_seed = evidence.short_aps()
    seeds = complete_seeds(by_seed, permutations(evidence.teachers, 2))
    if not seeds:
        return ''
    rows = []
    for last in evidence.teachers:
        costs = {first: evidence.adaptation.cost(first, last)
                 for first in evidence.teachers if first != last}
        row = [last]
        for first in sorted(costs, key=lambda name: costs[name]):
            ap = fmean(by_seed[s][first, last] for s in seeds)
            row.append(f'{first} ({costs[first]:.3g}): {ap:.1f}')
        rows.append(row)
    columns = ['last', 'smallest cost', *[''] * (len(rows[0]) - 3), 'largest']
    return (
        '\nTwo teachers: the first teachers for each last one, by increasing '
        'cost (in brackets), and the AP at the end, mean over '
        f'{len(seeds)} seeds.\n\n' + cells.table(columns, rows))
