"""Where everything stands in the chart of an order; plain geometry."""
from dataclasses import dataclass
from typing import NamedTuple

Point = tuple[float, float]

_GAP = 0.25  # between neighbours
_DEEPER = 0.35  # for each link of the chain that a line skips


class Line(NamedTuple):
    """A line of the graph and its number's centre.

    Attributes:
        points: From the source's edge to the target's.
        curved: Whether the second of three points only pulls.
        number: Where the cost stands.
    """
    points: tuple[Point, ...]
    curved: bool
    number: Point


@dataclass(frozen=True)
class OrderLayout:
    """Places in inches, x to the right and y upwards, from the student.

    The student and the chosen teachers stand in a row, lines that skip some
    of them bow below it. The others stand in a row above. Each has its numbers
    in a row just below it, one for each chosen teacher in their order, and is
    as wide as these; its lines part only below them, so none crosses a number.

    Attributes:
        chain: The student, then the chosen teachers, first to last.
        others: The rest of the pool.
        width: What a detector's box needs.
        height: Of a detector's box.
        number: Width of the widest number, with what it needs around it.
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
        return middle + _spread(
            self.others.index(name), len(self.others),
            (self.width_of(name) + _GAP) * len(self.others)), self._above

    def width_of(self, name: str) -> float:
        """Of a detector's box."""
        return self.width if name in self.chain \
            else max(self.width, self._numbers)

    def line(self, source: str, target: str) -> Line:
        """From a detector to a chosen teacher."""
        if source in self.others:
            return self._down(source, target)
        if self._links(source, target) > 1:
            return self._bow(source, target)
        (start, y), (end, _) = self.place(source), self.place(target)
        start, end = start + self.width / 2, end - self.width / 2
        return Line(((start, y), (end, y)), False,
                    ((start + end) / 2, y + 0.13))

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of it all."""
        names = *self.chain, *self.others
        sides = [self.place(name)[0] + side * self.width_of(name)
                 for name in names for side in (-0.5, 0.5)]
        air = 0.15  # half a border, half a number
        return (min(sides) - air, max(sides) + air,
                -self.height / 2 - _DEEPER * (len(self.chain) - 1) - air,
                self.place(names[-1])[1] + self.height / 2 + air)

    @property
    def _step(self) -> float:
        return self.width + self.number + 0.3

    @property
    def _numbers(self) -> float:
        return self.number * (len(self.chain) - 1)

    @property
    def _above(self) -> float:
        # Lines that are too flat lie on each other.
        reach = max(len(self.chain) * self._step, sum(
            self.width_of(name) for name in self.others)) / 2
        return self.height + max(1.5, 0.3 * reach)

    def _links(self, source: str, target: str) -> int:
        return self.chain.index(target) - self.chain.index(source)

    def _down(self, source: str, target: str) -> Line:
        (x, y), (end, y_end) = self.place(source), self.place(target)
        x += _spread(self.chain.index(target) - 1, len(self.chain) - 1,
                     self._numbers)
        end += _spread(self.others.index(source), len(self.others),
                       0.9 * self.width)
        y, y_end = y - self.height / 2, y_end + self.height / 2
        return Line(((x, y), (x, y - 0.4), (end, y_end)), False,
                    (x, y - 0.25))

    def _bow(self, source: str, target: str) -> Line:
        start, end = self._below(source, target), self._below(target, source)
        middle = (start[0] + end[0]) / 2
        depth = _DEEPER * self._links(source, target)
        # A quadratic curve goes half as far as the point that pulls it.
        return Line((start, (middle, start[1] - 2 * depth), end), True,
                    (middle, start[1] - depth))

    def _below(self, name: str, other: str) -> Point:
        """Where a bow between them leaves ``name``: so that no two that leave
        it cross, from the left those that come, the nearest first, then those
        that go, the farthest first."""
        place = self.chain.index(name)
        ends = [*self.chain[:max(place - 1, 0)][::-1],
                *self.chain[place + 2:][::-1]]
        x, y = self.place(name)
        return x + _spread(ends.index(other), len(ends),
                           0.8 * self.width), y - self.height / 2


def _spread(index: int, count: int, width: float) -> float:
    """The middle of one of ``count`` equal parts of a width about 0."""
    return width * ((index + 0.5) / count - 0.5)
