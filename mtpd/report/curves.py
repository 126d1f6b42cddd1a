"""What all stages have logged, over their iterations one after another."""
import io
import math
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Iterable, Iterator, Mapping, NamedTuple, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (FormatStrFormatter, LogLocator, MaxNLocator,
                               NullFormatter)

from mtpd.analysis.runs import distill_loss, is_distill
from mtpd.plan.plan import stage_teachers
from mtpd.progression.history import History
from mtpd.show.charts import text_size
from mtpd.stage.log import StageHistory

_LEFT, _RIGHT, _WIDTH = 1.0, 0.2, 7.6  # inches, the same in all charts
_PLOT, _BELOW, _NAMES, _ROW = 1.9, 0.5, 0.3, 0.2  # inches upwards
ALONE = 'student trained on alone'
"""What the control is called."""
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
        text: What it shows, for readers who do not see it.
        png: The chart.
        wide: Whether it is as wide as the page; else it has its own size.
    """
    title: str
    text: str
    png: bytes
    wide: bool = True


class Segment(NamedTuple):
    """A curve within one stage.

    Attributes:
        x: Iterations since the first stage's start.
        y: Values.
    """
    x: tuple[float, ...]
    y: tuple[float, ...]


Curves = dict[str, list[Segment]]
"""Name -> its segments, one for each stage that has logged it."""


def stage_starts(history: History) -> list[int]:
    """Iterations before each stage, and of all stages."""
    return [0, *accumulate(stage.length for stage in history.stages)]


def _with_iterations(history: History
                     ) -> Iterator[tuple[StageHistory, tuple[int, int]]]:
    """Each stage and the iterations that it begins and ends with."""
    return zip(history.stages, pairwise(stage_starts(history)), strict=True)


def _segment(points: Sequence[tuple[float, float]]) -> Segment:
    """Of (x, y) pairs; empty without any."""
    return Segment(*zip(*points, strict=True)) if points else Segment((), ())


def logged_curves(history: History,
                  keys: Iterable[str] | None = None) -> Curves:
    """Each key of the training log.

    Args:
        history: The progression.
        keys: Of the log; None takes all of them. A key that was not logged
            has no curve.
    """
    curves: Curves = {}
    for stage, (offset, _) in _with_iterations(history):
        points: dict[str, list[tuple[float, float]]] = {}
        for line in stage.lines:
            for key, value in line.items():
                x = offset + line['step']
                points.setdefault(key, []).append((x, value))
        for key in points if keys is None else keys:
            if key in points:
                curves.setdefault(key, []).append(_segment(points[key]))
    return curves


def loss_totals(history: History) -> Curves:
    """The sums of detection losses and of distillation losses, one value of
    each per logged line."""
    curves: Curves = {}
    for stage, (offset, _) in _with_iterations(history):
        detection, distillation, taught = [], [], False
        for line in stage.lines:
            taught = taught or any(map(is_distill, line))
            x, distill = offset + line['step'], distill_loss(line)
            detection.append((x, line['loss'] - distill))
            distillation.append((x, distill))
        if detection:
            curves.setdefault('detection', []).append(_segment(detection))
        if taught:
            curves.setdefault('distillation', []).append(
                _segment(distillation))
    return curves


def ap_curve(history: History) -> Curves:
    """The box AP in percent of the student and, as far as there is a control,
    of the student trained on alone; their start too, where that is known."""
    start: list[tuple[float, float]] = []
    if history.start_ap is not None:
        start.append((0, history.start_ap))
    total = stage_starts(history)[-1]
    curves = {}
    for name, own in (('student', history),
                      (ALONE, replace(history, stages=history.control.stages))
                      ):
        points = list(start)
        for stage, (offset, _) in _with_iterations(own):
            for validation in stage.validations:
                x = offset + validation.iteration
                if 'AP' in validation.aps and x <= total:
                    points.append((x, validation.aps['AP']))
        if points and (name == 'student' or own.stages):
            curves[name] = [_segment(points)]
    return curves


def curve_charts(history: History,
                 aps: Mapping[str, float]) -> list[Chart]:
    """AP, losses and learning rate of all stages that have begun.

    What was not logged has no chart.

    Args:
        history: The progression.
        aps: Teacher -> AP in percent, as far as known.
    """
    logged = logged_curves(history)
    detection, distillation = {}, {}
    for key, segments in logged.items():
        if is_distill(key):
            distillation[key.removeprefix('loss_distill_')] = segments
        elif 'loss' in key and key != 'loss':
            detection[key] = segments
    ratio = {'distill_ratio': logged.get('distill_ratio', [])}
    rate = {'lr': logged.get('lr', [])}
    losses = [
        _chart(history, 'Total losses', loss_totals(history), 'loss'),
        _chart(history, 'Detection loss, its terms', detection, 'loss'),
        _chart(history, 'Distillation loss, its terms', distillation,
               'loss, weighted')]
    charts = [
        _ap_chart(history, aps), *losses,
        _chart(history, 'Distillation loss over detection loss', ratio,
               'ratio'),
        _chart(history, 'Learning rate', rate, 'learning rate', log=False)]
    return [chart for chart in charts if chart is not None]


def _ap_chart(history: History,
              aps: Mapping[str, float]) -> Chart | None:
    curves = ap_curve(history)
    if not curves:
        return None
    figure, axes = _figure(history, 1)
    texts: list[str] = []
    values: list[float] = []
    for i, (name, (segment,)) in enumerate(curves.items()):
        axes.plot(*segment, color=_COLOURS[2 * i], linestyle=_STROKES[2 * i],
                  marker='os'[i], markersize=4, clip_on=False, zorder=3,
                  label=name)
        texts.append(('' if i == 0 else f'{name} ')
                     + _describe_range(segment, segment))
        values += segment.y
    for stage, (start, end) in _with_iterations(history):
        for name in stage_teachers(stage.teacher, history.plan):
            if name in aps and end > start:
                axes.plot([start, end], [aps[name]] * 2, color=_COLOURS[1],
                          linestyle='--', label='teacher')
                label = _fitting(axes, (f'{name} {aps[name]:.1f}',
                                        f'{aps[name]:.1f}'), start, end)
                axes.annotate(label, (start, aps[name]), (4, -3),
                              textcoords='offset points', va='top',
                              fontsize=8, color=_COLOURS[1])
                texts.append(f'teacher {name} {aps[name]:.1f}')
                values.append(aps[name])
    # Room for markers on the highest and on the lowest.
    margin = max(0.12 * (max(values) - min(values)), 0.5)
    axes.set_ylim(min(values) - margin, max(values) + margin)
    return _finish(figure, axes, 'Box AP', 'Box AP of the student and of '
                   f"each stage's teacher, in percent: {', '.join(texts)}",
                   'box AP, %', 3)


def _chart(history: History, title: str, curves: Curves, unit: str,
           log: bool = True) -> Chart | None:
    curves = _finite(curves)
    if not curves:
        return None
    per_row = max(1, int((_WIDTH - _LEFT) / (
        text_size(curves)[0] * 0.9 + 0.75)))
    # A single curve is named by the title.
    rows = math.ceil(len(curves) / per_row) if len(curves) > 1 else 0
    figure, axes = _figure(history, rows)
    values: list[float] = []
    for i, (name, segments) in enumerate(curves.items()):
        for segment in segments:
            axes.plot(*segment, color=_COLOURS[i % len(_COLOURS)],
                      linestyle=_STROKES[i % len(_STROKES)], linewidth=1.3,
                      marker='.' if len(segment.x) == 1 else None, label=name)
            values += segment.y
    if log and min(values) > 0 and max(values) > _LOG_FROM * min(values):
        # With plain numbers; where the axis has few powers of ten, also with
        # numbers between them.
        span = max(values) / min(values)
        axes.set_yscale('log')
        axes.yaxis.set_major_locator(LogLocator(
            subs=(1, 2, 5) if span < 1000 else (1,)))
        axes.yaxis.set_major_formatter(FormatStrFormatter('%g'))
        axes.yaxis.set_minor_formatter(NullFormatter())
        unit += ' (log)'
    texts = [f'{name} {_describe_range(segments[0], segments[-1])}'
             for name, segments in curves.items()]
    return _finish(figure, axes, title,
                   f'{title}, over iterations: {"; ".join(texts)}', unit,
                   per_row)


def _finite(curves: Curves) -> Curves:
    """Without values that are not finite; segments and curves that become
    empty are left out."""
    finite: Curves = {}
    for name, segments in curves.items():
        for segment in segments:
            points = [(x, y) for x, y in zip(*segment, strict=True)
                      if math.isfinite(y)]
            if points:
                finite.setdefault(name, []).append(_segment(points))
    return finite


def _describe_range(first: Segment, last: Segment) -> str:
    return f'from {first.y[0]:.3g} to {last.y[-1]:.3g}'


def _figure(history: History, rows: int) -> tuple[Figure, Axes]:
    """With the stages marked.

    The plot has the same place in all charts, so that equal iterations stand
    below each other.

    Args:
        history: The progression.
        rows: Of the legend.
    """
    height = _BELOW + _PLOT + _NAMES + _ROW * rows
    figure = Figure(figsize=(_WIDTH, height))
    width = _WIDTH - _LEFT - _RIGHT
    axes = figure.add_axes((_LEFT / _WIDTH, _BELOW / height,
                            width / _WIDTH, _PLOT / height))
    total = max(stage_starts(history)[-1], 1)
    axes.set_xlim(0, total)
    for stage, (start, end) in _with_iterations(history):
        if stage.index % 2 == 0:
            axes.axvspan(start, end, color='0.95', zorder=0)
        if start:
            axes.axvline(start, color='0.4', linewidth=1)
        name = _fitting(axes, (f'stage {stage.index}: {stage.teacher}',
                               str(stage.index)), start, end)
        axes.annotate(name, ((start + end) / 2, 1),
                      (0, 4), xycoords=('data', 'axes fraction'),
                      textcoords='offset points', ha='center', fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(_iterations(history))
    axes.grid(axis='y', color='0.85', linewidth=0.6)
    return figure, axes


def _fitting(axes: Axes, texts: Iterable[str], start: float,
             end: float) -> str:
    """The first of the texts that is no wider than these iterations; none if
    all are."""
    first, last = axes.get_xlim()
    space = (_WIDTH - _LEFT - _RIGHT) * (end - start) / (last - first)
    for text in texts:
        if text_size([text])[0] * 0.9 < space:
            return text
    return ''


def _iterations(history: History) -> str:
    """The unit of the x axis."""
    for stage in history.stages:
        for validation in stage.validations:
            if validation.epoch and history.by_epoch:
                per_epoch = validation.iteration / validation.epoch
                return f'iterations ({per_epoch:g} per epoch)'
    return 'iterations'


def _finish(figure: Figure, axes: Axes, title: str, text: str, unit: str,
            columns: int = 2) -> Chart:
    # Left of the numbers, however long they are.
    axes.set_ylabel(unit)
    axes.yaxis.get_offset_text().set_horizontalalignment('right')
    handles, names = axes.get_legend_handles_labels()
    # Every stage has the same names.
    handle_of = dict(zip(names, handles, strict=True))
    if len(handle_of) > 1:
        axes.legend(handle_of.values(), handle_of, ncols=columns,
                    loc='lower left', bbox_to_anchor=(0, 1 + _NAMES / _PLOT),
                    borderaxespad=0, frameon=False, fontsize=9,
                    handlelength=2.2, columnspacing=1.2, labelspacing=0.2,
                    borderpad=0)
    out = io.BytesIO()
    figure.savefig(out, dpi=150, format='png')
    return Chart(title, text, out.getvalue())
