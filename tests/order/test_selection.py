import json
import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpd.order import SelectionStep, TeachingOrder, backward_greedy_selection

# The graph that the paper draws (arXiv 2308.09105). S -> III and S -> IV are
# not drawn there and stand for "larger than the others"; of the APs only that
# IV's is the highest matters.
PUBLISHED = {
    ('S', 'I'): .939, ('S', 'II'): .060, ('S', 'III'): 2.5, ('S', 'IV'): 3.,
    ('I', 'II'): .070, ('II', 'I'): 1.181, ('I', 'III'): .934,
    ('II', 'III'): 1.94, ('I', 'IV'): .963, ('II', 'IV'): 1.401,
    ('III', 'IV'): .89}
PUBLISHED_AP = dict(I=38.2, II=38.7, III=44.9, IV=49.1)


def select(costs, ap, max_teachers=None, student='S'):
    return backward_greedy_selection(lambda *pair: costs[pair], student, ap,
                                     max_teachers)


@pytest.mark.parametrize('max_teachers, expected', [
    (1, 'IV'), (2, 'III IV'), (3, 'I III IV'), (4, 'I III IV'),
    (None, 'I III IV')])
def test_the_published_example(max_teachers, expected):
    order = select(PUBLISHED, PUBLISHED_AP, max_teachers)
    assert order.teachers == tuple(expected.split())


def test_reasons_tell_what_was_compared():
    assert select(PUBLISHED, PUBLISHED_AP).steps == (
        SelectionStep(1, 'IV', 'final teacher IV: highest AP 49.1'),
        SelectionStep(2, 'III',
                      'before IV: III, cost 0.890 is the smallest of the '
                      'remaining (II 1.401, I 0.963) and not larger than the '
                      "student's 3.000"),
        SelectionStep(3, 'I',
                      'before III: I, cost 0.934 is the smallest of the '
                      'remaining (II 1.940) and not larger than the '
                      "student's 2.500"),
        SelectionStep(4, None,
                      'stop before I: the cheapest, II, costs 1.181, more '
                      "than the student's own 0.939"))


def test_reasons_of_the_other_ends():
    assert select(PUBLISHED, PUBLISHED_AP, 2).steps[-1] == SelectionStep(
        3, None, 'stop: 2 teachers were asked for')
    assert select(PUBLISHED, PUBLISHED_AP, 1).steps[-1] == SelectionStep(
        2, None, 'stop: 1 teacher was asked for')
    assert select({}, dict(A=46), 1).steps == (
        SelectionStep(1, 'A', 'final teacher A: highest AP 46.0'),
        SelectionStep(2, None, 'stop: no teacher is left'))
    quiet = {('S', 'A'): 3e-6, ('B', 'A'): 1.25e-6}
    assert select(quiet, dict(A=.46, B=.4)).steps == (
        SelectionStep(1, 'A', 'final teacher A: highest AP 0.460'),
        SelectionStep(2, 'B', 'before A: B, cost 1.25e-06 of the only one '
                              "remaining and not larger than the student's "
                              '3e-06'),
        SelectionStep(3, None, 'stop: no teacher is left'))


def test_equal_to_the_students_cost_goes_on():
    equal = {('S', 'A'): .7, ('B', 'A'): .7}
    assert select(equal, dict(A=2, B=1)).teachers == ('B', 'A')
    larger = {('S', 'A'): .7, ('B', 'A'): math.nextafter(.7, 1)}
    assert select(larger, dict(A=2, B=1)).teachers == ('A',)


def test_ties_go_to_the_higher_ap_then_to_the_name():
    flat = {(s, t): 1. for s in 'SABCD' for t in 'ABCD' if s != t}
    assert select(flat, dict(D=5, C=9, B=5, A=7)).teachers == (
        'D', 'B', 'A', 'C')
    assert select(flat, dict(B=3, A=3)).teachers == ('B', 'A')


def test_a_cost_that_is_not_compared_is_not_needed():
    costs = {pair: cost for pair, cost in PUBLISHED.items()
             if pair[1] == 'IV'}
    assert select(costs, PUBLISHED_AP, 2).teachers == ('III', 'IV')


@pytest.mark.parametrize('pair', [('S', 'IV'), ('II', 'IV'), ('II', 'III'),
                                  ('S', 'I')])
