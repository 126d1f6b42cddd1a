"""Values as the page shows them."""
import math
import re
from statistics import fmean
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np

from ..results import Evidence, Order, Run
from ..statistics import interval, verdict

Values = Mapping[int, float]
"""Seed -> value."""
Results = Mapping[str, Evidence]
"""Data set -> its results."""
Section = tuple[str, dict[str, str]]
"""Text, and plots as SVG by file name; an empty text where nothing is run."""
Row = Sequence[Any]

APS = ('AP', 'AP50', 'AP75')


def table(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Markdown. A line belongs to the cell before it, so that a count of
    words counts words."""
    lines = ['|' + ''.join(f'{cell} |' if f'{cell}' else '|' for cell in line)
             for line in (columns, *rows)]
    lines = [re.sub(r' (\|+)$', r'\1', line) for line in lines]
    lines.insert(1, '|---' * len(columns) + '|')
    return '\n'.join(lines) + '\n'


def grouped(columns: Sequence[str], groups: Mapping[str, Iterable[Row]]
            ) -> str:
    """One table for rows of several kinds.

    Args:
        columns: Their names.
        groups: What stands in a line of its own above some rows -> the rows.
    """
    rows: list[Row] = []
    for name, members in groups.items():
        rows += [[f'**{name}**', *[''] * (len(columns) - 1)], *members]
    return table(columns, rows)


def by_dataset(results: Results, columns: Sequence[str],
               rows_of: Callable[[Evidence], Sequence[Row]]) -> str:
    """A table with the rows of each data set, and the data sets without any;
    empty if there are no rows at all."""
    groups = {name: rows for name, evidence in results.items()
              if (rows := rows_of(evidence))}
    if not groups:
        return ''
    return grouped(columns, groups) + not_run(
        name for name in results if name not in groups)


def not_run(datasets: Iterable[str]) -> str:
    """The sentence below a table; empty if all were run."""
    names = ', '.join(datasets)
    return f'\nNot run on {names}.\n' if names else ''


def figure(results: Results, what: str, file: str) -> str:
    """The plots of all data sets, ``{}`` in a file's name is the data set."""
    return ''.join(f'\n![{what}, {name}](results/{file.format(name)})\n'
                   for name in results)


def number(value: float | None, form: str) -> str:
    """Empty for None and nan."""
    return '' if value is None or math.isnan(value) else f'{value:{form}}'


def chance(value: float) -> str:
    """A p value."""
    return f'p = {value:.2f}' if value >= .005 else 'p < 0.005'


def bare_chance(value: float) -> str:
    """The same where a column or a bracket says that it is one."""
    return f'{value:.2f}' if value >= .005 else '<0.005'


def numbers(values: Iterable[int]) -> str:
    """``2``, or ``2 or 3`` where data sets differ."""
    return ' or '.join(map(str, sorted(set(values))))


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
    """``+0.4±0.3``, paired by seed; bold where it is more than noise, and
    without an interval where there are fewer than three seeds."""
    text, found = _compared(values, others, form)
    return f'**{text}**' if found in ('higher', 'lower') else text


def difference_in_words(values: Values, others: Values) -> str:
    """``+0.4±0.3, higher``, of the same."""
    return ', '.join(filter(None, _compared(values, others, '.1f')))


def _compared(values: Values, others: Values, form: str) -> tuple[str, str]:
    """The difference, and what it means."""
    seeds = sorted(set(values) & set(others))
    if not seeds:
        return '', ''
    differences = [values[seed] - others[seed] for seed in seeds]
    if len(seeds) < 3:
        return f'{fmean(differences):+{form}}', 'too few seeds'
    middle, half = interval(differences, .1 if form == '.1f' else 0.)
    return f'{middle:+{form}}±{half:{form}}', verdict(middle, half)


def mean_aps(runs: Sequence[Run]) -> list[str]:
    """One cell for each of :data:`APS`, with the mean of all runs."""
    return [number(fmean(run.get(name, math.nan) for run in runs), '.1f')
            for name in APS]


def ratio(run: Run) -> str:
    """Distillation over detection loss at the end."""
    return number(run['last_epoch'].get('distill_ratio'), '.2f')


def rank(ap: float, aps: Sequence[float]) -> str:
    """``2-3 of 12``: the place of an AP among several, 1 is best."""
    above = sum(other > ap for other in aps)
    equal = sum(other == ap for other in aps)
    last = f'-{above + equal}' if equal > 1 else ''
    return f'{above + 1}{last} of {len(aps)}'


def path(order: Order) -> str:
    """``resnext > swin``."""
    return ' > '.join(order)


def plural(count: int, noun: str) -> str:
    """``1 teacher``, ``2 teachers``."""
    return f'{count} {noun}' + 's' * (count > 1)
