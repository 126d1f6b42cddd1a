"""Where boxes, lines and numbers stand in the chart of an order."""
from dataclasses import dataclass
from typing import NamedTuple

Point = tuple[float, float]

_GAP = 0.25  # between neighbours
_DEEPER = 0.35  # for each link of the chain that a bow spans


class Line(NamedTuple):
    """A line of the graph.

    Attributes:
        points: From the source's edge to the target's.
        curved: Whether the points are start, control point and end of a
            quadratic Bezier curve.
        number: Centre of the cost that is written on it.
    """
    points: tuple[Point, ...]
    curved: bool
    number: Point


@dataclass(frozen=True)
class OrderLayout:
    """Positions in inches, x to the right and y upwards, from the student.

    The student and the chosen teachers stand in a row; a line that skips some
    of them is a bow below this row. The other teachers stand in a row above.
    The costs out of one of these stand in a row just below its box, one for
    each chosen teacher in their order, and the box is as wide as this row. Its
    lines separate only below the numbers, so no line crosses a number.

    Attributes:
        chain: The student, then the chosen teachers, first to last.
        others: The rest of the pool.
        width: Of the text in the widest box, with its margin.
        height: Of a detector's box.
        number: Width of the widest number, with its margin.
    """
    chain: tuple[str, ...]
    others: tuple[str, ...]
    width: float
    height: float
    number: float

    def place(self, name: str) -> Point:
        """Centre of a detector's box."""
        if name in self.chain:
            return self.chain.index(name) * self._step, 0.
        middle = len(self.chain) / 2 * self._step  # of the chosen teachers
        widths = [self.width_of(other) for other in self.others]
        offset = _spread(self.others.index(name), len(self.others),
                         (self.width_of(name) + _GAP) * len(self.others))
        # Lines that are too flat would overlap.
        reach = max(len(self.chain) * self._step, sum(widths)) / 2
        return middle + offset, self.height + max(1.5, 0.3 * reach)

    def width_of(self, name: str) -> float:
        """Width of a detector's box."""
        return self.width if name in self.chain \
            else max(self.width, self._numbers)

    def line(self, source: str, target: str) -> Line:
        """From a detector to a chosen teacher."""
        (x, y), (x_end, y_end) = self.place(source), self.place(target)
        if source in self.others:  # down, first through its number
            x += _spread(self.chain.index(target) - 1, len(self.chain) - 1,
                         self._numbers)
            x_end += _spread(self.others.index(source), len(self.others),
                             0.9 * self.width)
            y, y_end = y - self.height / 2, y_end + self.height / 2
            return Line(((x, y), (x, y - 0.4), (x_end, y_end)), False,
                        (x, y - 0.25))
        links = self.chain.index(target) - self.chain.index(source)
        if links == 1:  # along the row
            x, x_end = x + self.width / 2, x_end - self.width / 2
            return Line(((x, y), (x_end, y)), False,
                        ((x + x_end) / 2, y + 0.13))
        start, end = self._below(source, target), self._below(target, source)
        middle = (start[0] + end[0]) / 2
        depth = _DEEPER * links
        # A quadratic curve goes half as far as its control point.
        return Line((start, (middle, start[1] - 2 * depth), end), True,
                    (middle, start[1] - depth))

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of the whole graph."""
        margin = 0.15  # half a border, half a number
        names = *self.chain, *self.others
        left, right = [], []
        for name in names:
            x, y = self.place(name)
            left.append(x - 0.5 * self.width_of(name))
            right.append(x + 0.5 * self.width_of(name))
        deepest = -self.height / 2 - _DEEPER * (len(self.chain) - 1)
        return (min(left) - margin, max(right) + margin, deepest - margin,
                y + self.height / 2 + margin)

    @property
    def _step(self) -> float:
        return self.width + self.number + 0.3

    @property
    def _numbers(self) -> float:
        return self.number * (len(self.chain) - 1)

    def _below(self, name: str, other: str) -> Point:
        """Where the bow to or from ``other`` touches the box of ``name``.

        Bows of one box do not cross: from left to right stand first the bows
        from earlier detectors, the nearest first, then the bows to later ones,
        the farthest first."""
        place = self.chain.index(name)
        ends = [*self.chain[:max(place - 1, 0)][::-1],
                *self.chain[place + 2:][::-1]]
        x, y = self.place(name)
        return x + _spread(ends.index(other), len(ends),
                           0.8 * self.width), y - self.height / 2


def _spread(index: int, count: int, width: float) -> float:
    """The middle of one of ``count`` equal parts of a width centred on 0."""
    return width * ((index + 0.5) / count - 0.5)
