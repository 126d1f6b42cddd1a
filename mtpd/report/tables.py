"""Tables for a terminal."""
import io
from typing import Any, Iterable, Sequence

from rich.console import Console
from rich.table import Table

from mtpd.order.adaptation_cost import AdaptationCosts
from mtpd.order.rivals import OrderRow


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
    # A fixed width: a log file has no terminal to measure.
    Console(file=out, width=110).print(table)
    return out.getvalue()


def cost_table(costs: AdaptationCosts) -> str:
    """The cost matrix; in brackets, divided by the target's variance."""
    def cell(source: str, target: str) -> str:
        if source == target:
            return '-'
        try:
            share = f'{costs.normalised_cost(source, target):.3f}'
        except ValueError:  # a constant target
            share = '-'
        return f'{costs.cost(source, target):.4g} ({share})'

    strides = ', '.join(map(str, costs.strides))
    return text_table(
        f'Adaptation cost, row to column, strides {strides} '
        "(in brackets: share of the target's variance)",
        ['from \\ to', *costs.names],
        [[a, *(cell(a, b) for b in costs.names)] for a in costs.names])


def level_table(costs: AdaptationCosts) -> str:
    """Each pair's mean squared error per level and its mean over levels."""
    return text_table(
        'Mean squared error per level', ['pair', *(
            f'stride {s}' for s in costs.strides), 'mean'],
        [[f'{source} > {target}', *(f'{levels[s]:.4g}'
                                    for s in costs.strides),
          f'{costs.cost(source, target):.4g}']
         for (source, target), levels in costs.mse.items()])


def rivals_table(rows: Iterable[OrderRow]) -> str:
    """What other rules would choose from the same costs."""
    return text_table(
        'Other rules, for comparison (their sums are over different units)',
        ['rule', 'order', 'sum', 'largest', 'sum of shares'],
        [[row.name, ' > '.join(row.teachers), f'{row.total:.4g}',
          f'{row.bottleneck:.4g}', '-' if row.normalised_total is None
          else f'{row.normalised_total:.3f}'] for row in rows])


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
