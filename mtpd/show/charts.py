"""Charts of costs and order, readable in black and white.

The axes fill their figure, so that the figure's size follows from the sizes of
the texts. What lies outside of the axes is included when the file is
written.
"""
import os
import textwrap
from itertools import pairwise, permutations
from typing import Any, Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from mtpd.order.costs import AdaptationCosts
from mtpd.order.selection import TeachingOrder

from .cost_text import closest, cost_text, legend, share_text
from .order_layout import Line, OrderLayout


def draw_costs(costs: AdaptationCosts, path: str) -> None:
    """The cost matrix with its numbers, shaded by share of the target's
    variance, which compares between columns; the costs do not.

    Args:
        costs: The matrix.
        path: Where the PNG is written.
    """
    names = costs.names
    texts: dict[tuple[int, int], str] = {}
    shares = np.full((len(names), len(names)), np.nan)
    for (i, source), (j, target) in permutations(enumerate(names), 2):
        texts[i, j] = (f'{cost_text(costs, source, target, 3)}\n'
                       f'{share_text(costs, source, target, 2)}')
        if costs.variance[:, j].all():
            shares[i, j] = costs.normalised_cost(source, target)
    width, height = text_size(texts.values(), bold=True)
    width, height = max(width + 0.3, 0.9), height + 0.3
    figure = Figure(figsize=(width * len(names), height * len(names)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(shares, cmap='Greys', vmin=0, vmax=1.3, aspect='auto')
    for (i, j), text in texts.items():
        axes.text(j, i, text, ha='center', va='center',
                  color='white' if shares[i, j] > 0.75 else 'black',
                  fontweight='bold' if names[i] in closest(costs, names[j])
                  else 'normal')
    tilt: dict[str, Any] = {}
    if text_size(names)[0] > 0.9 * width:
        # Names that are wider than their column would overlap.
        tilt = dict(rotation=35, ha='right', rotation_mode='anchor')
    axes.set_xticks(range(len(names)), names, **tilt)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel('to')
    axes.set_ylabel('from')
    axes.set_title('\n'.join((
        'Adaptation cost: lower is closer. Costs compare within',
        'a column; its closest is bold. Below, and as the shade:',
        "the share of the target's variance, which compares everywhere.",
        *legend(texts.values()))), fontsize=10)
    _save(figure, path)


def draw_order(costs: AdaptationCosts, aps: Mapping[str, float],
               order: TeachingOrder, path: str,
               latencies: Mapping[str, float] | None = None,
               student_ap: float | None = None) -> None:
    """The cost graph: the student and the pool, the chosen path in bold.

    Only the costs into chosen teachers are drawn: from the detectors before
    them and from all teachers that are not chosen.

    Args:
        costs: Between the student and all teachers.
        aps: Teacher -> AP in percent. These are the pool.
        order: Chosen from the pool.
        path: Where the PNG is written.
        latencies: Detector, the student too -> seconds of one prediction; a
            detector that is missing here is shown without latency.
        student_ap: In percent.
    """
    student = next(name for name in costs.names if name not in aps)
    chain = (student, *order.teachers)
    others = tuple(name for name in aps if name not in chain)
    known_aps, latencies = {**aps, student: student_ap}, latencies or {}
    nodes = {}
    for name in (*chain, *others):
        nodes[name] = _node_text(name, known_aps[name], latencies.get(name))
    numbers = {}
    for i, target in enumerate(order.teachers, 1):
        for source in (*chain[:i], *others):
            numbers[source, target] = cost_text(costs, source, target, 3)
    width, height = text_size(nodes.values())
    number_width, _ = text_size(numbers.values(), bold=True)
    layout = OrderLayout(chain, others, width + 0.25, height + 0.2,
                         number_width + 0.15)
    left, right, bottom, top = layout.bounds()
    figure = Figure(figsize=(right - left, top - bottom))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right),
                           ylim=(bottom, top))
    axes.axis('off')
    path_edges = set(pairwise(chain))
    for pair, text in numbers.items():
        _draw_line(axes, layout.line(*pair), text, chosen=pair in path_edges)
    for name, text in nodes.items():
        _draw_node(axes, layout, name, text)
    axes.set_title('\n'.join((
        'Order of the teachers: ' + ' > '.join(order.teachers),
        'Numbers: adaptation cost, lower is closer; bold: the chosen path',
        *textwrap.wrap(order.stop_reason, 64),
        *legend(numbers.values()))), fontsize=10)
    _save(figure, path)


def _node_text(name: str, ap: float | None, seconds: float | None) -> str:
    lines = [name]
    if ap is not None:
        lines.append(f'AP {ap:.1f}')
    if seconds is not None:
        decimals = 0 if seconds >= .01 else 1
        lines.append(f'{1000 * seconds:.{decimals}f} ms')
    return '\n'.join(lines)


def _draw_node(axes: Axes, layout: OrderLayout, name: str,
               text: str) -> None:
    x, y = layout.place(name)
    width, height = layout.width_of(name), layout.height
    student, chosen = name == layout.chain[0], name in layout.chain
    axes.add_patch(FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, zorder=4,
        boxstyle='round,pad=0,rounding_size=0.08', edgecolor='black',
        facecolor='black' if student else 'white',
        linewidth=2 if chosen else 0.8, linestyle='-' if chosen else '--'))
    axes.text(x, y, text, ha='center', va='center', zorder=5,
              color='white' if student else 'black')


def _draw_line(axes: Axes, line: Line, text: str,
               chosen: bool) -> None:
    code = Path.CURVE3 if line.curved else Path.LINETO
    codes = [Path.MOVETO] + [code] * (len(line.points) - 1)
    axes.add_patch(FancyArrowPatch(
        path=Path(line.points, codes), arrowstyle='-|>', mutation_scale=14,
        zorder=2, linewidth=3 if chosen else 1,
        color='black' if chosen else '0.35',
        linestyle='-' if chosen else '--'))
    axes.text(*line.number, text, ha='center', va='center', zorder=3,
              fontweight='bold' if chosen else 'normal',
              bbox=dict(boxstyle='round,pad=0.1', facecolor='white',
                        edgecolor='none'))


def text_size(texts: Iterable[str], bold: bool = False) -> tuple[float, float]:
    """Width and height in inches that hold each of the texts, in the default
    font."""
    font = FontProperties(weight='bold' if bold else 'normal')
    widths, line_counts = [], []
    for text in texts:
        lines = text.split('\n')
        line_counts.append(len(lines))
        for line in filter(None, lines):
            outline = TextPath((0, 0), line, prop=font)
            widths.append(outline.get_extents().width / 72)
    return max(widths), 0.17 * max(line_counts)


def _save(figure: Figure, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches='tight', pad_inches=0.15)
