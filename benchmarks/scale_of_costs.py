"""Which orders change when a teacher's maps are only louder.

    python benchmarks/scale_of_costs.py

prints the rows of docs/method.md: the rules for the order on the graph that
the paper publishes, as it is, and with the costs into one teacher times 16
(FCOS with maps 4 times as loud) or 1.21 (HTC, 1.1 times). In brackets: the
sum and the largest of the costs along the order.
"""
import argparse
from typing import Callable, Mapping, Sequence

from mtpd.order.baselines import (
    ascending_ap, forward_greedy, shortest_path, smallest_bottleneck)
from mtpd.order.selection import backward_greedy_selection

DRAWN = {('S', 'I'): .939, ('S', 'II'): .060, ('I', 'II'): .070,
         ('II', 'I'): 1.181, ('I', 'III'): .934, ('II', 'III'): 1.94,
         ('I', 'IV'): .963, ('II', 'IV'): 1.401, ('III', 'IV'): .89}
"""The published costs, (source, target) -> cost (arXiv 2308.09105)."""

NOT_DRAWN = 3.
"""For the costs that are only said to be larger; any number above 1.94 gives
the same table."""

AP = dict(I=1, II=2, III=3, IV=4)
"""Only which teacher is better than which counts."""

COLUMNS: tuple[dict[str, float], ...] = ({}, {'II': 4**2}, {'III': 1.1**2})
"""Target -> factor on all costs into it, by column."""

Cost = Callable[[str, str], float]


def orders(cost: Cost, ap: Mapping[str, float]) -> dict[str, Sequence[str]]:
    """Name of a rule -> the order that it chooses."""
    return {
        'Backward Greedy Selection':
            backward_greedy_selection(cost, 'S', ap).teachers,
        'shortest path': shortest_path(cost, 'S', ap),
        'smallest bottleneck': smallest_bottleneck(cost, 'S', ap),
        'forward greedy': forward_greedy(cost, 'S', ap),
        'ascending AP': ascending_ap(ap)}


def cells(factors: Mapping[str, float], not_drawn: float = NOT_DRAWN,
          ap: Mapping[str, float] = AP) -> dict[str, str]:
    """Name of a rule -> its order, with sum and largest cost."""
    def cost(source: str, target: str) -> float:
        published = DRAWN.get((source, target), not_drawn)
        return published * factors.get(target, 1)

    column = {}
    for name, order in orders(cost, ap).items():
        values = [cost(*pair) for pair in zip(('S', *order), order)]
        column[name] = (f'{" ".join(order)} '
                        f'({sum(values):.3f}; {max(values):.3f})')
    return column


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    columns = [cells(factors) for factors in COLUMNS]
    for name in columns[0]:
        print('|', ' | '.join([name, *(c[name] for c in columns)]), '|')


if __name__ == '__main__':
    main()
