"""The page's section about whether costs predict how much a teacher helps."""
import math
from itertools import permutations
from statistics import fmean

from ..design import EPOCHS, SHORT
from ..predictors import (PREDICTORS, choices_right, later_gains, pair_values,
                          predecessors, predictors_of)
from ..results import Evidence
from ..statistics import (PairMeasure, permutation_chance, rank_correlation,
                          relabelled, within_targets)
from . import cells
from .cells import Results, Row, Section

SIGNS = {'cost': -1, 'similarity': 1, 'gap': -1}
"""Measures that prefer a candidate -> -1 where they prefer the smaller."""


def predictions(results: Results) -> Section:
    """Which properties of a teacher correlate with the AP after it."""
    table = cells.by_dataset(results, [
        'measure', 'from the student', 'from another teacher',
        'right, 2 teachers', 'right, 3 teachers'], _rows)
    if not table:
        return '', {}
    known = [one for one in results.values() if one.costs is not None]
    counts = [len(one.teachers) for one in known]
    smallest = 2 / math.factorial(max(counts))
    pairs = cells.numbers(n * (n - 1) for n in counts)
    names = cells.numbers(map(math.factorial, counts))
    seeds = cells.numbers(len(_seeds(one)) for one in known if _seeds(one))
    first = (
        f'- **From the student** (of seed 0): stages of {EPOCHS} epochs, '
        f'{seeds} seeds. p is of a random ranking; with {max(counts)} '
        f'teachers it is never below {smallest:.2f}.\n') if seeds else ''
    return (
        'Costs into different teachers can be compared only after division '
        "by the teacher's variance. The first columns are Spearman's rank "
        'correlations with the AP after a stage; brackets hold p.\n\n'
        f'{first}'
        f'- **From another teacher**: stages of {SHORT} epochs, {pairs} '
        'pairs (previous teacher, teacher), means subtracted. The method '
        'expects a negative value for the cost. p: the teachers swap names '
        f'(all {names} ways).\n'
        '- **Right**: how often is the better of two predecessors the one of '
        'smaller cost, larger similarity or smaller gap? With 3 teachers, '
        'seed 0 only.\n\n'
        + table), {}


def _rows(evidence: Evidence) -> list[Row]:
    """One for each measure; none where nothing was run."""
    if evidence.costs is None:
        return []
    columns = [_from_the_student(evidence), _from_another_teacher(evidence),
               _right(evidence, 2), _right(evidence, 3)]
    return [[name, *(column.get(key, '') for column in columns)]
            for key, name in PREDICTORS.items()] if any(columns) else []


def _seeds(evidence: Evidence) -> set[int]:
    """Those with a stage of full length with each teacher."""
    return set.intersection(*(set(evidence.aps([(name,)]))
                              for name in evidence.teachers))


def _from_the_student(evidence: Evidence) -> dict[str, str]:
    """The first stage with each teacher; by :data:`PREDICTORS`, as all
    below."""
    seeds = _seeds(evidence)
    if not seeds or len(evidence.teachers) < 3:
        return {}
    column = {}
    for key in PREDICTORS:
        pairs = [(predictors_of(evidence, evidence.student, name)[key],
                  fmean(evidence.aps([(name,)])[s] for s in seeds))
                 for name in evidence.teachers]
        column[key] = _with_chance(
            cells.number(rank_correlation(pairs), '+.2f'),
            permutation_chance(pairs))
    return column


def _from_another_teacher(evidence: Evidence) -> dict[str, str]:
    """Later stages, among those that end with the same teacher."""
    gains = later_gains(evidence)
    if set(gains) != set(permutations(evidence.teachers, 2)):
        return {}
    expected = within_targets(gains)

    def correlation(values: PairMeasure) -> float:
        return rank_correlation(list(zip(within_targets(values), expected)))

    column = {}
    for key in SIGNS:
        value, chance = relabelled(pair_values(evidence, key), correlation, 0)
        column[key] = _with_chance(cells.number(value, '+.2f'), chance)
    return column


def _right(evidence: Evidence, length: int) -> dict[str, str]:
    """How often a measure prefers the better of two predecessors."""
    column = {}
    count = sum(map(len, predecessors(evidence, length).values()))
    for key, sign in SIGNS.items():
        share, chance = choices_right(evidence, length, key, sign)
        if not math.isnan(share):
            column[key] = _with_chance(f'{share:.0%} of {count}', chance)
    return column


def _with_chance(text: str, chance: float) -> str:
    return f'{text} ({cells.bare_chance(chance)})' if text else ''
