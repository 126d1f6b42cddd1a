import contextlib
import io
import math
import runpy
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpd.order.baselines import (OrderRow, ascending_ap, compare_orders,
                                  exhaustive, forward_greedy, shortest_path,
                                  smallest_bottleneck)
from mtpd.order.costs import AdaptationCosts
from mtpd.order.selection import backward_greedy_selection

REPOSITORY = Path(__file__).parents[2]
METHOD = REPOSITORY / 'docs/method.md'

# The graph that the paper draws (arXiv 2308.09105); of the APs only that IV's
# is the highest matters.
DRAWN = {('S', 'I'): .939, ('S', 'II'): .060, ('I', 'II'): .070,
         ('II', 'I'): 1.181, ('I', 'III'): .934, ('II', 'III'): 1.94,
         ('I', 'IV'): .963, ('II', 'IV'): 1.401, ('III', 'IV'): .89}
AP = dict(I=38.2, II=38.7, III=44.9, IV=49.1)
OF_COSTS = [shortest_path, smallest_bottleneck, forward_greedy]
OF_PATHS = [shortest_path, smallest_bottleneck]


def published(not_drawn=3., louder=()):
    """Costs between all; ``louder``: target -> factor on costs into it."""
    return {(source, target): DRAWN.get((source, target), not_drawn)
            * dict(louder).get(target, 1)
            for source in ('S', *AP) for target in AP if source != target}


def chosen(baseline, costs, ap, max_teachers=None):
    order = baseline(lambda *pair: costs[pair], 'S', ap, max_teachers)
    return getattr(order, 'teachers', order)


@st.composite
def problems(draw, values=st.integers(0, 3) | st.integers(0, 10**6)):
    """(costs, ap) of one to five teachers, with ties; sums are exact."""
    pool = draw(st.permutations('ABCDE'))[:draw(st.integers(1, 5))]
    return ({(source, target): draw(values) for source in ['S', *pool]
             for target in pool if source != target},
            {teacher: draw(st.integers(1, 3)) for teacher in pool})


few = st.sampled_from([st.just(0), st.integers(0, 1), st.integers(0, 3)])
limits = st.none() | st.integers(1, 6)


def rank(ap, teacher):
    return -ap[teacher], teacher


def simple_paths(ap, max_teachers):
    last = min(ap, key=partial(rank, ap))
    others = [teacher for teacher in ap if teacher != last]
    return [(*before, last) for number in range(len(ap))
            if max_teachers is None or number < max_teachers
            for before in permutations(others, number)]


def along(costs, path):
    return [costs[pair] for pair in zip(('S', *path), path)]


def by_sum(costs, ap, path):
    return (sum(along(costs, path)), len(path),
            [rank(ap, teacher) for teacher in reversed(path)])


def by_bottleneck(costs, ap, path):
    return max(along(costs, path)), *by_sum(costs, ap, path)


@pytest.mark.parametrize('baseline, key', [
    (shortest_path, by_sum), (smallest_bottleneck, by_bottleneck)])
@given(few.flatmap(problems) | problems(), limits)
def test_paths_are_the_best_of_all_simple_paths(baseline, key, problem, limit):
    costs, ap = problem
    assert chosen(baseline, costs, ap, limit) == min(
        simple_paths(ap, limit), key=partial(key, costs, ap))


@pytest.mark.parametrize('baseline, worth', [(shortest_path, sum),
                                          (smallest_bottleneck, max)])
@given(problems(st.floats(0, 1)), limits)
def test_no_simple_path_is_better_by_rounding(baseline, worth, problem, limit):
    costs, ap = problem
    assert worth(along(costs, chosen(baseline, costs, ap, limit))) == min(
        worth(along(costs, path)) for path in simple_paths(ap, limit))


@given(few.flatmap(problems) | problems(), limits)
def test_forward_greedy_is_the_one_order_that_obeys_its_rule(problem, limit):
    costs, ap = problem

    def obeys(path):
        def nearest(place):
            source, rest = ('S', *path)[place], set(ap) - set(path[:place])
            return min((costs[source, teacher], rank(ap, teacher))
                       for teacher in rest)[-1][-1]

        on_foot = all(nearest(i) == path[i] for i in range(len(path) - 1))
        return on_foot and (len(path) == limit
                            or nearest(len(path) - 1) == path[-1])

    assert [path for path in simple_paths(ap, limit) if obeys(path)] == [
        chosen(forward_greedy, costs, ap, limit)]


