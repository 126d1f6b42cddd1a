"""Pictures of costs and order, readable in black and white."""
import math
import os
from typing import Mapping

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from mtpd.order.adaptation_cost import AdaptationCosts
from mtpd.order.selection import TeachingOrder

matplotlib.rcParams['savefig.dpi'] = 130


def draw_costs(costs: AdaptationCosts, path: str) -> None:
    """The cost matrix with its numbers, shaded by share of the target's
    variance (comparable between columns; the raw costs are not)."""
    names = costs.names
    share = costs.matrix(normalised=True)
    figure = Figure(figsize=(1.6 + 1.25 * len(names), 1.4 + 0.8 * len(names)))
    axes = figure.add_subplot()
    axes.imshow(share, cmap='Greys', vmin=0, vmax=1.3, aspect='auto')
    for i, source in enumerate(names):
        for j, target in enumerate(names):
            if i != j:
                axes.text(j, i, f'{costs.cost(source, target):.3g}\n'
                          f'{share[i, j]:.2f}', ha='center', va='center',
                          color='white' if share[i, j] > 0.75 else 'black')
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel('to')
    axes.set_ylabel('from')
    axes.set_title('Adaptation cost\n(below: share of the target\'s variance)',
                   fontsize=10)
    _save(figure, path)


def draw_order(costs: AdaptationCosts, aps: Mapping[str, float],
               order: TeachingOrder, path: str) -> None:
    """The cost graph: the student and the pool, the chosen path in bold.

    Only the edges that the selection compared are drawn: those into a chosen
    teacher, the student's own among them.
    """
    student = next(n for n in costs.names if n not in aps)
    others = [n for n in aps if n not in order.teachers]
    chain = [student, *order.teachers]
    place = {name: (2.6 * i, 0.0) for i, name in enumerate(chain)}
    middle = 1.3 * (len(chain) - 1)
    for i, name in enumerate(others):
        side = 1 if i % 2 == 0 else -1
        place[name] = (middle + 2.4 * (i // 2 - (len(others) - 1) // 4),
                       side * 2.0)
    figure = Figure(figsize=(3.2 + 2.4 * len(chain), 5.4))
    axes = figure.add_subplot()
    path_edges = set(zip(chain, chain[1:]))
    for target in order.teachers:
        position = chain.index(target)
        for source in costs.names:
            if source in chain[position:]:
                continue
            _edge(axes, place[source], place[target],
                  f'{costs.cost(source, target):.3g}',
                  chosen=(source, target) in path_edges)
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
    axes.set_ylim(-2.9, 2.9)
    axes.axis('off')
    axes.set_title('Order of the teachers: ' + ' > '.join(order.teachers)
                   + '\nnumbers: adaptation cost; bold: the chosen path',
                   fontsize=10)
    _save(figure, path)


def _edge(axes, start: tuple[float, float], end: tuple[float, float],
          label: str, chosen: bool) -> None:
    length = math.dist(start, end)
    # Neighbours on the line are joined straight; what passes over others bows.
    straight = length < 3.2
    bow = 0.0 if straight else -0.35
    axes.add_patch(FancyArrowPatch(
        start, end, connectionstyle=f'arc3,rad={bow}', shrinkA=30, shrinkB=30,
        arrowstyle='-|>', mutation_scale=16, zorder=2,
        linewidth=3 if chosen else 1, color='black' if chosen else '0.45',
        linestyle='-' if chosen else '--'))
    dx, dy = end[0] - start[0], end[1] - start[1]
    x = (start[0] + end[0]) / 2 - bow * dy / 2
    y = (start[1] + end[1]) / 2 + bow * dx / 2
    axes.text(x, y - (0.0 if not straight else -0.22), label, ha='center',
              va='center', fontsize=9, zorder=3,
              fontweight='bold' if chosen else 'normal',
              bbox=dict(boxstyle='round,pad=0.15', facecolor='white',
                        edgecolor='none'))


def _save(figure: Figure, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    figure.savefig(path, bbox_inches='tight')
