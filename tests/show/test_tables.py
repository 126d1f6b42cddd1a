"""What is printed says what was measured."""
from dataclasses import dataclass, replace

import numpy as np

from mtpd.order.baselines import OrderRow, compare_orders
from mtpd.show.tables import (baselines_table, cost_table, level_table,
                              progression_table, text_table)


@dataclass
class Stage:
    index: int
    teacher: str
    start: float | None
    end: float
    seconds: float = 90.


def cells(table: str) -> dict[str, list[str]]:
    """First cell of each row -> the others; the heading is one of them."""
    lines = table.replace('┃', '│').splitlines()
    rows = ([cell.strip() for cell in line.split('│')[1:-1]]
            for line in lines if line[0] == '│')
    return {first: others for first, *others in rows}


def test_tables_show_every_cost(published):
    costs, levels = cells(cost_table(published)), level_table(published)
    assert costs['from \\ to'] == ['S', 'I', 'II', 'III', 'IV']
    assert costs['S'] == ['-', '0.939 (0.469)', '0.06 (0.030)', '2.5 (1.250)',
                          '3 (1.500)']
    assert 'strides 8, 16' in cost_table(published)
    assert cells(levels)['pair'] == ['stride 8', 'stride 16', 'mean']
    assert cells(levels)['S > II'] == ['0.05', '0.07', '0.06']
    assert len(cells(levels)) == 1 + 20
    assert 'told' not in cost_table(published) + levels


def test_what_is_below_resolution_is_shown_as_a_bound(published, limits):
    # Of variances of 2 and 6: bounds of 2e-6 and 6e-5.
    published.variance[published.at(16, 'II')] = 6.
    published.mse[:, 0, 2] = 1.9e-6, 0.  # from S to II
    published.mse[:, 1, 2] = 1.9e-6, 6.1e-5  # from I to II
    costs = replace(published, resolution=limits(published, 1e-6, 1e-5))
    levels = cells(level_table(costs))
    assert levels['S > II'] == ['< 2e-06', '< 6e-05', '< 3.1e-05']
    # One level that is told makes the mean a number.
    assert levels['I > II'] == ['< 2e-06', '6.1e-05', '3.145e-05']
    assert levels['II > I'] == ['1.171', '1.191', '1.181']
    into = [row[2] for row in cells(cost_table(costs)).values()]
    assert into[:3] == ['II', '< 3.1e-05 (< 5.5e-06)', '3.145e-05 (0.000)']
    for table in (level_table(costs), cost_table(costs)):
        assert table.count('<: too small to be told from rounding') == 1
    # Costs from an older file.
    unknown = replace(costs, resolution=np.full_like(costs.mse, np.nan))
    assert cells(level_table(unknown))['S > II'] == ['1.9e-06', '0', '9.5e-07']
    assert 'told' not in level_table(unknown)


def test_a_mark_in_the_levels_alone_is_explained_there(published, limits):
    published.mse[published.at(8, 'S', 'II')] = 0.
    costs = replace(published, resolution=limits(published, 1e-6, 1e-6))
    assert 'told from rounding' in level_table(costs)
    assert 'told from rounding' not in cost_table(costs)


def test_a_target_that_is_constant_has_no_share(published, limits):
    published.variance[published.at(8, 'I')] = 0.
    costs = replace(published, resolution=limits(published, 1e-6, 1e-6))
    assert cells(cost_table(costs))['S'][1:3] == ['0.939 (-)', '0.06 (0.030)']


def test_no_number_is_cut_off():
    wide = [f'{i}{"." * 40}{i}' for i in range(8)]
    assert cells(text_table('title', wide, [wide]))[wide[0]] == wide[1:]


def test_a_stage_below_its_start_and_the_best_are_named():
    table = progression_table([Stage(1, 'a', 30., 33.5),
                               Stage(2, 'b', 33.5, 32.)])
    assert cells(table)['1 a'] == ['30.0', '33.5', '+3.5', '1.5', 'best']
    assert cells(table)['2 b'] == ['33.5', '32.0', '-1.5', '1.5',
                                   'ended below its start']
    unknown = progression_table([Stage(1, 'a', None, 3.)])
    assert cells(unknown)['1 a'] == ['-', '3.0', '-', '1.5', '']
    assert '1 (no teacher)' in cells(progression_table(
        [Stage(1, 'a', 1., 2.)], taught=False))


def test_rivals_of_the_published_graph(published, aps):
    said = cells(baselines_table(compare_orders(published, 'S', aps)))
    assert said['rule'] == ['order', 'sum', 'largest', 'sum of shares']
    assert said['backward greedy'][:2] == ['I > III > IV', '2.763']
    assert said['shortest path'][:2] == ['II > IV', '1.461']
    assert said['smallest bottleneck'][:2] == ['I > III > IV', '2.763']


def test_rivals_show_what_training_gave(published, aps):
    said = cells(baselines_table(compare_orders(
        published, 'S', aps, results={('II', 'IV'): 34.56})))
    assert said['rule'][-1] == 'AP'
    assert said['shortest path'][-1] == '34.6'
    assert said['best measured'][-1] == '34.6'
    assert said['backward greedy'][-1] == '-'
    assert cells(baselines_table(iter([OrderRow(
        'x', ('I',), 1., 1., None, 0.)])))['x'] == ['I', '1', '1', '-', '0.0']
