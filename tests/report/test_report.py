"""What is printed and drawn says what was measured."""
from dataclasses import dataclass

import numpy as np
import pytest
from matplotlib.image import imread

from mtpd.order.adaptation_cost import AdaptationCosts
from mtpd.order.rivals import compare_orders
from mtpd.order.selection import backward_greedy_selection
from mtpd.report.pictures import draw_costs, draw_order
from mtpd.report.tables import (cost_table, level_table, progression_table,
                                rivals_table)

# Published graph of the paper, with the two edges that it does not draw.
PUBLISHED = {('S', 'I'): .939, ('S', 'II'): .060, ('I', 'II'): .070,
             ('II', 'I'): 1.181, ('I', 'III'): .934, ('II', 'III'): 1.94,
             ('I', 'IV'): .963, ('II', 'IV'): 1.401, ('III', 'IV'): .89,
             ('S', 'III'): 2.5, ('S', 'IV'): 3.0}
APS = {'I': 38.2, 'II': 38.7, 'III': 42.3, 'IV': 47.0}


@pytest.fixture
def published() -> AdaptationCosts:
    names = ('S', 'I', 'II', 'III', 'IV')
    return AdaptationCosts(
        names, (8, 16), mse={
            (a, b): {8: PUBLISHED.get((a, b), 5.) - .01,
                     16: PUBLISHED.get((a, b), 5.) + .01}
            for a in names for b in names if a != b},
        variance={n: {8: 2., 16: 2.} for n in names},
        positions={8: 100, 16: 25})


@dataclass
class Stage:
    index: int
    teacher: str
    start: float | None
    end: float
    seconds: float = 90.


def test_tables_show_every_cost(published):
    table, levels = cost_table(published), level_table(published)
    for cost in ('0.939 (', '0.06 (0.030)', '1.94 (0.970)'):
        assert cost in table
    assert 'strides 8, 16' in table
    assert 'S > II' in levels and '0.05' in levels and '0.07' in levels


def test_a_stage_below_its_start_and_the_best_are_named():
    table = progression_table([Stage(1, 'a', 30., 33.5),
                               Stage(2, 'b', 33.5, 32.)])
    first, second = (next(line for line in table.splitlines() if name in line)
                     for name in ('1 a', '2 b'))
    assert '+3.5' in first and 'best' in first and 'below' not in first
    assert '-1.5' in second and 'ended below its start' in second
    unknown = progression_table([Stage(1, 'a', None, 3.)])
    assert 'below' not in unknown
    assert '(no teacher)' in progression_table([Stage(1, 'a', 1., 2.)],
                                               taught=False)


def test_pictures_are_drawn_and_show_something(published, tmp_path):
    order = backward_greedy_selection(published.cost, 'S', APS, 3)
    assert order.teachers == ('I', 'III', 'IV')
    draw_costs(published, str(tmp_path / 'costs.png'))
    draw_order(published, APS, order, str(tmp_path / 'order.png'))
    for name in ('costs.png', 'order.png'):
        picture = imread(tmp_path / name)[..., :3]
        assert min(picture.shape[:2]) > 300
        dark = (picture.mean(-1) < 0.5).mean()
        assert 0.005 < dark < 0.6
        # Black and white: no colour is needed to read it.
        assert np.abs(picture - picture.mean(-1, keepdims=True)).max() < 0.02


def test_rivals_of_the_published_graph(published):
    lines = rivals_table(compare_orders(published, 'S', APS)).splitlines()
    said = {line.split('│')[1].strip(): [c.strip() for c in
                                         line.split('│')[2:4]]
            for line in lines if '>' in line}
    assert said['backward greedy'] == ['I > III > IV', '2.763']
    assert said['shortest path'] == ['II > IV', '1.461']
    assert said['smallest bottleneck'] == ['I > III > IV', '2.763']


def test_a_target_that_is_constant_has_no_share(published, tmp_path):
    published.variance['I'][8] = 0.
    row = next(line for line in cost_table(published).splitlines()
               if line.startswith('│ S '))
    assert '0.939 (-)' in row and '0.06 (0.030)' in row
    draw_costs(published, str(tmp_path / 'costs.png'))
    assert imread(tmp_path / 'costs.png').std() > 0.1
