"""Everybody's AP, before anything is trained."""
import json
from itertools import permutations

import pytest
from mmengine.config import Config

from mtpd.order import AdaptationCosts, backward_greedy_selection
from mtpd.plan.pool import build_pool
from mtpd.progression import make_plan
from mtpd.progression.start import (describe_known_aps, known_aps,
                                    teacher_aps)
from mtpd.search import measure
from mtpd.search.found_order import FoundOrder
from mtpd.search.measure import measured_aps, pool_aps


@pytest.fixture
def undeclared(toy, monkeypatch):
    """cfg of an order by hand; every detector that is measured has 7.5 AP."""
    cfg = toy()
    for teacher in cfg.mtpd.teachers.values():
        teacher.ap = None
    monkeypatch.setattr(measure, 'box_ap', lambda *_: 7.5)
    return cfg


def test_teachers_of_an_order_by_hand_are_measured(undeclared, caplog):
    plan = make_plan(undeclared)
    pool = build_pool(plan)
    assert known_aps(plan) == {'student': None, 'wide': None, 'swin': None}
    measured_aps({'student': plan.student}, {'student': pool['student']},
                 plan.student.config, plan.paths.measured)
    assert known_aps(plan) == {'student': 7.5, 'wide': None, 'swin': None}
    assert teacher_aps(plan, pool) == {'wide': 7.5, 'swin': 7.5}
    assert known_aps(plan) == dict.fromkeys(('student', 'wide', 'swin'), 7.5)


def test_the_plan_warns_of_teachers_as_far_as_aps_are_known(
        undeclared, toy, tmp_path):
    undeclared.dump(str(tmp_path / 'my config.py'))
    undeclared = Config.fromfile(str(tmp_path / 'my config.py'))
    plan = make_plan(undeclared)
    nothing = describe_known_aps(plan)
    assert nothing.startswith('The AP of student, wide, swin is neither')
    assert nothing.splitlines()[-1] == (
        f"python tools/bgs_order.py '{tmp_path}/my config.py' --work-dir "
        f'{plan.work_dir}')
    undeclared.mtpd.teachers.wide.ap = 0.
    mixed = describe_known_aps(make_plan(undeclared))
    assert 'Warning: Teacher wide has 0.0 AP' in mixed
    assert 'The AP of student, swin is neither' in mixed
    assert 'for every teacher or for none' in mixed
    # Without teachers, or where a search measures, there is nothing to say.
    assert describe_known_aps(make_plan(toy(
        distill=dict(type='FeatureL2Loss', loss_weight=0)))).count('not') == 1
    undeclared.mtpd.teachers.wide.ap = None
    undeclared.mtpd.order = 'bgs'
    assert describe_known_aps(make_plan(undeclared)) == ''

    # What order.json says of these weights is known.
    undeclared.mtpd.order = ['wide', 'swin']
    names = ('student', 'wide', 'swin')
    costs = AdaptationCosts.from_dicts(
        names, (8,), mse={pair: {8: 1.} for pair in permutations(names, 2)},
        variance=dict.fromkeys(names, {8: 2.}), positions={8: 100})
    aps = {'wide': 20., 'swin': 40.}
    content = FoundOrder(
        backward_greedy_selection(costs.cost, 'student', aps), costs, aps, {
            'detectors': {name: {'checkpoint': spec.hash()}
                          for name, spec in plan.specs.items()}},
        student_ap=30.).to_json()
    path = tmp_path / 'work/order/order.json'
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    assert known_aps(plan) == {'student': 30., 'wide': 20., 'swin': 40.}
    told = describe_known_aps(plan)
    assert 'Teacher wide (20.0 AP) is weaker than the student (30.0' in told
    assert 'neither' not in told
    content['belongs_to']['detectors']['wide']['checkpoint'] = 'others'
    path.write_text(json.dumps(content))
    assert known_aps(plan) == {'student': 30., 'wide': None, 'swin': 40.}
    path.write_text('{torn')
    assert known_aps(plan) == dict.fromkeys(('student', 'wide', 'swin'))


def test_what_cannot_be_measured_stops_nothing(undeclared, monkeypatch,
                                               tmp_path):
    logged = []
    monkeypatch.setattr('mtpd.progression.start.print_log',
                        lambda text, **_: logged.append(text))
    undeclared.work_dir = str(tmp_path / 'other')
    plan = make_plan(undeclared)
    pool = build_pool(plan)
    plan.teachers['wide'].config.model.bbox_head.num_classes = 80

    def fails(*_):
        raise RuntimeError('no such image')

    monkeypatch.setattr(measure, 'box_ap', fails)
    assert teacher_aps(plan, pool) == {'wide': None, 'swin': None}
    assert 'AP of wide was not measured' in logged[0]
    assert 'predicts 80 classes' in logged[0]
    assert logged[1] == ('The AP of swin was not measured. '
                         'mtpd.teachers.swin: RuntimeError: no such image')
    # Without teachers there is nobody to measure.
    logged.clear()
    undeclared.mtpd.distill.loss_weight = 0
    assert teacher_aps(make_plan(undeclared), pool) == {
        'wide': None, 'swin': None}
    assert not logged


def test_the_student_is_measured_beside_declared_teachers(toy, monkeypatch):
    plan = make_plan(toy(order='bgs'))
    pool = build_pool(plan)
    monkeypatch.setattr(measure, 'box_ap', lambda *_: 7.5)
    assert pool_aps(plan, pool, plan.paths.measured) == (
        {'wide': 20., 'swin': 30.}, 7.5)
    assert known_aps(plan) == {'student': 7.5, 'wide': 20., 'swin': 30.}
