"""What stops no training and is hardly meant is said beside the plan."""
import copy
import logging
import sys

import pytest
import torch
from mmengine.optim import ConstantLR, LinearLR

from mtpd.plan.describe import describe_plan
from mtpd.plan.plan import make_plan
from mtpd.plan.start_check import frozen_notes, schedule_notes
from mtpd.plan.start_check.notes import fade_notes
from mtpd.progression import check, prepare
from mtpd.randomness import isolate_rng


def scheduled(cfg, *schedulers, lr=.004, batches=3):
    cfg = copy.deepcopy(cfg)
    cfg.param_scheduler = list(schedulers)
    cfg.optim_wrapper.optimizer.lr = lr
    return schedule_notes(cfg, batches)


def test_a_good_config_has_no_note(toy):
    assert check(toy()).notes == []


def warm_up(**settings) -> dict:
    return dict(type='LinearLR', by_epoch=False, begin=0, **settings)


@pytest.mark.parametrize('scheduler, words', [
    # A stage of the toy has 2 epochs of 3 iterations.
    (warm_up(start_factor=.001, end=5), None),
    (warm_up(start_factor=.001, end=6), 'until iteration 6, and a stage has '
                                        '6 iterations'),
    (warm_up(start_factor=.001, end=500), 'until iteration 500'),
    (warm_up(start_factor=.001), 'until iteration 6'),
    (warm_up(start_factor=1., end_factor=.1, end=500), None),  # a decay
    (dict(type='ConstantLR', factor=.1, end=2), 'until epoch 2'),
    (dict(type='mmdet.QuadraticWarmupLR', end=5, convert_to_iter_based=True),
     'until epoch 5'),
    (dict(type='MultiStepLR', milestones=[8, 11]), 'milestones [8, 11]'),
    (dict(type='MultiStepLR', milestones=[1, 11]), None),
    (dict(type='CosineAnnealingLR', T_max=12), None)])
def test_what_does_not_fit_into_a_stage(toy, scheduler, words):
    notes = scheduled(toy(), scheduler)
    assert len(notes) == (words is not None)
    assert words is None or words in notes[0]
    # Nothing is said of iterations where their number is not known.
    unknown = scheduled(toy(), scheduler, batches=None)
    assert unknown == (notes if scheduler.get('by_epoch', True) else [])


@pytest.mark.parametrize('fade, rest', [
    # 2 epochs of 3 iterations; in the second case 6 iterations alone.
    (dict(begin=1, end=2), None), (dict(begin=0, end=0), None),
    (dict(begin=500, end=700), '100%'), (dict(begin=2, end=2.5), '100%'),
    (dict(begin=1, end=3), '50%'),
    (dict(begin=4, end=6, by_epoch=False), None),
    (dict(begin=4, end=12, by_epoch=False), '75%')])
@pytest.mark.parametrize('iterations', [False, True])
def test_a_fade_that_does_not_fit_into_a_stage(toy, fade, rest, iterations):
    cfg = toy(fade=fade)
    if iterations:
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=6)
    notes = fade_notes(cfg, cfg.mtpd.fade, 3)
    assert len(notes) == (rest is not None)
    for note in notes:
        assert f'distillation has {rest} of its strength' in note
        assert ('by_epoch=False' in note) == fade.get('by_epoch', True)
    assert fade_notes(cfg, None, 3) == []
    if not iterations and 'by_epoch' not in fade:
        assert check(cfg).notes == notes


@pytest.mark.parametrize('schedulers, lr, is_zero', [
    ([], .1, False), ([], 0, True), ([], 0., True),
    ([warm_up(start_factor=1e-6, end=3)], .1, False),
    ([dict(type='ConstantLR', factor=0, end=1)], .1, True),
    ([dict(type='MultiStepLR', milestones=[0], gamma=0)], .1, True),
    ([dict(type='NoSuchLR')], .1, False),  # is another message
    ([dict(type='OneCycleLR', eta_max=.1, total_steps=6, by_epoch=False)],
     .1, False)])
def test_a_learning_rate_that_is_always_zero(toy, schedulers, lr, is_zero):
    notes = scheduled(toy(), *schedulers, lr=lr)
    assert ('The learning rate is 0 in every' in ' '.join(notes)) == is_zero


