"""Tables for a terminal."""
import io
from typing import Any, Iterable, Sequence

from rich.console import Console
from rich.table import Table

from mtpd.order.adaptation_cost import AdaptationCosts


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
        return f'{costs.cost(source, target):.4g} ' \
               f'({costs.normalised_cost(source, target):.3f})'

    strides = ', '.join(map(str, costs.strides))
    return text_table(
        f'Adaptation cost, row to column, strides {strides} '
        "(in brackets: share of the target's variance)",
        ['from \\ to', *costs.names],
        [[a, *(cell(a, b) for b in costs.names)] for a in costs.names])


def progression_table(stages: Sequence[Any]) -> str:
    """Stage by stage; a stage that ends below its start is named so."""
    def row(stage: Any) -> list[str]:
        if stage.start is None:
            return [f'{stage.index} {stage.teacher}', '-', f'{stage.end:.1f}',
                    '-', f'{stage.seconds / 60:.1f}', '']
        gain = stage.end - stage.start
        note = '' if gain >= 0 else 'ended below its start'
        return [f'{stage.index} {stage.teacher}', f'{stage.start:.1f}',
                f'{stage.end:.1f}', f'{gain:+.1f}',
                f'{stage.seconds / 60:.1f}', note]

    best = max(stages, key=lambda s: s.end)
    rows = [row(s) for s in stages]
    for stage, cells in zip(stages, rows):
        if stage is best and len(stages) > 1:
            cells[-1] = ', '.join(filter(None, [cells[-1], 'best']))
    return text_table('Progression (box AP of the student alone)',
                      ['stage, teacher', 'start', 'end', 'gain', 'minutes',
                       ''], rows)
