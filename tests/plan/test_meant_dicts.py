"""Text or a list where a dict(type=...) is meant is told with the dict."""
import pytest
from mmengine.config import Config

from mtpd.config_types import as_code, closest_name, dict_of
from mtpd.plan.errors import did_you_mean
from mtpd.plan.plan import draft_plan
from mtpd.plan.start_check import mechanism_problems
from mtpd.progression import check


@pytest.mark.parametrize('given, meant', [
    ('cwd', "dict(type='CWDLoss')"), ('CWD', "dict(type='CWDLoss')"),
    ('CWDLoss', "dict(type='CWDLoss')"), ('pkd_loss', "dict(type='PKDLoss')"),
    ('mgd', "dict(type='MGDLoss')"), ('fgd-loss', "dict(type='FGDLoss')"),
    ('featurel2', "dict(type='FeatureL2Loss')"),
    (['cwd'], "dict(type='CWDLoss')"), ('Paper', "'paper'"),
    ([dict(type='pkd')], "dict(type='PKDLoss')"),
    (('cwd', 'pkd'), "dict(type='WeightedSum', losses=[dict(type='CWDLoss'), "
                     "dict(type='PKDLoss')])")])
def test_a_mechanism(toy, given, meant):
    _, problems = draft_plan(toy(distill=given))
    problem, = problems
    assert problem.startswith(f'mtpd.distill is {given!r}; it has to be the '
                              'mechanism')
    assert f'(did you mean {meant}?)' in problem


def test_a_mechanism_within_its_dict():
    problem, = mechanism_problems(dict(type='cwd'))
    assert problem.endswith("did you mean 'CWDLoss'?")
    problem, = mechanism_problems(dict(type='WeightedSum', losses=['pkd']))
    assert "(did you mean dict(type='PKDLoss')?)" in problem
    _, (problem,) = draft_plan_of(7)
    assert 'known words: paper; known types: ' in problem


def test_dict_of_a_field():
    wrapper = dict(optimizer=dict(lr=.1), clip_grad=None)
    for cfg in (dict(optim_wrapper=wrapper), Config(dict(
            optim_wrapper=wrapper))):
        assert dict_of(cfg, 'optim_wrapper') == wrapper
        assert dict_of(cfg, 'optim_wrapper.optimizer') == dict(lr=.1)
        for unset in ('optim_wrapper.clip_grad', 'train_cfg',
                      'optim_wrapper.clip_grad.max_norm', 'train_cfg.type'):
            assert dict_of(cfg, unset) == {}
        # The dict itself: a change of it is one of the config.
        dict_of(cfg, 'optim_wrapper.optimizer')['lr'] = .2
        assert cfg['optim_wrapper']['optimizer'].pop('lr') == .2
        cfg['optim_wrapper']['optimizer']['lr'] = .1


def draft_plan_of(distill):
    from mtpd.plan.settings import Options, read_settings
    return read_settings(Options, dict(distill=distill), 'mtpd')


@pytest.mark.parametrize('changes, meant', [
    (dict(adapter='Conv'), "'conv'"), (dict(adapter=['auto']), "'auto'"),
    (dict(adapter=dict(type='conv')), "'conv'"),
    (dict(handover='Best'), "'best'"),
    (dict(init_adapters='Fitted'), "'fitted'"),
    (dict(inherit=['Backbone', 'neck']), "['backbone', 'neck']"),
    (dict(fade=[1, 2]), 'dict(begin=1, end=2)'),
    (dict(fast_teacher='bf16'), "dict(precision='bf16')"),
    (dict(fast_teacher=['fp16', 'compile']),
     "dict(precision='fp16', compile=True)"),
    (dict(costs='val'), "dict(split='val')"),
    (dict(costs=64), 'dict(images=64)'), (dict(costs=['auto', 'val']),
                                          "dict(images='auto', split='val')"),
    (dict(student='x.pth'), "dict(checkpoint='x.pth')"),
    (dict(teachers=dict(a='x.py')), "dict(config='x.py', checkpoint=...)"),
    (dict(teachers=dict(a=['x.py', 'x.pth'])),
     "dict(config='x.py', checkpoint='x.pth')"),
    (dict(strides=8), '(8,)'), (dict(strides='(8, 16)'), '(8, 16)'),
    (dict(max_teachers='2'), '2'), (dict(on_nonfinite='Skip'), "'skip'"),
    (dict(order='BGS'), "'bgs'")])
