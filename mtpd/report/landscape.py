"""Charts of two runs side by side: their trajectories and landscapes."""
import os
from typing import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mtpd.analysis.comparison import Comparison, Measured
from mtpd.analysis.runs import Validation
from mtpd.show.cost_text import digits_text

_STYLES = (dict(color='black', linestyle='-', markerfacecolor='black'),
           dict(color='0.45', linestyle='--', markerfacecolor='white'))
_MARKERS = 'osD^v<>pPX'
_MAX_LABELS = 4  # in each stage
# Where the labels of each run stand, so that they do not overlap.
_PLACES = (dict(xytext=(5, 4), ha='left', va='bottom'),
           dict(xytext=(-5, -4), ha='right', va='top'))


def draw_trajectories(comparison: Comparison, path: str) -> None:
    """Training detection loss against validation AP, a point per validation.

    On the left as logged while training, on the right measured again on the
    fixed images, for the checkpoints that still exist.

    Args:
        comparison: The two runs.
        path: Where the PNG is written.
    """
    figure = Figure(figsize=(11, 4.8), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    runs = comparison.first, comparison.second
    for run, style, place in zip(runs, _STYLES, _PLACES, strict=True):
        logged = [validation.logged for validation, _ in run.trajectory]
        measured = [loss for _, loss in run.trajectory]
        _draw_trajectory(left, run, logged, style, place)
        _draw_trajectory(right, run, measured, style, place)
    for axes in (left, right):
        axes.margins(x=.09)  # labels stand beside the outermost points
    left.set_xlabel('training detection loss, as logged in the last epoch')
    right.set_xlabel('the same, measured again on '
                     f'{comparison.images} fixed training images')
    left.set_ylabel('validation box AP')
    left.legend(loc='best', frameon=False)
    figure.suptitle('Training loss against validation AP '
                    '(labels: stage.epoch; a marker for each stage)',
                    fontsize=10)
    _save(figure, path)


def _draw_trajectory(axes: Axes, run: Measured, losses: Sequence[float],
                     style: dict, place: dict) -> None:
    points = []
    for (validation, _), loss in zip(run.trajectory, losses, strict=True):
        if np.isfinite(loss):
            points.append((validation, loss))
    axes.plot([loss for _, loss in points],
              [validation.ap for validation, _ in points],
              linewidth=1, label=run.name, color=style['color'],
              linestyle=style['linestyle'])
    stages: dict[int, list[tuple[Validation, float]]] = {}
    for validation, loss in points:
        marker = _MARKERS[(validation.stage - 1) % len(_MARKERS)]
        axes.plot(loss, validation.ap, markersize=5,
                  **{**style, 'marker': marker})
        stages.setdefault(validation.stage, []).append((validation, loss))
    for of_stage in stages.values():
        # The first and the last, and some between: all would overlap.
        count = min(len(of_stage), _MAX_LABELS)
        for k in range(count):
            index = round(k * (len(of_stage) - 1) / max(1, count - 1))
            validation, loss = of_stage[index]
            axes.annotate(validation.label, (loss, validation.ap), fontsize=7,
                          textcoords='offset points', color=style['color'],
                          **place)


def draw_landscapes(comparison: Comparison, path: str) -> None:
    """The loss around both final students, with the same directions, scale,
    colours and contours.

    Args:
        comparison: The two runs.
        path: Where the PNG is written.
    """
    runs = comparison.first, comparison.second
    both = np.stack([run.surface for run in runs])
    finite = both[np.isfinite(both) & (both > 0)]
    norm = levels = None
    if finite.size and finite.min() < finite.max():
        norm = LogNorm(finite.min(), finite.max())
        levels = np.geomspace(finite.min(), finite.max(), 12)[1:-1]
    figure = Figure(figsize=(11, 5), layout='constrained')
    panels = figure.subplots(1, 2, sharey=True)
    for axes, run in zip(panels, runs, strict=True):
        image = _draw_panel(axes, comparison, run, norm, levels)
    panels[0].set_ylabel('second direction, in filter norms')
    bar = figure.colorbar(image, ax=list(panels), label='detection loss, mean '
                          f'over {comparison.images} training images')
    if levels is not None:  # plain numbers, the same as on the contours
        labels = [digits_text(level, 2) for level in levels]
        bar.set_ticks(levels.tolist(), labels=labels)
        bar.minorticks_off()
    figure.suptitle('Loss around the final students (same filter-normalised '
                    'directions and scale;\ncross: the student, circle: where '
                    'sharpness is measured, white: not finite)', fontsize=10)
    _save(figure, path)


def _draw_panel(axes: Axes, comparison: Comparison, run: Measured,
                norm: LogNorm | None, levels: np.ndarray | None) -> AxesImage:
    edge, radius = comparison.coordinates, comparison.settings.radius
    half = (edge[1] - edge[0]) / 2
    image = axes.imshow(
        run.surface, origin='lower', norm=norm, cmap='viridis',
        interpolation='nearest',
        extent=(edge[0] - half, edge[-1] + half) * 2)
    if levels is not None:
        lines = axes.contour(edge, edge, run.surface, levels=levels,
                             colors='white', linewidths=0.9)
        # The innermost contours have no space for a number.
        axes.clabel(lines, levels[len(levels) // 3:], fontsize=7,
                    fmt=lambda value: digits_text(value, 2))
    axes.plot(0, 0, marker='+', color='white', markersize=9)
    angle = np.linspace(0, 2 * np.pi, 100)
    axes.plot(radius * np.cos(angle), radius * np.sin(angle), color='white',
              linewidth=0.9, linestyle=':')
    axes.set_xlim(edge[0] - half, edge[-1] + half)
    axes.set_ylim(edge[0] - half, edge[-1] + half)
    axes.set_title(f'{run.name}\nloss {run.losses.mean():.3g}, sharpness '
                   f'{run.sharpness("common"):.3g}, AP {run.ap.ap:.1f}',
                   fontsize=9)
    axes.set_xlabel('first direction, in filter norms')
    return image


def _save(figure: Figure, path: str) -> None:
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    figure.savefig(path, dpi=110)
