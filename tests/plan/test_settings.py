"""Every setting: what it may be, and what is said where it is not."""
import math
from dataclasses import MISSING
from fractions import Fraction

import numpy as np
import pytest

from mtpd.plan import settings
from mtpd.plan.settings import (RETIRED, CostSettings, FastTeacherSettings,
                                Options, ProgressionSettings, StudentSettings,
                                TeacherSettings, UnlabelledSettings,
                                read_settings, settings_of)

GROUPS = (ProgressionSettings, StudentSettings, TeacherSettings, CostSettings,
          FastTeacherSettings, UnlabelledSettings)


def test_defaults_and_what_is_given():
    values, problems = read_settings(CostSettings, dict(
        images=64, split='val', sequential=2), 'mtpd.costs')
    assert (values, problems) == (
        dict(images=64, split='val', sequential=2), [])
    costs = CostSettings(**values)
    assert CostSettings(**costs.to_json()) == costs
    assert CostSettings().images is None and CostSettings().split == 'train'
    assert Options() == Options(distill=dict(
        type='FeatureL2Loss', normalise=True, loss_weight='auto'))


def test_the_papers_mechanism_is_one_word_away():
    for given, mechanism in (
            ('paper', dict(type='FeatureL2Loss')),
            (dict(type='PKDLoss', loss_weight=6),
             dict(type='PKDLoss', loss_weight=6))):
        assert read_settings(Options, dict(distill=given), 'mtpd') == (
            dict(distill=mechanism), [])
    for given, words in (('papr', "did you mean 'paper'?"),
                         (dict(loss_weight=1), "'type' is missing"),
                         (3, "it has to be the mechanism, such as dict(")):
        _, (problem,) = read_settings(Options, dict(distill=given), 'mtpd')
        assert problem.startswith(f'mtpd.distill is {given!r}')
        assert words in problem


def test_a_group_within_a_group():
    values, problems = read_settings(Options, dict(
        costs=dict(images=3), fast_teacher=dict(compile=True),
        strides=[8, 16], inherit='neck'), 'mtpd')
    assert not problems
    assert values == dict(
        costs=CostSettings(images=3), fast_teacher=dict(compile=True),
        strides=(8, 16), inherit=('neck',))
    values, problems = read_settings(Options, dict(
        costs=None, fast_teacher=None, fade=None), 'mtpd')
    assert (Options(**values), problems) == (Options(), [])


@pytest.mark.parametrize('given, words', [
    (3, 'mtpd.costs is 3; it has to be dict'),
    (dict(image=64), 'mtpd.costs.image is not known; did you mean '
                     'mtpd.costs.images?'),
    (dict(xyz=64), 'mtpd.costs.xyz is not known. Known: images, split'),
    (dict(images='some'), "mtpd.costs.images is 'some'; it has to be 'all'"),
    (dict(images=0), 'mtpd.costs.images is 0'),
    (dict(images=True), 'mtpd.costs.images is True'),
    (dict(split='test'), "mtpd.costs.split is 'test'; .*'val' or 'unlab"),
    (dict(certainty=95), 'certainty is 95; .*0.9545'),
    (dict(sequential=0), 'sequential is 0; .*GiB'),
    (dict(estimator='sgd'), 'estimator is no longer a setting. .*exactly'),
    (dict(epochs=3), 'epochs is no longer a setting'),
    (dict(lr=.1), 'mtpd.costs.lr is no longer a setting'),
    (dict(precision='float64'), 'precision is no longer a setting'),
    (dict(stride4_share=1), 'a quarter of the positions'),
])
def test_each_mistake_is_named(given, words):
    _, (problem,) = read_settings(CostSettings, given, 'mtpd.costs')
    with pytest.raises(ValueError, match=words):
        raise ValueError(problem)


