"""Everybody's AP, before anything is trained."""
import pytest

from mtpd.plan.pool import build_pool
from mtpd.progression import make_plan
from mtpd.progression.start import known_aps, teacher_aps
from mtpd.search import measure
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
