"""Charts of costs and order, readable in black and white.

The axes fill their figure, so that sizes can be reckoned from those of texts;
what stands outside of them is taken in when the file is written.
"""
import os
from itertools import pairwise
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

from .cost_text import cost_text, legend, share_text
from .order_layout import Line, OrderLayout


def draw_costs(costs: AdaptationCosts, path: str) -> None:
    """The cost matrix with its numbers, shaded by share of the target's
    variance (comparable between columns; the raw costs are not)."""
    names = costs.names
    texts = {(source, target): f'{cost_text(costs, source, target, 3)}\n'
                               f'{share_text(costs, source, target, 2)}'
             for source in names for target in names if source != target}
    width, height = text_size(texts.values())
    width, height = max(width + 0.3, 0.9), height + 0.3
    figure = Figure(figsize=(width * len(names), height * len(names)))
    axes = figure.add_axes((0, 0, 1, 1))
    share = _shares(costs)
    axes.imshow(share, cmap='Greys', vmin=0, vmax=1.3, aspect='auto')
    for (source, target), text in texts.items():
        i, j = names.index(source), names.index(target)
        axes.text(j, i, text, ha='center', va='center',
                  color='white' if share[i, j] > 0.75 else 'black')
    # Names that are wider than their column would lie on each other.
    tilted = text_size(names)[0] > 0.9 * width
    tilt: dict[str, Any] = dict(
        rotation=35, ha='right', rotation_mode='anchor') if tilted else {}
    axes.set_xticks(range(len(names)), names, **tilt)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel('to')
    axes.set_ylabel('from')
    axes.set_title("Adaptation cost\n(below: share of the target's variance)"
                   + legend([texts.values()]), fontsize=10)
    _save(figure, path)


def _shares(costs: AdaptationCosts) -> np.ndarray:
    """The normalised matrix; nan also into a target without variance."""
    shares = np.full((len(costs.names), len(costs.names)), np.nan)
    for i, source in enumerate(costs.names):
        for j, target in enumerate(costs.names):
            if i != j and costs.variance[:, j].all():
                shares[i, j] = costs.normalised_cost(source, target)
    return shares


def draw_order(costs: AdaptationCosts, aps: Mapping[str, float],
               order: TeachingOrder, path: str,
               latencies: Mapping[str, float] | None = None,
               student_ap: float | None = None) -> None:
    """The cost graph: the student and the pool, the chosen path in bold.

    Only the costs into chosen teachers are drawn: from those before them and
    from all that are not chosen.

    Args:
        costs: Between the student and all teachers.
        aps: Teacher -> AP in percent. These are the pool.
        order: Chosen from it.
        path: Where the PNG is written.
        latencies: Detector, the student too -> seconds of one prediction; one
            that is missing is shown without.
        student_ap: In percent.
    """
    student = next(n for n in costs.names if n not in aps)
    chain = (student, *order.teachers)
    others = tuple(n for n in aps if n not in chain)
    nodes = {name: _node_text(name, {**aps, student: student_ap}[name],
                              (latencies or {}).get(name))
             for name in (*chain, *others)}
    numbers = {(source, target): cost_text(costs, source, target, 3)
               for i, target in enumerate(order.teachers, 1)
               for source in (*chain[:i], *others)}
    width, height = text_size(nodes.values())
    layout = OrderLayout(chain, others, width + 0.25, height + 0.2,
                         text_size(numbers.values(), bold=True)[0] + 0.15)
    left, right, bottom, top = layout.bounds()
    figure = Figure(figsize=(right - left, top - bottom))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right),
                           ylim=(bottom, top))
    axes.axis('off')
    path_edges = set(pairwise(chain))
    for pair, text in numbers.items():
        _line(axes, layout.line(*pair), text, chosen=pair in path_edges)
    for name, text in nodes.items():
        _node(axes, layout, name, text)
    axes.set_title('Order of the teachers: ' + ' > '.join(order.teachers)
                   + '\nnumbers: adaptation cost; bold: the chosen path'
                   + legend([numbers.values()]), fontsize=10)
    _save(figure, path)


def _node_text(name: str, ap: float | None, seconds: float | None) -> str:
    lines = [name]
    if ap is not None:
        lines.append(f'AP {ap:.1f}')
    if seconds is not None:
        lines.append(f'{1000 * seconds:.{0 if seconds >= .01 else 1}f} ms')
    return '\n'.join(lines)


def _node(axes: Axes, layout: OrderLayout, name: str, text: str) -> None:
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


def _line(axes: Axes, line: Line, text: str, chosen: bool) -> None:
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
    """Width and height in inches of the largest, in the default font."""
    font = FontProperties(weight='bold' if bold else 'normal')
    lines = [text.split('\n') for text in texts]
    widths = [TextPath((0, 0), line, prop=font).get_extents().width / 72
              for text in lines for line in text if line]
    return max(widths), 0.17 * max(map(len, lines))


def _save(figure: Figure, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches='tight', pad_inches=0.15)
