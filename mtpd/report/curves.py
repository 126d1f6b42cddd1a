"""What was logged in all stages, over iterations that count through."""
import io
import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Iterable, Iterator, Mapping, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (FormatStrFormatter, LogLocator, MaxNLocator,
                               NullFormatter)

from mtpd.progression.history import History, StageHistory, stage_teachers
from mtpd.show.charts import text_size

_LEFT, _RIGHT, _WIDTH = 0.75, 0.2, 7.6  # inches, the same in all charts
_PLOT, _BELOW, _NAMES, _ROW = 1.9, 0.5, 0.3, 0.2  # inches upwards
_LOG_FROM = 30.
"""Values that differ by more than this factor are shown on a log axis."""
# Okabe and Ito's colours for the colour-blind; the strokes are for print.
_COLOURS = ('black', '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00',
            '#56B4E9')
_STROKES = ('-', '--', '-.', ':')


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        title: Above it.
        text: What it shows, for those who do not see it.
        png: It.
    """
    title: str
    text: str
    png: bytes


class Segment(NamedTuple):
    """A curve within one stage: iterations since the first stage's start, and
    values."""
    x: tuple[float, ...]
    y: tuple[float, ...]


Curves = dict[str, list[Segment]]
"""Name -> its segments, one of each stage that has logged it."""


def stage_starts(history: History) -> list[int]:
    """Iterations before each stage, and in all."""
    return [0, *accumulate(stage.length for stage in history.stages)]


def _placed(history: History
            ) -> Iterator[tuple[StageHistory, tuple[int, int]]]:
    """Each stage and the iterations that it begins and ends with."""
    return zip(history.stages, pairwise(stage_starts(history)), strict=True)


def logged_curves(history: History,
                  keys: Iterable[str] | None = None) -> Curves:
    """What the training log says of each key; None takes all that it has."""
    curves: Curves = {}
    for stage, (offset, _) in _placed(history):
        names = dict.fromkeys(k for line in stage.lines for k in line)
        for key in names if keys is None else [k for k in keys if k in names]:
            points = [(offset + line['step'], line[key])
                      for line in stage.lines if key in line]
            curves.setdefault(key, []).append(
                Segment(*zip(*points, strict=True)))
    return curves


def loss_totals(history: History) -> Curves:
    """Of every logged line, what detection and distillation lose."""
    curves: Curves = {'detection': [], 'distillation': []}
    for stage, (offset, _) in _placed(history):
        taught = {k for line in stage.lines for k in line if is_distill(k)}
        points = []
        for line in stage.lines:
            distill = sum(line.get(key, 0.) for key in taught)
            points.append((offset + line['step'], line['loss'] - distill,
                           distill))
        if points:
            x, detections, distills = zip(*points, strict=True)
            curves['detection'].append(Segment(x, detections))
            if taught:
                curves['distillation'].append(Segment(x, distills))
    return {name: segments for name, segments in curves.items() if segments}


def is_distill(key: str) -> bool:
    """Whether a logged key is a term of the distillation loss."""
    return key.startswith('loss_distill')


def ap_curve(history: History) -> Curves:
    """The student's box AP in percent, from its start on where known."""
    x, y = [], []
    if history.start_ap is not None:
        x, y = [0], [history.start_ap]
    for stage, (offset, _) in _placed(history):
        for validation in stage.validations:
            if 'AP' in validation.aps:
                x.append(offset + validation.iteration)
                y.append(validation.aps['AP'])
    return {'student': [Segment(tuple(x), tuple(y))]} if x else {}


def curve_charts(history: History,
                 aps: Mapping[str, float]) -> list[Chart]:
    """AP, losses and learning rate of all stages that have begun.

    What was not logged has no chart.

    Args:
        history: The progression.
        aps: Teacher -> AP in percent, as far as known.
    """
    logged = logged_curves(history)
    terms = {key: of for key, of in logged.items()
             if 'loss' in key and key != 'loss'}
    charts = [
        _ap_chart(history, aps),
        _chart(history, 'Total losses', loss_totals(history), 'loss'),
        _chart(history, 'Detection loss, its terms',
               {k: of for k, of in terms.items() if not is_distill(k)},
               'loss'),
        _chart(history, 'Distillation loss, its terms', {
            k.removeprefix('loss_distill_'): of for k, of in terms.items()
            if is_distill(k)}, 'loss, weighted'),
        _chart(history, 'Distillation loss over detection loss',
               {k: of for k, of in logged.items() if k == 'distill_ratio'},
               'ratio'),
        _chart(history, 'Learning rate',
               {k: of for k, of in logged.items() if k == 'lr'},
               'learning rate', log=False)]
    return [chart for chart in charts if chart is not None]


