"""Values as the page shows them."""
import math
from statistics import fmean
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from ..results import Order, Run
from ..statistics import interval, verdict

Values = Mapping[int, float]
"""Seed -> value."""
Section = tuple[str, dict[str, str]]
"""Text, and plots as SVG by file name; an empty text where nothing is run."""

APS = ('AP', 'AP50', 'AP75', 'small', 'medium', 'large')


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Markdown."""
    lines = [columns, ['---'] * len(columns), *rows]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |'
                     for line in lines) + '\n'


def number(value: float | None, form: str) -> str:
    """Empty for None and nan."""
    return '' if value is None or math.isnan(value) else f'{value:{form}}'


def chance(value: float) -> str:
    """A p value."""
    return f'p = {value:.2f}' if value >= .005 else 'p < 0.005'


def average(values: Values) -> float:
    """Mean over seeds."""
    return float(np.mean(list(values.values())))


def mean(values: Values) -> str:
    """Mean over seeds; empty if there is none."""
    return f'{average(values):.1f}' if values else ''


def by_seed(values: Values, form: str = '.1f') -> str:
    """All values, separated by commas."""
    return ', '.join(f'{values[seed]:{form}}'
                     for seed in sorted(values)) or 'not run'


def difference(values: Values, others: Values, form: str = '.1f') -> str:
    """``+0.4 ± 0.3, higher``, paired by seed."""
    seeds = sorted(set(values) & set(others))
    if not seeds:
        return ''
    differences = [values[seed] - others[seed] for seed in seeds]
    if len(seeds) < 3:
        return f'{fmean(differences):+{form}}, too few seeds'
    middle, half = interval(differences, .1 if form == '.1f' else 0.)
    return f'{middle:+{form}} ± {half:{form}}, {verdict(middle, half)}'


def aps(run: Run) -> list[str]:
    """One cell for each of :data:`APS`."""
    return [number(run.get(name), '.1f') for name in APS]


def ratio(run: Run) -> str:
    """Distillation over detection loss at the end."""
    return number(run['last_epoch'].get('distill_ratio'), '.2f')


def rank(ap: float, aps: Sequence[float]) -> str:
    """``2 to 3 of 12``: the place of an AP among several, 1 is best."""
    above = sum(other > ap for other in aps)
    equal = sum(other == ap for other in aps)
    last = f' to {above + equal}' if equal > 1 else ''
    return f'{above + 1}{last} of {len(aps)}'


def path(order: Order) -> str:
    """``resnext > swin``."""
    return ' > '.join(order)


def plural(count: int, noun: str) -> str:
    """``1 teacher``, ``2 teachers``."""
    return f'{count} {noun}' + 's' * (count > 1)
