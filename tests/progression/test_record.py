"""A progression that an earlier version started is the same progression."""
import json

import pytest

from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.plan.describe import describe_plan
from mtpd.plan.identity import identity_defaults, identity_of, other_identity
from mtpd.plan.errors import PlanError
from mtpd.plan.work_dir import UnreadableHistory
from mtpd.progression import check, make_plan, prepare
from mtpd.progression.record import read_record
from mtpd.stage.config import stage_config

# As version 0.1.0 wrote it before the rooms were rearranged; hashes shortened.
EARLIER = json.loads("""{
 "student": "5f0c", "teachers": {"wide": "31ab", "swin": "77d2"},
 "scales": {"wide": "1", "swin": "1"}, "order": ["wide", "swin"],
 "distill": {"type": "FeatureL2Loss", "loss_weight": 1.0},
 "strides": null, "handover": "last", "adapter": "auto",
 "init_adapters": null, "inherit": [], "fade": null, "seed": 0}""")


@pytest.fixture
def plan(toy):
    return make_plan(toy())


def with_hashes(identity, earlier):
    return {**earlier, 'student': identity['student'],
            'teachers': identity['teachers']}


def test_the_identity_is_that_of_the_earlier_version(plan):
    identity = identity_of(plan, plan.order)
    assert identity == with_hashes(identity, EARLIER)
    assert list(identity) == list(EARLIER)


def test_an_option_that_a_file_lacks_has_its_default(plan):
    identity = identity_of(plan, plan.order)
    older = {key: value for key, value in identity.items()
             if key not in ('adapter', 'fade', 'inherit')}
    assert other_identity(older, identity) == []
    assert other_identity(older, {**identity, 'adapter': 'conv'}) == [
        "adapter: 'auto' there, 'conv' here"]
    # A seed or an order cannot be absent: nothing stands for them.
    del older['order']
    assert other_identity(older, identity) == [
        f"order: None there, {identity['order']!r} here"]
    assert set(identity_defaults()) == {
        'strides', 'handover', 'adapter', 'init_adapters', 'inherit', 'fade'}


def test_a_progression_keeps_the_default_that_it_began_with(toy, tmp_path):
    cfg = toy()
    del cfg.mtpd.distill
    plan = make_plan(cfg)
    assert plan.distill == dict(type='FeatureL2Loss', normalise=True,
                                loss_weight='auto')
    assert "'auto'}, the default (mtpd.distill='paper'" in describe_plan(plan)
    assert "its gradient 0.5 times detection's" in describe_plan(plan)
    (tmp_path / 'work').mkdir()
    path = tmp_path / 'work' / 'progression.json'
    earlier = with_hashes(identity_of(plan, plan.order), {
        **EARLIER, 'distill': dict(type='FeatureL2Loss')})
    path.write_text(json.dumps({'identity': earlier}))
    resumed = make_plan(cfg)
    assert resumed.distill == dict(type='FeatureL2Loss')
    assert 'default' not in describe_plan(resumed)
    assert read_record(resumed, identity_of(resumed, resumed.order))
    assert (plan.adapter, resumed.adapter) == ('conv', 'auto')
    # A mechanism that the config names is compared as ever.
    cfg.mtpd.distill = plan.distill
    named = make_plan(cfg)
    with pytest.raises(OtherTeacher, match="distill.normalise: None there, "
                                           'True here'):
        read_record(named, identity_of(named, named.order))
    # And so is the new default where another mechanism was trained with.
    del cfg.mtpd.distill
    for content in (json.dumps({'identity': {**earlier, 'distill': dict(
            type='PKDLoss')}}), '{"identity": {}}', '[]', '{torn'):
        path.write_text(content)
        assert make_plan(cfg).distill == plan.distill
    for content in ('[]', '{torn'):
        path.write_text(content)
        with pytest.raises(UnreadableHistory, match='progression.json is'):
            read_record(plan, identity_of(plan, plan.order))