def test_a_needed_cost_that_is_missing_or_not_finite(pair):
    costs = dict(PUBLISHED)
    name = ' -> '.join(pair)
    for value in (math.nan, math.inf):
        costs[pair] = value
        with pytest.raises(ValueError, match=f'{name} must be finite; got '
                                             f'{value}'):
            select(costs, PUBLISHED_AP)
    del costs[pair]
    with pytest.raises(ValueError, match=f'{name} is needed and missing'):
        select(costs, PUBLISHED_AP)


@pytest.mark.parametrize('ap, max_teachers, message', [
    ({}, None, 'pool is empty'),
    (PUBLISHED_AP, 0, 'at least 1, or None for no limit; got 0'),
    (dict(PUBLISHED_AP, S=36.5), None, 'student S is in the pool'),
    (dict(PUBLISHED_AP, II=None), None, "finite one; got {'II': None}"),
    (dict(PUBLISHED_AP, I=math.nan), None, "finite one; got {'I': nan}"),
])
def test_a_pool_that_cannot_be_ordered(ap, max_teachers, message):
    with pytest.raises(ValueError, match=message):
        select(PUBLISHED, ap, max_teachers)


def test_json_gives_the_same_back():
    order = select(PUBLISHED, PUBLISHED_AP)
    again = TeachingOrder.from_json(json.loads(json.dumps(order.to_json())))
    assert again == order
    assert order.to_json()['teachers'] == ['I', 'III', 'IV']
    with pytest.raises(ValueError, match="'steps'; got .'teachers'."):
        TeachingOrder.from_json(dict(teachers=[]))


@st.composite
def problems(draw, largest=5):
    """(costs, ap), often of few different values, so that there are ties."""
    pool = draw(st.permutations('ABCDE'))[:draw(st.integers(1, largest))]
    values = draw(st.sampled_from([st.integers(0, 3),
                                   st.integers(0, 10**6)]))
    return ({(source, target): draw(values) for source in ['S', *pool]
             for target in pool if source != target},
            {teacher: draw(st.integers(1, 3)) for teacher in pool})


def obeys(teachers, costs, ap, max_teachers):
    """The rule as a property of a finished order."""
    def easier(place):
        target, rest = teachers[place], set(ap) - set(teachers[place:])
        return {(costs[teacher, target], -ap[teacher], teacher)
                for teacher in rest
                if costs[teacher, target] <= costs['S', target]}

    best = {(-ap[teacher], teacher) for teacher in ap}
    return (
        teachers[-1] == min(best)[-1]
        and all(easier(place) and teachers[place - 1] == min(easier(place))[-1]
                for place in range(1, len(teachers)))
        and (len(teachers) == max_teachers or not easier(0)))


@given(problems(largest=4), st.none() | st.integers(1, 5))
def test_it_is_the_one_order_that_obeys_the_rule(problem, max_teachers):
    costs, ap = problem
    obeying = [teachers for length in range(1, len(ap) + 1)
               if max_teachers is None or length <= max_teachers
               for teachers in permutations(ap, length)
               if obeys(teachers, costs, ap, max_teachers)]
    assert obeying == [select(costs, ap, max_teachers).teachers]


@given(problems(), st.integers(1, 5))
def test_fewer_teachers_are_the_tail_of_more(problem, fewer):
    shorter, longer = (select(*problem, number).teachers
                       for number in (fewer, fewer + 1))
    assert shorter == longer[-fewer:]
    assert len(longer) <= fewer + 1


@given(problems(), st.sampled_from('ABCDE'), st.sampled_from([2**-9, .5, 64]))
def test_the_scale_of_a_target_does_not_matter(problem, target, scale):
    costs, ap = problem
    scaled = {pair: cost * scale if pair[1] == target else cost
              for pair, cost in costs.items()}
    assert select(scaled, ap).teachers == select(costs, ap).teachers


@given(problems(), st.randoms())
def test_the_order_of_the_pool_does_not_matter(problem, random):
    costs, ap = problem
    shuffled = list(ap.items())
    random.shuffle(shuffled)
    assert select(costs, dict(shuffled)) == select(costs, ap)


@given(problems())
def test_steps_tell_the_order(problem):
    order = select(*problem)
    *chosen, last = order.steps
    assert tuple(step.teacher for step in reversed(chosen)) == order.teachers
    assert last.teacher is None and 'stop' in last.reason
    assert [step.position for step in order.steps] == list(
        range(1, len(order.teachers) + 2))
