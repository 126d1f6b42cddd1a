"""Plots of single values, as SVG."""
import io
import math
from typing import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure


def points(groups: Mapping[str, Sequence[float]], label: str, each: str,
           paired: bool = False, beside: Sequence[float] = ()) -> str:
    """Each value as a point, each mean as a line; the SVG is the same every
    time.

    Args:
        groups: Name -> its values.
        label: Of the values.
        each: What a point is.
        paired: Join the values at one place of all groups.
        beside: For each group, the student trained on alone.
    """
    with matplotlib.rc_context({'svg.hashsalt': 'mtpd',
                                'svg.fonttype': 'none'}):
        figure = Figure(figsize=(7, 2.8), layout='constrained')
        axes = figure.subplots()
        if paired:
            axes.plot(range(len(groups)), list(groups.values()), color='C0',
                      lw=.8, alpha=.5)
        for x, values in enumerate(groups.values()):
            shift = np.linspace(-.15, .15, len(values)) \
                if len(values) > 1 and not paired else np.zeros(len(values))
            axes.plot(shift + x, values, 'o', ms=4, alpha=.7, color='C0',
                      label=each)
            axes.hlines(np.mean(values), x - .25, x + .25, color='C1',
                        label='mean')
        if any(map(math.isfinite, beside)):
            axes.plot(range(len(groups)), beside, 'D', ms=5, color='C2',
                      label='trained on alone, as long')
        handles, names = axes.get_legend_handles_labels()
        # Every group has the same names. The legend stands above the axes,
        # where it covers no point.
        shown = dict(zip(names, handles, strict=True))
        figure.legend(shown.values(), shown, ncols=len(shown),
                      loc='outside upper center', frameon=False)
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set_ylabel(label)
        axes.grid(axis='y', alpha=.3)
        out = io.StringIO()
        figure.savefig(out, format='svg', metadata={'Date': None})
    # matplotlib leaves blanks at line ends.
    return '\n'.join(line.rstrip() for line in out.getvalue().splitlines()) \
        + '\n'
