"""What might tell how much a teacher helps, and how often it does."""
import math
from collections import defaultdict
from itertools import combinations, permutations
from statistics import fmean

from .design import Changes
from .results import Evidence
from .statistics import Pair, PairMeasure, concordance, relabelled

PREDICTORS = {
    'cost': 'adaptation cost',
    'share': "cost over the teacher's variance",
    'similarity': 'kernel similarity (CKA)',
    'gap': 'AP gap to the teacher'}


def predictors_of(evidence: Evidence, source: str,
                  target: str) -> dict[str, float]:
    """Each of :data:`PREDICTORS` of a teacher after another detector."""
    aps = {evidence.student: evidence.costs['student_ap'],
           **evidence.costs['aps']}
    return {
        'cost': evidence.adaptation.cost(source, target),
        'share': evidence.adaptation.normalised_cost(source, target),
        'similarity': evidence.costs['similarity'][f'{source}>{target}'],
        'gap': aps[target] - aps[source]}


def pair_values(evidence: Evidence, key: str) -> dict[Pair, float]:
    """One of :data:`PREDICTORS` for all pairs of teachers."""
    return {pair: predictors_of(evidence, *pair)[key]
            for pair in permutations(evidence.teachers, 2)}


def later_gains(evidence: Evidence) -> dict[Pair, float]:
    """(Teacher before, teacher) -> mean AP after the teacher's short stage,
    minus the mean of its seed and number of stages."""
    gains: dict[Pair, list[float]] = defaultdict(list)
    for aps in evidence.short_aps().values():
        for length in {len(order) for order in aps if len(order) > 1}:
            as_long = {order: ap for order, ap in aps.items()
                       if len(order) == length}
            mean = fmean(as_long.values())
            for order, ap in as_long.items():
                gains[order[-2], order[-1]].append(ap - mean)
    return {pair: fmean(values) for pair, values in gains.items()}


def choices_right(evidence: Evidence, length: int, key: str, sign: int,
                  changes: Changes = ()) -> tuple[float, float]:
    """How often a predictor prefers the better predecessor, and the chance of
    a share as far from a half; nan and 1 where nothing can be compared.

    Args:
        evidence: Of one data set.
        length: Teachers in a sequence.
        key: One of :data:`PREDICTORS`.
        sign: -1 where the predictor prefers the smaller.
        changes: Of the stages.
    """
    if evidence.costs is None:
        return math.nan, 1.
    choices = predecessors(evidence, length, changes)
    if not choices:
        return math.nan, 1.

    def share(values: PairMeasure) -> float:
        groups = []
        for (one, other, after), pairs in choices.items():
            for ap, other_ap in pairs:
                groups.append([(sign * values[one, after], ap),
                               (sign * values[other, after], other_ap)])
        return concordance(groups)

    return relabelled(pair_values(evidence, key), share, .5)


def predecessors(evidence: Evidence, length: int, changes: Changes = ()
                 ) -> dict[tuple[str, str, str], list[tuple[float, float]]]:
    """(One candidate, another, the teacher after them) -> the APs of the two
    sequences that differ in the candidate alone.

    Args:
        evidence: Of one data set.
        length: Teachers in a sequence.
        changes: Of the stages.
    """
    compared: dict[tuple[str, str, str], list] = defaultdict(list)
    for aps in evidence.short_aps(changes).values():
        ends: dict[tuple, list] = defaultdict(list)
        for order, ap in sorted(aps.items()):
            if len(order) == length:
                ends[order[1:]].append((order[0], ap))
        for rest, candidates in ends.items():
            for (one, ap), (other, other_ap) in combinations(candidates, 2):
                compared[one, other, rest[0]].append((ap, other_ap))
    return dict(compared)
