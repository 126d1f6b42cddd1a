"""Pictures of costs and order, readable in black and white."""
import os
from typing import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from mtpd.order.adaptation_cost import AdaptationCosts
from mtpd.order.selection import TeachingOrder

matplotlib.rcParams['savefig.dpi'] = 130


def draw_costs(costs: AdaptationCosts, path: str) -> None:
    """The cost matrix with its numbers, shaded by share of the target's
    variance (comparable between columns; the raw costs are not)."""
    names = costs.names
    share = _shares(costs)
    figure = Figure(figsize=(1.6 + 1.25 * len(names), 1.4 + 0.8 * len(names)))
    axes = figure.add_subplot()
    axes.imshow(share, cmap='Greys', vmin=0, vmax=1.3, aspect='auto')
    for i, source in enumerate(names):
        for j, target in enumerate(names):
            if i != j:
                said = '-' if np.isnan(share[i, j]) else f'{share[i, j]:.2f}'
                axes.text(j, i, f'{costs.cost(source, target):.3g}\n'
                          f'{said}', ha='center', va='center',
                          color='white' if share[i, j] > 0.75 else 'black')
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel('to')
    axes.set_ylabel('from')
    axes.set_title('Adaptation cost\n(below: share of the target\'s variance)',
                   fontsize=10)
    _save(figure, path)


def _shares(costs: AdaptationCosts) -> np.ndarray:
    """The normalised matrix; nan also into a target without variance."""
    shares = np.full((len(costs.names), len(costs.names)), np.nan)
    for i, source in enumerate(costs.names):
        for j, target in enumerate(costs.names):
            if i != j and all(costs.variance[target].values()):
                shares[i, j] = costs.normalised_cost(source, target)
    return shares


def draw_order(costs: AdaptationCosts, aps: Mapping[str, float],
               order: TeachingOrder, path: str) -> None:
    """The cost graph: the student and the pool, the chosen path in bold.

    Only the edges that the selection compared are drawn: those into a chosen
    teacher, the student's own among them.
    """
    student = next(n for n in costs.names if n not in aps)
    others = [n for n in aps if n not in order.teachers]
    chain = [student, *order.teachers]
    # The chain on a line, the others above it: edges that skip a link of the
    # chain bow below it, so nothing crosses a node.
    place = {name: (2.6 * i, 0.0) for i, name in enumerate(chain)}
    middle = 1.3 * (len(chain) - 1)
    for i, name in enumerate(others):
        place[name] = (middle + 2.6 * (i - (len(others) - 1) / 2), 2.0)
    figure = Figure(figsize=(3.2 + 2.4 * len(chain), 5 if others else 3.6))
    axes = figure.add_subplot()
    path_edges = set(zip(chain, chain[1:]))
    for target in order.teachers:
        position = chain.index(target)
        for source in costs.names:
            if source in chain[position:]:
                continue
            _edge(axes, place[source], place[target],
                  f'{costs.cost(source, target):.3g}',
                  chosen=(source, target) in path_edges,
                  skips=source in chain and position - chain.index(source) > 1)
    for name, (x, y) in place.items():
        chosen = name in chain
        label = name if name == student else f'{name}\nAP {aps[name]:.1f}'
        axes.text(x, y, label, ha='center', va='center', zorder=4,
                  bbox=dict(boxstyle='round,pad=0.5',
                            facecolor='black' if name == student else 'white',
                            edgecolor='black', linewidth=2 if chosen else 0.8,
                            linestyle='-' if chosen else '--'),
                  color='white' if name == student else 'black')
    xs = [x for x, _ in place.values()]
    axes.set_xlim(min(xs) - 1.2, max(xs) + 1.2)
    lowest = -0.15 * 2.6 * max(len(chain) - 1, 1)
    axes.set_ylim(lowest - 0.5, 2.7 if others else 0.9)
    axes.axis('off')
    axes.set_title('Order of the teachers: ' + ' > '.join(order.teachers)
                   + '\nnumbers: adaptation cost; bold: the chosen path',
                   fontsize=10)
    _save(figure, path)


def _edge(axes: Axes, start: tuple[float, float], end: tuple[float, float],
          label: str, chosen: bool, skips: bool) -> None:
    bow = 0.3 if skips else 0.0
    axes.add_patch(FancyArrowPatch(
        start, end, connectionstyle=f'arc3,rad={bow}', shrinkA=34, shrinkB=34,
        arrowstyle='-|>', mutation_scale=16, zorder=2,
        linewidth=3 if chosen else 1, color='black' if chosen else '0.45',
        linestyle='-' if chosen else '--'))
    # arc3's curve passes half a bow beside the middle of its chord. Straight
    # edges carry their number nearer to the source, where they lie apart.
    share = 0.5 if skips or chosen else 0.4
    x = start[0] + share * (end[0] - start[0]) + bow * (end[1] - start[1]) / 2
    y = start[1] + share * (end[1] - start[1]) - bow * (end[0] - start[0]) / 2
    axes.text(x, y + (0.25 if chosen else 0), label, ha='center', va='center',
              fontsize=9, zorder=3,
              fontweight='bold' if chosen else 'normal',
              bbox=dict(boxstyle='round,pad=0.15', facecolor='white',
                        edgecolor='none'))


def _save(figure: Figure, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    figure.savefig(path, bbox_inches='tight')