def test_a_schedule_cannot_leave_zero(toy):
    """mmengine's own schedulers end the run, and so it is a problem."""
    for kind, key in ((LinearLR, 'start_factor'), (ConstantLR, 'factor')):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], .1)
        scheduler = kind(optimizer, by_epoch=False, end=3, **{key: 0})
        with pytest.raises(ZeroDivisionError):
            for _ in range(4):
                optimizer.step()
                scheduler.step()
        cfg = toy()
        cfg.param_scheduler = [dict(type=kind.__name__, end=3, **{key: 0})]
        problem, = check(cfg).problems
        assert problem.startswith(f'param_scheduler[0].{key} is 0')


def student_of(cfg):
    spec = make_plan(cfg).student
    with isolate_rng(0):
        return spec, spec.build()


def test_frozen_layers_with_random_weights(toy):
    cfg = toy(student=dict(checkpoint=None))
    backbone = cfg.model.backbone
    assert frozen_notes(*student_of(cfg)) == []
    backbone.update(frozen_stages=1, norm_eval=True)
    note, = frozen_notes(*student_of(cfg))
    assert note.startswith('model.backbone (ResNet) starts from random '
                           'weights, and frozen_stages=1 keeps')
    assert 'norm_eval=True' in note and 'model.backbone.init_cfg=' in note
    assert check(cfg).notes == [note]
    # With weights of its own, of the backbone or of a teacher, all is well.
    inherited = copy.deepcopy(cfg)
    inherited.mtpd.inherit = ('backbone',)
    assert check(inherited).notes == []
    pretrained = copy.deepcopy(cfg)
    pretrained.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='torchvision://resnet18')
    assert frozen_notes(*student_of(pretrained)) == []
    pretrained.model.backbone.init_cfg = None
    pretrained.model.init_cfg = dict(type='Pretrained', checkpoint='x.pth')
    assert frozen_notes(*student_of(pretrained)) == []
    trained = toy()
    trained.model.backbone.update(frozen_stages=1, norm_eval=True)
    assert check(trained).notes == []
    backbone.pop('norm_eval')  # mmdet's default is True
    backbone.frozen_stages = -1
    note, = frozen_notes(*student_of(cfg))
    assert 'norm_eval=True' in note and 'frozen_stages=-1 keeps' not in note


def test_a_student_of_other_classes(toy, tmp_path):
    cfg = toy()
    content = torch.load(cfg.mtpd.student.checkpoint)

    def notes_with(classes):
        content['meta'] = dict(dataset_meta=dict(classes=classes)) \
            if classes else {}
        torch.save(content, tmp_path / 'student.pth')
        cfg.mtpd.student.checkpoint = str(tmp_path / 'student.pth')
        return check(cfg).notes

    classes = cfg.train_dataloader.dataset.metainfo.classes
    assert notes_with(classes) == notes_with(None) == []
    note, = notes_with(classes[::-1])
    assert 'in the order cross, star' in note
    assert 'the validation set disc, triangle' in note
    note, = notes_with(('cat', 'dog', 'cow', 'hen', 'pig'))
    assert 'lists its classes as cat, dog' in note


def test_notes_are_logged_at_the_start(toy, monkeypatch):
    logged = []
    monkeypatch.setattr(sys.modules['mtpd.progression.prepare'], 'print_log',
                        lambda text, level, **_: logged.append((text, level)))
    cfg = toy()
    cfg.optim_wrapper.optimizer.lr = 0
    prepare(cfg)
    (note, level), = logged
    assert note.startswith('The learning rate is 0') and \
        level == logging.WARNING


def test_the_plan_has_the_rate_that_is_trained_with(toy, monkeypatch):
    cfg = toy()
    assert 'SGD lr 0.004, LinearLR' in describe_plan(make_plan(cfg))
    cfg.auto_scale_lr = dict(base_batch_size=16, enable=False)
    assert 'SGD lr 0.004, LinearLR' in describe_plan(make_plan(cfg))
    cfg.auto_scale_lr.enable = True
    assert ('SGD lr 0.002 (optimizer.lr 0.004 scaled by auto_scale_lr: batch '
            '8 in each of 1 process, base_batch_size 16), LinearLR'
            ) in describe_plan(make_plan(cfg))
    monkeypatch.setattr('mtpd.plan.describe.get_world_size', lambda: 4)
    assert 'SGD lr 0.008 (optimizer.lr 0.004 scaled' in describe_plan(
        make_plan(cfg))
    del cfg.optim_wrapper.optimizer['lr']
    assert 'lr of its own default' in describe_plan(make_plan(cfg))
    del cfg.auto_scale_lr['base_batch_size']
    assert 'auto_scale_lr.enable is set, and base_batch_size is None' in \
        check(cfg).problems[0]