@given(problems(), limits)
def test_ascending_ap_is_the_strongest_sorted(problem, limit):
    _, ap = problem
    order = ascending_ap(ap, limit)
    ranks = [rank(ap, teacher) for teacher in order]
    assert ranks == sorted(map(partial(rank, ap), ap))[:limit][::-1]
    assert order[-1] == simple_paths(ap, 1)[0][-1]


@given(problems(), st.sampled_from([2**-9, .5, 64]))
def test_one_scale_for_all_costs_changes_no_order(problem, scale):
    costs, ap = problem
    scaled = {pair: cost * scale for pair, cost in costs.items()}
    for baseline in OF_COSTS:
        assert chosen(baseline, scaled, ap) == chosen(baseline, costs, ap)


@pytest.mark.parametrize('not_drawn', [1.941, 3., 1e6])
def test_the_published_graph(not_drawn):
    find = {baseline: ' '.join(chosen(baseline, published(not_drawn), AP))
            for baseline in (*OF_COSTS, backward_greedy_selection)}
    assert find == {shortest_path: 'II IV',
                    smallest_bottleneck: 'I III IV',
                    forward_greedy: 'II I III IV',
                    backward_greedy_selection: 'I III IV'}


@pytest.mark.parametrize('baseline, by_number', [
    (shortest_path, ['IV', 'II IV', 'II IV', 'II IV']),
    (smallest_bottleneck, ['IV', 'I IV', 'I III IV', 'I III IV']),
    (forward_greedy, ['IV', 'II IV', 'II I IV', 'II I III IV'])])
def test_fewer_teachers_on_the_published_graph(baseline, by_number):
    assert [' '.join(chosen(baseline, published(), AP, number))
            for number in (1, 2, 3, 4)] == by_number


@pytest.mark.parametrize('baseline, target, factor, expected', [
    # S -> II -> IV costs .060 f + 1.401, S -> I -> IV 1.902: equal at 8.35.
    (shortest_path, 'II', 8.3, 'II IV'),
    (shortest_path, 'II', 8.4, 'I IV'),
    # The largest before is I -> III, .934 f, or S -> I .939; after, .963.
    (smallest_bottleneck, 'III', 1.03, 'I III IV'),
    (smallest_bottleneck, 'III', 1.04, 'I IV'),
    # From S to II costs .060 f, to I .939: equal at 15.65.
    (forward_greedy, 'II', 15.6, 'II I III IV'),
    (forward_greedy, 'II', 15.7, 'I III IV')])
def test_the_scale_of_one_target_changes_baselines(baseline, target, factor,
                                                   expected):
    costs = published(louder={target: factor})
    assert ' '.join(chosen(baseline, costs, AP)) == expected
    assert chosen(backward_greedy_selection, costs, AP) == ('I', 'III', 'IV')


def test_costs_of_nothing_make_no_detours():
    nothing = dict.fromkeys(published(), 0)
    assert chosen(shortest_path, nothing, AP) == ('IV',)
    assert chosen(smallest_bottleneck, nothing, AP) == ('IV',)
    assert chosen(forward_greedy, nothing, AP) == ('IV',)


def test_ten_teachers_are_solved_exactly():
    # A chain of 1s through all ten; every other arrow costs more than that.
    pool = dict(zip('ABCDEFGHIJ', range(10)))
    order = 'S' + ''.join(pool)
    costs = {(source, target): 1 if order.index(target) - order.index(source)
             == 1 else 11 for source in order for target in pool
             if source != target}
    assert ''.join(chosen(smallest_bottleneck, costs, pool)) == 'ABCDEFGHIJ'
    assert ''.join(chosen(shortest_path, costs, pool)) == 'ABCDEFGHIJ'
    assert ''.join(chosen(shortest_path, costs, pool, 9)) == 'J'


