"""Tables of costs, orders and stages.

Each is made once, as a :class:`Table`: ``print`` shows it on a terminal, the
page about a progression shows it as HTML.
"""
import io
from dataclasses import dataclass
from itertools import chain
from typing import Any, Iterable, NamedTuple, Sequence

from rich.console import Console
from rich.table import Table as RichTable

from mtpd.order.baselines import OrderRow
from mtpd.order.costs import AdaptationCosts

from .cost_text import (closest, cost_text, digits_text, legend, level_text,
                        share_text)


@dataclass(frozen=True)
class Table:
    """A table; ``str`` gives it as text for a terminal.

    Attributes:
        title: Above it.
        columns: Their names; none for a table without a head.
        rows: Cells as text; the first names its row. None where a value is
            not known or does not exist.
        notes: Explain marks in the cells, a line each.
        words: Whether cells are words rather than numbers.
    """
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | None]]
    notes: Sequence[str] = ()
    words: bool = False

    def __str__(self) -> str:
        title = '\n'.join((self.title, *self.notes))
        return text_table(title, self.columns, self.rows)


def text_table(title: str, columns: Sequence[str],
               rows: Iterable[Sequence[Any]]) -> str:
    """A table as text, the first column left-aligned; None becomes ``-``."""
    table = RichTable(title=title, title_justify='left')
    for i, column in enumerate(columns):
        table.add_column(column, justify='left' if i == 0 else 'right',
                         no_wrap=True)
    for row in rows:
        texts = ('-' if cell is None else str(cell) for cell in row)
        table.add_row(*texts)
    out = io.StringIO()
    # Wider than any table: a number that is cut off is worse than a long line,
    # and a log file has no width.
    Console(file=out, width=1000).print(table)
    return out.getvalue()


def number(value: float | None, form: str = '.1f') -> str | None:
    """A value as text; None where it is not known."""
    return None if value is None else format(value, form)


def ap_text(ap: float | None) -> str:
    """An AP in percent as text, in words where it could not be measured."""
    return number(ap) or 'not measured'


def gain(start: float | None, end: float | None) -> str | None:
    """From one AP to another, with its sign; None where one is not known."""
    return None if start is None or end is None \
        else number(end - start, '+.1f')


def cost_table(costs: AdaptationCosts) -> Table:
    """The cost matrix; in brackets, divided by the target's variance."""
    best = {target: closest(costs, target) for target in costs.names}
    rows = []
    for source in costs.names:
        row: list[str | None] = [source]
        for target in costs.names:
            if target == source:
                row.append(None)
                continue
            share = share_text(costs, source, target)
            mark = '* ' if source in best[target] else ''
            row.append(f'{mark}{cost_text(costs, source, target)} ({share})')
        rows.append(row)
    strides = ', '.join(map(str, costs.strides))
    return Table(f'Adaptation cost, row to column, strides {strides} '
                 "(in brackets: share of the target's variance)",
                 ['from \\ to', *costs.names], rows,
                 ('Lower is closer. *: the closest in its column',
                  *legend(chain.from_iterable(rows))))


def level_table(costs: AdaptationCosts) -> Table:
    """Each pair's mean squared error per level and its mean over levels."""
    rows = []
    for source, target in costs.pairs:
        levels = [level_text(costs, source, target, stride)
                  for stride in costs.strides]
        rows.append([f'{source} > {target}', *levels,
                     cost_text(costs, source, target)])
    columns = [f'stride {stride}' for stride in costs.strides]
    return Table('Mean squared error per level', ['pair', *columns, 'mean'],
                 rows, legend(chain.from_iterable(rows)))


def baselines_table(orders: Iterable[OrderRow]) -> Table:
    """What other rules would choose from the same costs, and the AP of the
    students that were trained in these orders, where any was."""
    orders = list(orders)
    trained = any(order.result is not None for order in orders)
    columns = ['rule', 'order', 'sum', 'largest', 'sum of shares']
    if trained:
        columns.append('AP')
    rows = []
    for order in orders:
        row = [order.name, ' > '.join(order.teachers),
               digits_text(order.total), digits_text(order.bottleneck),
               number(order.normalised_total, '.3f')]
        if trained:
            row.append(number(order.result))
        rows.append(row)
    return Table(
        'Other rules, for comparison (their sums are over different units)',
        columns, rows)


class StageCells(NamedTuple):
    """The numbers of a stage as text, None where one is not known.

    Attributes:
        start: Box AP in percent before it.
        end: Box AP in percent of what it hands on.
        gain: From start to end.
        minutes: Of training.
    """
    start: str | None
    end: str | None
    gain: str | None
    minutes: str | None


def stage_cells(start: float | None, end: float | None,
                seconds: float | None) -> StageCells:
    """A stage's APs in percent and its seconds, as text."""
    minutes = None if seconds is None else seconds / 60
    return StageCells(number(start), number(end), gain(start, end),
                      number(minutes))


def best_stage(stages: Sequence[Any]) -> Any:
    """The ``StageResult`` of the highest AP; None where none was measured."""
    return max((stage for stage in stages if stage.end_ap is not None),
               key=lambda stage: stage.end_ap, default=None)


def progression_table(stages: Sequence[Any], taught: bool = True) -> Table:
    """Stage by stage; a stage that ends below its start is marked.

    Args:
        stages: ``StageResult``s in order.
        taught: Whether the teachers took part (distillation weight above 0).
    """
    best = best_stage(stages)
    rows = []
    for stage in stages:
        remarks = []
        if None not in (stage.start_ap, stage.end_ap) \
                and stage.end_ap < stage.start_ap:
            remarks.append('ended below its start')
        if stage is best and len(stages) > 1:
            remarks.append('best')
        name = stage.teacher if taught else '(no teacher)'
        cells = stage_cells(stage.start_ap, stage.end_ap, stage.seconds)
        rows.append([f'{stage.index} {name}', cells.start,
                     ap_text(stage.end_ap), *cells[2:], ', '.join(remarks)])
    return Table('Progression (box AP of the student alone)',
                 ['stage, teacher', 'start', 'end', 'from start', 'minutes',
                  ''], rows)