def test_a_setting(toy, changes, meant):
    _, problems = draft_plan(toy(**changes))
    assert f'did you mean {meant}?' in problems[0]


@pytest.mark.parametrize('changes', [
    dict(adapter=3), dict(adapter=[]), dict(fade=3), dict(fast_teacher=True),
    dict(costs=[]), dict(strides=[]), dict(handover=None)])
def test_nothing_is_guessed(toy, changes):
    _, problems = draft_plan(toy(**changes))
    assert len(problems) == 1 and 'did you mean' not in problems[0]


@pytest.mark.parametrize('changes, told', [
    ({'custom_hooks': ['EMAhook']},
     "custom_hooks[0] is 'EMAhook'; it has to be a dict; did you mean "
     "dict(type='EMAHook')?"),
    ({'custom_hooks': 'EMAHook'}, "it has to be a list; did you mean "
                                  "[dict(type='EMAHook')]?"),
    ({'custom_hooks': dict(type='EMAHook')}, "[dict(type='EMAHook')]?"),
    ({'param_scheduler': 'multisteplr'}, "dict(type='MultiStepLR')?"),
    ({'visualizer.vis_backends': ['LocalVisBackend']},
     "dict(type='LocalVisBackend')?"),
    ({'optim_wrapper': 'OptimWrapper'}, "dict(type='OptimWrapper')?"),
    ({'optim_wrapper.optimizer': 'SGD'}, "dict(type='SGD')?"),
    ({'optim_wrapper.optimizer': ['SGD']}, "dict(type='SGD')?"),
    ({'val_evaluator': 'CocoMetric'}, "dict(type='CocoMetric')?"),
    ({'train_cfg': 'EpochBasedTrainLoop'},
     "dict(type='EpochBasedTrainLoop')?"),
    ({'default_hooks.checkpoint': 'CheckpointHook'},
     "dict(type='CheckpointHook')?"),
    ({'default_hooks.logger': 'loggerhook'}, "dict(type='LoggerHook')?"),
    ({'default_hooks': 'CheckpointHook'}, 'default_hooks is'),
    ({'train_dataloader.dataset': 'CocoDataset'},
     "dict(type='CocoDataset')?"),
    ({'train_dataloader.sampler': 'DefaultSampler'},
     "dict(type='DefaultSampler')?"),
    ({'train_dataloader.dataset.pipeline': ['LoadImageFromFile']},
     "dict(type='LoadImageFromFile')?"),
    ({'model': 'RetinaNet'}, "dict(type='RetinaNet')?"),
    ({'model.backbone': 'ResNet'}, "dict(type='ResNet')?")])
def test_a_part_of_the_students_config(toy, changes, told):
    cfg = toy()
    for field, value in changes.items():
        *outer, key = field.split('.')
        part = cfg
        for name in outer:
            part = part[name]
        part[key] = value
    problems = check(cfg).problems
    problem, = [p for p in problems if told in p]
    assert problem.startswith(f'{field}')
    assert not [p for p in problems if f'{field} is not set' in p]


def test_closest_names():
    known = ['CWDLoss', 'PKDLoss', 'MultiStepLR']
    assert closest_name('cwd', known) == 'CWDLoss'
    assert closest_name('multisteplr', known) == 'MultiStepLR'
    assert closest_name('xyz', known) is None
    assert closest_name('loss', ['L1']) is None
    assert did_you_mean('pkdloss', known, quote=True) == \
        "; did you mean 'PKDLoss'?"
    assert as_code([dict(a=1, b=['x', ...])]) == "[dict(a=1, b=['x', ...])]"