def test_equal_sums_go_from_the_end_to_the_higher_ap():
    flat = {(source, target): 1 for source in 'SABCZ' for target in 'ABCZ'
            if source != target}
    ap = dict(A=7, B=7, C=8, Z=9)
    far = flat | {('S', 'Z'): 9}  # through any other one: 2
    further = far | {(teacher, 'Z'): 5 for teacher in 'BC'}  # B, C: 6
    # C is far from S; A and B, far from Z, cost the same on the way to C.
    two = far | {('S', 'C'): 9, ('A', 'Z'): 8, ('B', 'Z'): 8, ('C', 'Z'): 1}
    for costs, expected in ((flat, 'Z'), (far, 'CZ'), (further, 'AZ'),
                            (two, 'ACZ')):
        assert ''.join(chosen(shortest_path, costs, ap)) == expected


@pytest.mark.parametrize('baseline', OF_COSTS)
@pytest.mark.parametrize('pair', [('S', 'I'), ('II', 'I'), ('I', 'IV')])
def test_a_cost_that_is_missing_or_not_finite(baseline, pair):
    costs, name = published(), ' -> '.join(pair)
    for value in (math.nan, math.inf):
        costs[pair] = value
        with pytest.raises(ValueError, match=f'{name} must be finite; got '
                                             f'{value}'):
            chosen(baseline, costs, AP)
    del costs[pair]
    with pytest.raises(ValueError, match=f'{name} is needed and missing'):
        chosen(baseline, costs, AP)


@pytest.mark.parametrize('baseline', OF_PATHS)
def test_negative_costs_have_no_shortest_path(baseline):
    costs = published() | {('I', 'II'): -.1}
    with pytest.raises(ValueError, match=r"negative; got {\('I', 'II'\): -0"):
        chosen(baseline, costs, AP)


def test_costs_out_of_the_last_teacher_are_not_needed():
    costs = {pair: cost for pair, cost in published().items()
             if pair[0] != 'IV'}
    for baseline in OF_COSTS:
        assert chosen(baseline, costs, AP) == chosen(baseline, published(), AP)


@pytest.mark.parametrize('ap, max_teachers, message', [
    ({}, None, 'pool is empty'),
    (AP, 0, 'at least 1, or None for no limit; got 0'),
    (dict(AP, II=None), None, "finite one; got {'II': None}"),
    (dict(AP, I=math.nan), None, "finite one; got {'I': nan}"),
])
def test_a_pool_that_cannot_be_ordered(ap, max_teachers, message):
    for baseline in OF_COSTS:
        with pytest.raises(ValueError, match=message):
            chosen(baseline, published(), ap, max_teachers)
        with pytest.raises(ValueError, match='student S is in the pool'):
            chosen(baseline, published(), dict(AP, S=36.5))
    with pytest.raises(ValueError, match=message):
        ascending_ap(ap, max_teachers)


def test_the_best_of_those_that_were_tried():
    tried = {(): 39., ('B', 'A'): 35.2, ('A', 'B'): 35.2, ('A',): 34.9,
             ('C', 'B', 'A'): 36., ('B',): 35.2}
    assert exhaustive(tried) == ('C', 'B', 'A')
    assert exhaustive(tried, 2) == ('B',)
    assert exhaustive({order: ap for order, ap in tried.items()
                       if len(order) == 2}, 2) == ('A', 'B')


@pytest.mark.parametrize('tried, max_teachers, message', [
    ({}, None, r'at least one order; got those of \[\]'),
    ({(): 36.}, None, r'at least one order; got those of \[\(\)\]'),
    ({('B', 'A'): 36.}, 1, r"of at most 1 teachers; got .*'B', 'A'"),
    ({('A',): math.nan}, None, r"finite one; got {\('A',\): nan}"),
    ({('A',): None}, None, r"finite one; got {\('A',\): None}"),
])
def test_nothing_to_choose_from(tried, max_teachers, message):
    with pytest.raises(ValueError, match=message):
        exhaustive(tried, max_teachers)


def costs_of(mean, variance, louder=()):
    """Two levels whose errors lie a quarter below and above ``mean``.

    ``louder``: target -> factor on its maps.
    """
    squares = {name: dict(louder).get(name, 1)**2 for name in variance}
    return AdaptationCosts.from_dicts(
        tuple(variance), (8, 16),
        {pair: {8: .75 * value * squares[pair[1]],
                16: 1.25 * value * squares[pair[1]]}
         for pair, value in mean.items()},
        {name: {8: value * squares[name], 16: 2 * value * squares[name]}
         for name, value in variance.items()}, {8: 400, 16: 100})


