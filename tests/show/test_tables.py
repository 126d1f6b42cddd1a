"""Tables show what was measured."""
from dataclasses import dataclass, replace

import numpy as np

from mtpd.order.baselines import OrderRow, compare_orders
from mtpd.show.cost_text import closest, digits_text
from mtpd.show.tables import (Table, baselines_table, best_stage, cost_table,
                              level_table, progression_table, stage_cells,
                              text_table)


@dataclass
class Stage:
    index: int
    teacher: str
    start_ap: float | None
    end_ap: float | None
    seconds: float = 90.


def cells(table: Table | str) -> dict[str, list[str]]:
    """First cell of each row -> the others; the heading is one of them."""
    lines = str(table).replace('┃', '│').splitlines()
    rows = ([cell.strip() for cell in line.split('│')[1:-1]]
            for line in lines if line[0] == '│')
    return {first: others for first, *others in rows}


def test_tables_show_every_cost(published):
    costs, levels = cells(cost_table(published)), level_table(published)
    titles = f'{cost_table(published)}{levels}'
    assert costs['from \\ to'] == ['S', 'I', 'II', 'III', 'IV']
    # As many digits in all of them; the closest ones are marked.
    assert costs['S'] == ['-', '* 0.9390 (0.469)', '* 0.06000 (0.030)',
                          '2.500 (1.250)', '3.000 (1.500)']
    assert costs['III'][4] == '* 0.8900 (0.445)'
    assert 'Lower is closer. *: the closest in its column' in titles
    assert 'strides 8, 16' in titles
    assert cells(levels)['pair'] == ['stride 8', 'stride 16', 'mean']
    assert cells(levels)['S > II'] == ['0.05000', '0.07000', '0.06000']
    assert len(cells(levels)) == 1 + 20
    assert 'rounding' not in titles


def test_what_is_below_resolution_is_shown_as_a_bound(published, limits):
    # Of variances of 2 and 6: bounds of 2e-6 and 6e-5.
    published.variance[published.at(16, 'II')] = 6.
    published.mse[:, 0, 2] = 1.9e-6, 0.  # from S to II
    published.mse[:, 1, 2] = 1.9e-6, 6.1e-5  # from I to II
    costs = replace(published, resolution=limits(published, 1e-6, 1e-5))
    levels = cells(level_table(costs))
    assert levels['S > II'] == ['< 2.000e-06', '< 6.000e-05',
                                '< 3.100e-05']
    # One level above its limit makes the mean a number.
    assert levels['I > II'] == ['< 2.000e-06', '6.100e-05', '3.145e-05']
    assert levels['II > I'] == ['1.171', '1.191', '1.181']
    into = [row[2] for row in cells(cost_table(costs)).values()]
    assert into[:3] == ['II', '* < 3.100e-05 (< 5.5e-06)',
                        '3.145e-05 (0.000)']
    for table in (level_table(costs), cost_table(costs)):
        assert str(table).count(
            '<: cannot be distinguished from rounding') == 1
    # Costs from an older file.
    unknown = replace(costs, resolution=np.full_like(costs.mse, np.nan))
    assert cells(level_table(unknown))['S > II'] == [
        '1.900e-06', '0.000', '9.500e-07']
    assert 'rounding' not in str(level_table(unknown))


def test_a_mark_in_the_levels_alone_is_explained_there(published, limits):
    published.mse[published.at(8, 'S', 'II')] = 0.
    costs = replace(published, resolution=limits(published, 1e-6, 1e-6))
    assert 'distinguished from rounding' in str(level_table(costs))
    assert 'distinguished from rounding' not in str(cost_table(costs))


def test_a_target_that_is_constant_has_no_share(published, limits):
    published.variance[published.at(8, 'I')] = 0.
    costs = replace(published, resolution=limits(published, 1e-6, 1e-6))
    assert cells(cost_table(costs))['S'][1:3] == ['* 0.9390 (-)',
                                                  '* 0.06000 (0.030)']


def test_costs_that_cannot_be_distinguished_are_marked_alike(published,
                                                             limits):
    for source, mse in (('S', 0.), ('I', 1.9e-6), ('III', 3e-6)):
        for stride in (8, 16):
            published.mse[published.at(stride, source, 'II')] = mse
    costs = replace(published, resolution=limits(published, 1e-6, 1e-6))
    assert closest(costs, 'II') == ['S', 'I']
    assert closest(costs, 'IV') == ['III']
    assert [digits_text(value) for value in (1., 1.01, 762., 7468.2, 0.)] == [
        '1.000', '1.010', '762.0', '7468', '0.000']


def test_no_number_is_cut_off():
    wide = [f'{i}{"." * 40}{i}' for i in range(8)]
    assert cells(text_table('title', wide, [wide]))[wide[0]] == wide[1:]


def test_what_is_not_known_is_none():
    assert stage_cells(None, 3., None) == (None, '3.0', None, None)
    assert stage_cells(1., None, 90.) == ('1.0', None, None, '1.5')
    assert stage_cells(30., 33.5, 90.) == ('30.0', '33.5', '+3.5', '1.5')
    assert cells(Table('title', ['a', 'b'], [['x', None]]))['x'] == ['-']


def test_a_stage_below_its_start_and_the_best_are_marked():
    table = progression_table([Stage(1, 'a', 30., 33.5),
                               Stage(2, 'b', 33.5, 32.)])
    assert cells(table)['1 a'] == ['30.0', '33.5', '+3.5', '1.5', 'best']
    assert cells(table)['2 b'] == ['33.5', '32.0', '-1.5', '1.5',
                                   'ended below its start']
    unknown = progression_table([Stage(1, 'a', None, 3.)])
    assert cells(unknown)['1 a'] == ['-', '3.0', '-', '1.5', '']
    stages = [Stage(1, 'a', 30., None), Stage(2, 'b', None, 32.)]
    table = cells(progression_table(stages))
    assert table['1 a'] == ['30.0', 'not measured', '-', '1.5', '']
    assert table['2 b'] == ['-', '32.0', '-', '1.5', 'best']
    assert best_stage(stages) is stages[1] and best_stage(stages[:1]) is None
    assert '1 (no teacher)' in cells(progression_table(
        [Stage(1, 'a', 1., 2.)], taught=False))


def test_baselines_of_the_published_graph(published, aps):
    shown = cells(baselines_table(compare_orders(published, 'S', aps)))
    assert shown['rule'] == ['order', 'sum', 'largest', 'sum of shares']
    assert shown['backward greedy'][:2] == ['I > III > IV', '2.763']
    assert shown['shortest path'][:2] == ['II > IV', '1.461']
    assert shown['smallest bottleneck'][:2] == ['I > III > IV', '2.763']


def test_baselines_show_what_training_gave(published, aps):
    shown = cells(baselines_table(compare_orders(
        published, 'S', aps, results={('II', 'IV'): 34.56})))
    assert shown['rule'][-1] == 'AP'
    assert shown['shortest path'][-1] == '34.6'
    assert shown['best measured'][-1] == '34.6'
    assert shown['backward greedy'][-1] == '-'
    assert cells(baselines_table(iter([OrderRow(
        'x', ('I',), 1., 1., None, 0.)])))['x'] == [
            'I', '1.000', '1.000', '-', '0.0']