@pytest.mark.parametrize('recorded, share', [
    ({'share': 1.}, 1.), ({'share': 4.}, 4.), ({}, 4.)])
def test_a_progression_keeps_the_share_that_it_began_with(
        toy, tmp_path, recorded, share):
    cfg = toy()
    cfg.mtpd.distill = dict(type='PKDLoss', loss_weight='auto')
    plan = make_plan(cfg)
    assert plan.share == .5
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'progression.json').write_text(json.dumps(
        {'identity': identity_of(plan, plan.order), **recorded}))
    resumed = make_plan(cfg)
    assert stage_config(resumed, 1, ('wide',), None, {}
                        ).model.distill.loss_weight == dict(share=share)
    assert f'its gradient {share:g} times' in describe_plan(resumed)
    assert read_record(resumed, identity_of(resumed, resumed.order))


def test_the_record_of_an_earlier_version_is_read(plan, tmp_path):
    identity = identity_of(plan, plan.order)
    record = {'identity': with_hashes(identity, EARLIER),
              'aps': {'swin': 30., 'wide': 20.}, 'costs': None,
              'versions': {'mtpd': '0.1.0'}, 'seed': 0, 'start_ap': 1.5,
              'seconds_per_step': None, 'starts': []}
    assert read_record(plan, identity) == {}
    (tmp_path / 'work').mkdir()
    path = tmp_path / 'work' / 'progression.json'
    assert str(path) == plan.paths.record
    path.write_text(json.dumps(record))
    assert read_record(plan, identity) == record
    record['identity']['handover'] = 'best'
    path.write_text(json.dumps(record))
    with pytest.raises(OtherTeacher, match="(?s)handover: 'best' there, "
                                           "'last' here.*--work-dir"):
        read_record(plan, identity)


def test_what_cannot_be_resumed_is_told_at_once(toy, tmp_path):
    """Not "Add --resume" first and the refusal of the resumed run then."""
    plan = make_plan(toy())
    recorded = identity_of(plan, plan.order)
    path = tmp_path / 'work' / 'progression.json'
    path.parent.mkdir()

    def told(cfg, identity=recorded, **options) -> list[str]:
        path.write_text(json.dumps({'identity': identity}))
        return check(cfg, fetches=False, **options).problems

    add, = told(toy(), resume=False)
    assert 'Add --resume' in add and told(toy()) == []
    unseeded = toy()
    unseeded.randomness = {}  # the drawn seed is used again
    assert told(unseeded, {**recorded, 'seed': 77}) == []
    changed = {**recorded, 'student': 'f00', 'handover': 'best'}
    for resume in (False, True):
        other, = told(toy(), changed, resume=resume)
        for words in ("handover: 'best' there, 'last' here",
                      "student: 'f00' there", 'holds another progression',
                      'Restore the config and its checkpoints'):
            assert words in other
        assert 'Add --resume' not in other
    # Beside everything else that is wrong, in one list.
    cfg = toy()
    cfg.train_dataloader.dataset.ann_file = 'none.json'
    assert len(told(cfg, changed)) == 2
    with pytest.raises(PlanError, match='(?s)none.json.*another progression'):
        prepare(cfg)
    with pytest.raises(OtherTeacher, match="student: 'f00' there"):
        prepare(toy())
    prepare(toy(order='bgs'), trains=False)  # a search resumes no stage
    # The order that was found stands for 'bgs'; its teachers have to be there.
    searched = toy(order='bgs')
    assert told(searched) == []
    del searched.mtpd.teachers.swin
    other, = told(searched)
    assert 'teachers: swin there, and not in mtpd.teachers here' in other
    # A file that is missing may come back as it was, unless it is trained.
    missing = toy()
    missing.mtpd.teachers.swin.checkpoint = str(tmp_path / 'gone.pth')
    problem, = told(missing)
    assert 'there is no file' in problem and 'from_scratch.py' in problem
    other, = told(missing, is_pretrained=False)
    assert "here" in other and "'to be trained anew' here" in other