VARIANCE = dict(S=1., I=2., II=.1, III=4., IV=2.)


def test_rows_tell_what_each_order_costs():
    measured = {('I', 'III', 'IV'): 39.9, ('III', 'IV'): 40.1, ('IV',): 38.}
    rows = compare_orders(costs_of(published(), VARIANCE), 'S', AP, None,
                          measured)
    # A cost as a part of the variance: (.75 / 1 + 1.25 / 2) / 2 = .6875 of
    # cost over the first level's variance.
    expected = [
        ('backward greedy', 'I III IV', [.939, .934, .89], [2, 4, 2], 39.9),
        ('shortest path', 'II IV', [.060, 1.401], [.1, 2], None),
        ('smallest bottleneck', 'I III IV', [.939, .934, .89], [2, 4, 2],
         39.9),
        ('forward greedy', 'II I III IV', [.060, 1.181, .934, .89],
         [.1, 2, 4, 2], None),
        ('ascending AP', 'I II III IV', [.939, .070, 1.94, .89],
         [2, .1, 4, 2], None),
        ('best measured', 'III IV', [3., .89], [4, 2], 40.1)]
    for row, (name, order, values, parts, result) in zip(rows, expected,
                                                         strict=True):
        assert row == OrderRow(
            name, tuple(order.split()), pytest.approx(sum(values)),
            pytest.approx(max(values)), pytest.approx(sum(
                .6875 * value / part for value, part in zip(values, parts))),
            result)


def test_rows_without_results_and_with_few_teachers():
    costs = costs_of(published(), VARIANCE)
    rows = compare_orders(costs, 'S', AP)
    assert [(row.name, row.result) for row in rows] == [
        ('backward greedy', None), ('shortest path', None),
        ('smallest bottleneck', None), ('forward greedy', None),
        ('ascending AP', None)]
    assert [' '.join(row.teachers)
            for row in compare_orders(costs, 'S', AP, 2)] == [
        'III IV', 'II IV', 'I IV', 'II IV', 'III IV']


def test_a_constant_teacher_leaves_no_normalised_sum():
    rows = compare_orders(costs_of(published(), VARIANCE | dict(II=0.)), 'S',
                          AP)
    assert {row.name: row.normalised_total is None for row in rows} == {
        'backward greedy': False, 'shortest path': True,
        'smallest bottleneck': False, 'forward greedy': True,
        'ascending AP': True}


def test_normalised_sums_know_no_scale():
    quiet, loud = ({row.teachers: row for row in compare_orders(
        costs_of(published(), VARIANCE, louder), 'S', AP)}
        for louder in ({}, dict(II=4.)))
    assert ('II', 'IV') in quiet and ('II', 'IV') not in loud
    both = 'I', 'II', 'III', 'IV'
    assert loud[both].total == pytest.approx(quiet[both].total + 15 * .070)
    assert loud[both].normalised_total == pytest.approx(
        quiet[both].normalised_total)


def test_the_documented_table_is_what_the_benchmark_prints(
        monkeypatch):
    section = METHOD.read_text().split('## The baselines')[1].split('\n## ')[0]
    table = section.split('|Rule |')[1]
    benchmark = runpy.run_path(str(REPOSITORY / 'benchmarks' /
                                   'scale_of_costs.py'))
    printed = io.StringIO()
    monkeypatch.setattr('sys.argv', ['scale_of_costs.py'])
    with contextlib.redirect_stdout(printed):
        benchmark['main']()
    documented, rows = ([[cell.strip() for cell in line.split('|')]
                         for line in text.splitlines()
                         if line.startswith('|')]
                        for text in (table, printed.getvalue()))
    assert documented[1:] == rows
    assert benchmark['DRAWN'] == DRAWN
    # "Any number above 1.94 gives the same table", and any APs in this order.
    for factors in benchmark['COLUMNS']:
        column = benchmark['cells'](factors)
        for not_drawn in (1.941, 1e6):
            assert benchmark['cells'](factors, not_drawn, AP) == column