def _ap_chart(history: History,
              aps: Mapping[str, float]) -> Chart | None:
    curves = ap_curve(history)
    if not curves:
        return None
    figure, axes = _figure(history, 1)
    segment, = curves['student']
    axes.plot(*segment, color=_COLOURS[0], marker='o', markersize=4,
              clip_on=False, zorder=3, label='student')
    said = [_said(segment)]
    for stage, (start, end) in _placed(history):
        for name in stage_teachers(stage.teacher, history.plan):
            if name in aps and end > start:
                axes.plot([start, end], [aps[name]] * 2, color=_COLOURS[1],
                          linestyle='--', label='teacher')
                axes.annotate(f'{name} {aps[name]:.1f}', (start, aps[name]),
                              (4, -3), textcoords='offset points', va='top',
                              fontsize=8, color=_COLOURS[1])
                said.append(f'teacher {name} {aps[name]:.1f}')
    axes.set_ylim(0, None)
    return _finished(figure, axes, 'Box AP', 'Box AP of the student and of '
                     "each stage's teacher, in percent: " + ', '.join(said),
                     'box AP, %')


def _chart(history: History, title: str, curves: Curves, unit: str,
           log: bool = True) -> Chart | None:
    curves = {name: finite for name, segments in curves.items()
              if (finite := [s for s in map(_finite, segments) if s.x])}
    if not curves:
        return None
    per_row = max(1, int((_WIDTH - _LEFT) / (
        text_size(curves)[0] * 0.9 + 0.75)))
    # One curve is named by its title.
    rows = math.ceil(len(curves) / per_row) if len(curves) > 1 else 0
    figure, axes = _figure(history, rows)
    for i, (name, segments) in enumerate(curves.items()):
        for segment in segments:
            axes.plot(*segment, color=_COLOURS[i % len(_COLOURS)],
                      linestyle=_STROKES[i % len(_STROKES)], linewidth=1.3,
                      marker='.' if len(segment.x) == 1 else None, label=name)
    values = [y for segments in curves.values() for s in segments
              for y in s.y]
    if log and min(values) > 0 and max(values) > _LOG_FROM * min(values):
        _log_axis(axes, max(values) / min(values))
        unit += ' (log)'
    text = f'{title}, over iterations: ' + '; '.join(
        f'{name} {_said(segments[0], segments[-1])}'
        for name, segments in curves.items())
    return _finished(figure, axes, title, text, unit, per_row)


def _log_axis(axes: Axes, span: float) -> None:
    """With numbers as people write them, some between the powers of ten where
    there are few of these."""
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(LogLocator(
        subs=(1, 2, 5) if span < 1000 else (1,)))
    axes.yaxis.set_major_formatter(FormatStrFormatter('%g'))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _finite(segment: Segment) -> Segment:
    points = [(x, y) for x, y in zip(*segment, strict=True)
              if math.isfinite(y)]
    return Segment(*zip(*points, strict=True)) if points else Segment((), ())


def _said(first: Segment, last: Segment | None = None) -> str:
    return f'from {first.y[0]:.3g} to {(last or first).y[-1]:.3g}'


def _figure(history: History, rows: int) -> tuple[Figure, Axes]:
    """With the stages marked; the plot has its place whatever is around it,
    so that iterations stand below each other in all charts."""
    height = _BELOW + _PLOT + _NAMES + _ROW * rows
    figure = Figure(figsize=(_WIDTH, height))
    width = _WIDTH - _LEFT - _RIGHT
    axes = figure.add_axes((_LEFT / _WIDTH, _BELOW / height,
                            width / _WIDTH, _PLOT / height))
    starts = stage_starts(history)
    axes.set_xlim(0, max(starts[-1], 1))
    for stage, (start, end) in _placed(history):
        if stage.index % 2 == 0:
            axes.axvspan(start, end, color='0.95', zorder=0)
        if start:
            axes.axvline(start, color='0.4', linewidth=1)
        room = width * (end - start) / max(starts[-1], 1)
        name = next((name for name in (
            f'stage {stage.index}: {stage.teacher}', str(stage.index))
            if text_size([name])[0] * 0.9 < room), '')
        axes.annotate(name, ((start + end) / 2, 1),
                      (0, 4), xycoords=('data', 'axes fraction'),
                      textcoords='offset points', ha='center', fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel('iterations')
    axes.grid(axis='y', color='0.85', linewidth=0.6)
    return figure, axes


def _finished(figure: Figure, axes: Axes, title: str, text: str, unit: str,
              columns: int = 2) -> Chart:
    axes.set_ylabel(unit)
    axes.yaxis.set_label_coords(-0.6 / (_WIDTH - _LEFT - _RIGHT), 0.5)
    handles, names = axes.get_legend_handles_labels()
    # A name stands in every stage.
    once = dict(zip(names, handles, strict=True))
    if len(once) > 1:
        axes.legend(once.values(), once, ncols=columns, loc='lower left',
                    bbox_to_anchor=(0, 1 + _NAMES / _PLOT), borderaxespad=0,
                    frameon=False, fontsize=9, handlelength=2.2,
                    columnspacing=1.2, labelspacing=0.2, borderpad=0)
    out = io.BytesIO()
    figure.savefig(out, dpi=150, format='png')
    return Chart(title, text, out.getvalue())