@pytest.mark.parametrize('given, words', [
    (dict(ap='54.3'), "t.ap is '54.3'; it has to be box AP in percent"),
    (dict(ap=543), r't.ap is 543; .*from 0 to 100'),
    (dict(ap=-1), 't.ap is -1'), (dict(ap=True), 't.ap is True'),
    (dict(scale=0), 't.scale is 0; it has to be a number above 0'),
    (dict(checkpoint=None), 't.checkpoint is None; .* file or URL'),
    (dict(checkpoint=''), "t.checkpoint is ''"),
    (dict(checkpont='b'), 'checkpont is not known; did you mean '
                          't.checkpoint'),
])
def test_each_mistake_of_a_teacher_is_named(given, words):
    _, problems = read_settings(TeacherSettings, {
        **dict(config='a.py', checkpoint='a.pth'), **given}, 't')
    assert len(problems) == 1
    with pytest.raises(ValueError, match=words):
        raise ValueError(problems[0])


def test_a_teacher_without_its_files():
    values, problems = read_settings(TeacherSettings, dict(scale='3/4'), 't')
    assert values == dict(scale=Fraction(3, 4))
    assert [p.split('. ')[0] for p in problems] == [
        't.config is not set', 't.checkpoint is not set']


def test_all_mistakes_are_told_together():
    _, problems = read_settings(CostSettings, dict(
        images=0, split='x', certainty=0), 'mtpd.costs')
    assert len(problems) == 3


@pytest.mark.parametrize('group', GROUPS)
def test_every_setting_is_whole(group):
    """A form in words, a sentence, and a default that has this form."""
    for name, entry in settings_of(group).items():
        form = entry.metadata['form']
        assert form.words and entry.metadata['sentence'].endswith('.'), name
        default = entry.default
        if entry.default_factory is not MISSING:
            default = entry.default_factory()
        if default is not MISSING and form.group is None:
            assert form.check(default), name
            assert form.convert(default) == default, name


def test_a_retired_setting_is_no_setting():
    """Whoever brings one back takes it out of the list."""
    known = {f'{where}.{name}' for where, group in (
        ('mtpd', ProgressionSettings), ('mtpd.costs', CostSettings))
        for name in settings_of(group)}
    assert not known & set(RETIRED)
    _, (problem,) = read_settings(Options, dict(checkpoint_every=5), 'mtpd')
    assert 'interval=..., by_epoch=False' in problem


def test_one_more_option_is_one_more_field(monkeypatch):
    """What the file's first lines promise: nothing else lists the settings."""
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class More(Options):
        patience: int = settings.setting(
            settings.Form('an integer of at least 1',
                          settings.is_positive_int),
            'Stages without a gain before the progression ends.', default=2)

    assert read_settings(More, dict(patience=3), 'mtpd') == (
        dict(patience=3), [])
    assert 'patience is 0; it has to be an integer of at least 1' in \
        read_settings(More, dict(patience=0), 'mtpd')[1][0]
    assert 'did you mean mtpd.patience?' in \
        read_settings(More, dict(patiense=1), 'mtpd')[1][0]


@pytest.mark.parametrize('group', GROUPS)
def test_any_value_is_taken_or_refused_in_words(group):
    """Nothing that can stand in a config ends in a traceback."""
    values = (None, True, 3, -1, .5, math.inf, -math.inf, math.nan, 10 ** 400,
              '', 'x', [], [['x']], [{}], {}, {'a': 1}, {1: 'a'}, (1, 2),
              b'x', object(), np.arange(3))
    for name in settings_of(group):
        for value in values:
            given, problems = read_settings(group, {name: value}, 'here')
            about = [p for p in problems
                     if p.startswith((f'here.{name} is ', f'here.{name}.'))]
            assert (name in given) != bool(about), (name, value, problems)


@pytest.mark.parametrize('order', [
    3, [3, {}], [['a', ['b']]], [[{}]], [None], {'a': 1}, [('a', 3)]])
def test_an_order_that_is_none(order):
    _, problems = read_settings(ProgressionSettings, dict(
        order=order, student=dict(checkpoint=None), teachers={}), 'mtpd')
    assert len(problems) == 1
    assert problems[0].startswith(f'mtpd.order is {order!r}; it has to be ')
