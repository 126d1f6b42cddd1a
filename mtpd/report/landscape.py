"""Charts of two runs side by side: the way to their end, and around it."""
import os
from typing import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mtpd.analysis.comparison import Comparison, Measured

_STYLES = (dict(color='black', linestyle='-', markerfacecolor='black'),
           dict(color='0.45', linestyle='--', markerfacecolor='white'))
_MARKERS = 'osD^v<>pPX'
_MOST_LABELS = 4
# Where the labels stand, so that the two runs' do not lie on each other.
_PLACES = (dict(xytext=(5, 4), ha='left', va='bottom'),
           dict(xytext=(-5, -4), ha='right', va='top'))


def draw_trajectories(found: Comparison, path: str) -> None:
    """Training detection loss against validation AP, a point per validation.

    On the left as logged while training, on the right measured again on the
    fixed images, where the weights are still there.

    Args:
        found: What was measured.
        path: Where the PNG is written.
    """
    figure = Figure(figsize=(11, 4.8), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    for of, style, place in zip((found.first, found.second), _STYLES,
                                _PLACES, strict=True):
        aps = [at.ap for at, _ in of.trajectory]
        names = [at.label for at, _ in of.trajectory]
        stages = [at.stage for at, _ in of.trajectory]
        _way(left, [at.logged for at, _ in of.trajectory], aps, names,
             stages, of.name, style, place)
        _way(right, [loss for _, loss in of.trajectory], aps, names, stages,
             of.name, style, place)
    for axes in (left, right):
        axes.margins(x=.09)  # labels stand beside the outermost points
    left.set_xlabel('training detection loss, as logged in the last epoch')
    right.set_xlabel(f'the same, measured again on {found.images} fixed '
                     'training images')
    left.set_ylabel('validation box AP')
    left.legend(loc='best', frameon=False)
    figure.suptitle('Training loss against validation AP '
                    '(labels: stage.epoch; a marker for each stage)',
                    fontsize=10)
    _save(figure, path)


def _way(axes: Axes, losses: Sequence[float], aps: Sequence[float],
         names: Sequence[str], stages: Sequence[int], name: str,
         style: dict, place: dict) -> None:
    points = [i for i, loss in enumerate(losses) if np.isfinite(loss)]
    axes.plot([losses[i] for i in points], [aps[i] for i in points],
              linewidth=1, label=name, color=style['color'],
              linestyle=style['linestyle'])
    for i in points:
        axes.plot(losses[i], aps[i], markersize=5, **{
            **style, 'marker': _MARKERS[(stages[i] - 1) % len(_MARKERS)]})
    for i in _labelled(points, stages):
        axes.annotate(names[i], (losses[i], aps[i]), fontsize=7,
                      textcoords='offset points', color=style['color'],
                      **place)


def _labelled(points: Sequence[int], stages: Sequence[int]) -> list[int]:
    """Each stage's first and last point, and some between, where all would
    lie on each other."""
    chosen = []
    for stage in dict.fromkeys(stages):
        own = [i for i in points if stages[i] == stage]
        count = min(len(own), _MOST_LABELS)
        chosen += [own[round(k * (len(own) - 1) / max(1, count - 1))]
                   for k in range(count)]
    return chosen


def draw_landscapes(found: Comparison, path: str) -> None:
    """The loss around both final students: the same directions, the same
    scale, the same colours and contours.

    Args:
        found: What was measured.
        path: Where the PNG is written.
    """
    both = np.stack([found.first.surface, found.second.surface])
    finite = both[np.isfinite(both) & (both > 0)]
    norm = LogNorm(finite.min(), finite.max()) if finite.size \
        and finite.min() < finite.max() else None
    levels = np.geomspace(finite.min(), finite.max(), 12)[1:-1] if norm \
        else None
    figure = Figure(figsize=(11, 5), layout='constrained')
    panels = figure.subplots(1, 2, sharey=True)
    for axes, of in zip(panels, (found.first, found.second), strict=True):
        image = _panel(axes, found, of, norm, levels)
    panels[0].set_ylabel('second direction, in filter norms')
    bar = figure.colorbar(image, ax=list(panels), label='detection loss, mean '
                          f'over {found.images} training images')
    if levels is not None:  # plain numbers, the same as on the contours
        bar.set_ticks(levels.tolist(),
                      labels=[f'{level:.2g}' for level in levels])
        bar.minorticks_off()
    figure.suptitle('Loss around the final students (same filter-normalised '
                    'directions and scale;\ncross: the student, circle: where '
                    'sharpness is measured, white: not finite)', fontsize=10)
    _save(figure, path)


def _panel(axes: Axes, found: Comparison, of: Measured, norm: LogNorm | None,
           levels: np.ndarray | None) -> AxesImage:
    edge = found.coordinates
    half = (edge[1] - edge[0]) / 2
    image = axes.imshow(
        of.surface, origin='lower', norm=norm, cmap='viridis',
        interpolation='nearest',
        extent=(edge[0] - half, edge[-1] + half) * 2)
    if levels is not None:
        lines = axes.contour(edge, edge, of.surface, levels=levels,
                             colors='white', linewidths=0.9)
        # The innermost leave no room for a number.
        axes.clabel(lines, levels[len(levels) // 3:], fontsize=7,
                    fmt=lambda value: f'{value:.2g}')
    axes.plot(0, 0, marker='+', color='white', markersize=9)
    angle = np.linspace(0, 2 * np.pi, 100)
    axes.plot(found.settings.radius * np.cos(angle),
              found.settings.radius * np.sin(angle), color='white',
              linewidth=0.9, linestyle=':')
    axes.set_xlim(edge[0] - half, edge[-1] + half)
    axes.set_ylim(edge[0] - half, edge[-1] + half)
    axes.set_title(f'{of.name}\nloss {of.losses.mean():.3g}, sharpness '
                   f'{of.sharpness("common"):.3g}, AP {of.ap.ap:.1f}',
                   fontsize=9)
    axes.set_xlabel('first direction, in filter norms')
    return image


def _save(figure: Figure, path: str) -> None:
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    figure.savefig(path, dpi=110)
