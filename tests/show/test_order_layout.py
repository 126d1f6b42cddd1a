"""Boxes, numbers and lines in the chart of an order do not overlap."""
from itertools import combinations, product

import numpy as np
import pytest

from mtpd.show.order_layout import Line, OrderLayout

NAMES = tuple('abcdefgh')
SIZES = ((1.33, 0.71, 0.6), (0.5, 0.37, 0.75), (1.4, 0.71, 1.0))
"""Width and height of a box, width of a number."""


def layouts(teachers: int):
    for size, others in product(SIZES, range(len(NAMES) - teachers + 1)):
        yield OrderLayout(('S', *NAMES[:teachers]),
                          NAMES[teachers:teachers + others], *size)


def boxes(layout: OrderLayout) -> dict[str, np.ndarray]:
    """Name -> (left, bottom), (right, top)."""
    return {name: layout.place(name) + np.array(
        [layout.width_of(name), layout.height]) / 2 * [[-1], [1]]
        for name in (*layout.chain, *layout.others)}


def lines(layout: OrderLayout) -> dict[tuple[str, str], Line]:
    return {(source, target): layout.line(source, target)
            for i, target in enumerate(layout.chain) if i
            for source in (*layout.chain[:i], *layout.others)}


def number_box(layout: OrderLayout, line: Line) -> np.ndarray:
    # A line of text at 10 points is 0.15 high; the width has 0.15 of air.
    return line.number + np.array([layout.number - 0.1, 0.16]) / 2 * [[-1],
                                                                      [1]]


def points(line: Line) -> np.ndarray:
    """Points along a line: (200, 2)."""
    share = np.linspace(0, 1, 200)[:, None]
    corners = np.array(line.points)
    if line.curved:
        start, pull, end = corners
        return ((1 - share) ** 2 * start + 2 * share * (1 - share) * pull
                + share ** 2 * end)
    at = share[:, 0] * (len(corners) - 1)
    return np.stack([np.interp(at, range(len(corners)), corners[:, axis])
                     for axis in (0, 1)], 1)


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.maximum(a[0], b[0]) < np.minimum(a[1], b[1])).all())


def crosses(way: np.ndarray, box: np.ndarray) -> bool:
    return bool(((way > box[0] + 1e-9) & (way < box[1] - 1e-9)).all(1).any())


@pytest.mark.parametrize('teachers', range(1, 6))
def test_boxes_numbers_and_lines_keep_apart(teachers):
    for layout in layouts(teachers):
        of, drawn = boxes(layout), lines(layout)
        numbers = {pair: number_box(layout, line)
                   for pair, line in drawn.items()}
        for a, b in combinations((*of.values(), *numbers.values()), 2):
            assert not overlap(a, b), layout
        for pair, line in drawn.items():
            way = points(line)
            for name, box in of.items():
                assert not crosses(way, box), (layout, pair, name)
            for other, box in numbers.items():
                assert other == pair or not crosses(way, box), (
                    layout, pair, other)


@pytest.mark.parametrize('teachers', range(1, 6))
def test_a_line_joins_its_boxes_and_carries_its_number(teachers):
    for layout in layouts(teachers):
        of = boxes(layout)
        for (source, target), line in lines(layout).items():
            way = points(line)
            for end, name in ((way[0], source), (way[-1], target)):
                outside = np.maximum(of[name][0] - end, end - of[name][1])
                assert outside.max() == pytest.approx(0), (layout, source)
            # In the line, or just above it.
            away = np.abs(way - line.number).max(1).min()
            assert away < 0.15, (layout, source, target)


@pytest.mark.parametrize('teachers', range(1, 6))
def test_no_two_lines_begin_or_end_in_one_place(teachers):
    for layout in layouts(teachers):
        ends = [end for line in lines(layout).values()
                for end in (line.points[0], line.points[-1])]
        for a, b in combinations(np.array(ends), 2):
            assert np.abs(a - b).max() > 0.05, layout


@pytest.mark.parametrize('teachers', range(1, 6))
def test_the_bounds_hold_it_all(teachers):
    for layout in layouts(teachers):
        left, right, bottom, top = layout.bounds()
        drawn = [*boxes(layout).values()]
        for line in lines(layout).values():
            drawn += [points(line), number_box(layout, line)]
        x, y = np.concatenate(drawn).T
        assert left < x.min() and x.max() < right
        assert bottom < y.min() and y.max() < top
