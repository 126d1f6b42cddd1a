"""Tables for a terminal."""
import io
from typing import Any, Iterable, Sequence

from rich.console import Console
from rich.table import Table

from mtpd.order.baselines import OrderRow
from mtpd.order.costs import AdaptationCosts

from .cost_text import cost_text, legend, level_text, share_text


def text_table(title: str, columns: Sequence[str],
               rows: Iterable[Sequence[Any]]) -> str:
    """A table of strings, the first column left-aligned, as text."""
    table = Table(title=title, title_justify='left')
    for i, column in enumerate(columns):
        table.add_column(column, justify='left' if i == 0 else 'right',
                         no_wrap=True)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out = io.StringIO()
    # Wider than any table: a number that is cut off is worse than a long line,
    # and a log file has no width.
    Console(file=out, width=1000).print(table)
    return out.getvalue()


def cost_table(costs: AdaptationCosts) -> str:
    """The cost matrix; in brackets, divided by the target's variance."""
    rows = [[source, *(
        '-' if source == target else
        f'{cost_text(costs, source, target)} '
        f'({share_text(costs, source, target)})' for target in costs.names)]
        for source in costs.names]
    strides = ', '.join(map(str, costs.strides))
    return text_table(
        f'Adaptation cost, row to column, strides {strides} '
        "(in brackets: share of the target's variance)" + legend(rows),
        ['from \\ to', *costs.names], rows)


def level_table(costs: AdaptationCosts) -> str:
    """Each pair's mean squared error per level and its mean over levels."""
    rows = [[f'{source} > {target}',
             *(level_text(costs, source, target, s) for s in costs.strides),
             cost_text(costs, source, target)]
            for source, target in costs.pairs]
    return text_table(
        'Mean squared error per level' + legend(row[1:] for row in rows),
        ['pair', *(f'stride {s}' for s in costs.strides), 'mean'], rows)


def baselines_table(rows: Iterable[OrderRow]) -> str:
    """What other rules would choose from the same costs, and the AP of the
    student that was trained so, where any was."""
    rows = list(rows)
    trained = any(row.result is not None for row in rows)

    def shown(value: float | None, form: str) -> str:
        return '-' if value is None else format(value, form)

    return text_table(
        'Other rules, for comparison (their sums are over different units)',
        ['rule', 'order', 'sum', 'largest', 'sum of shares',
         *(['AP'] if trained else [])],
        [[row.name, ' > '.join(row.teachers), f'{row.total:.4g}',
          f'{row.bottleneck:.4g}', shown(row.normalised_total, '.3f'),
          *([shown(row.result, '.1f')] if trained else [])] for row in rows])


def progression_table(stages: Sequence[Any], taught: bool = True) -> str:
    """Stage by stage; a stage that ends below its start is named so.

    Args:
        stages: ``StageResult``s in order.
        taught: Whether the teachers took part (distillation weight above 0).
    """
    best = max(stages, key=lambda s: s.end)

    def row(stage: Any) -> list[str]:
        remarks = []
        if stage.start is not None and stage.end < stage.start:
            remarks.append('ended below its start')
        if stage is best and len(stages) > 1:
            remarks.append('best')
        start, gain = ('-', '-') if stage.start is None else (
            f'{stage.start:.1f}', f'{stage.end - stage.start:+.1f}')
        name = stage.teacher if taught else '(no teacher)'
        return [f'{stage.index} {name}', start, f'{stage.end:.1f}', gain,
                f'{stage.seconds / 60:.1f}', ', '.join(remarks)]

    return text_table('Progression (box AP of the student alone)',
                      ['stage, teacher', 'start', 'end', 'gain', 'minutes',
                       ''], [row(s) for s in stages])
