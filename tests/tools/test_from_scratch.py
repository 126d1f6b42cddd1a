"""Everything from scratch, on the toy: missing detectors are trained."""
import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from commands import run_command
from mtpd.commands import from_scratch as command
from mtpd.progression import PlanError, Progression, make_plan
from mtpd.progression.pool_training import (keep_last_checkpoint, retraining,
                                            train_if_missing, untrainable)
from mtpd.progression.stage_sequence import StageResult


def test_what_cannot_be_trained_is_refused_before_anything_is(toy, tmp_path):
    cfg = toy()
    for name, teacher in cfg.mtpd.teachers.items():
        teacher.checkpoint = str(tmp_path / f'{name}.pth')
    swin, problem = sorted(untrainable(make_plan(cfg)))  # models only
    assert problem.startswith(
        'mtpd.teachers.wide.config: train_dataloader, train_cfg, '
        'optim_wrapper not set, so that it cannot be trained')
    assert swin.startswith('mtpd.teachers.swin.config: ')

    def with_config(backbone=None, **changes) -> list[str]:
        own = toy()
        own.pop('mtpd')
        own.model = Config.fromfile(cfg.mtpd.teachers.wide.config).model
        own.model.backbone.update(backbone or {})
        own.merge_from_dict(changes)
        own.dump(str(tmp_path / 'own.py'))
        one = copy.deepcopy(cfg)
        del one.mtpd.teachers['swin']
        one.mtpd.order = ['wide']
        one.mtpd.teachers.wide.config = str(tmp_path / 'own.py')
        one.mtpd.teachers.wide.pop('ap')
        return untrainable(make_plan(one))

    assert with_config() == []
    first, second = with_config(**{'model.bbox_head.num_classes': 80})
    assert 'mtpd.teachers.wide.ap is not known and cannot' in first
    assert second.startswith('mtpd.teachers.wide.config: model.bbox_head '
                             'predicts 80 classes, and')
    without = dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator'))
    assert with_config(**without) == []  # mmengine validates all or nothing
    problem, = with_config(val_evaluator=None)
    assert 'val_evaluator not set' in problem
    problem, *_ = with_config(
        **{'train_dataloader.dataset.ann_file': 'gone.json'})
    assert problem.startswith('mtpd.teachers.wide.config: train_dataloader.')
    # What it starts from, before others are trained for hours.
    gone = str(tmp_path / 'gone.pth')
    for change, field in (
            (dict(pretrained=gone), 'pretrained'),
            (dict(init_cfg=dict(type='Pretrained', checkpoint=gone)),
             'init_cfg.checkpoint')):
        problem, *_ = with_config(change)
        assert problem.startswith(
            f'wide: model.backbone.{field}: there is no file {gone} in ')
    assert with_config(dict(init_cfg=dict(
        type='Pretrained', checkpoint='torchvision://resnet18'))) == []
    # Everything that a registry builds, as in the student's config.
    problem, = with_config(custom_hooks=[dict(type='EMAHok')])
    assert problem.startswith("mtpd.teachers.wide.config: custom_hooks[0].type"
                              " 'EMAHok' is not known")
    problem, = with_config(**{'optim_wrapper.type': 'AmpOptimWrapper'})
    assert problem.startswith('mtpd.teachers.wide.config: optim_wrapper.type')
    # With their checkpoints there is nothing to train.
    assert untrainable(make_plan(toy())) == []


def test_a_stopped_training_of_another_model_is_not_continued(toy, tmp_path):
    """mmengine would resume what fits, and leave the rest at random."""
    cfg = toy()
    student = cfg.mtpd.student.checkpoint
    cfg.mtpd.teachers.swin.checkpoint = str(tmp_path / 'gone.pth')
    plan = make_plan(cfg)
    folder = Path(plan.paths.pool('swin'))
    folder.mkdir(parents=True)
    shutil.copyfile(student, folder / 'epoch_1.pth')
    own = copy.deepcopy(plan.student.config)
    own.model = plan.teachers['swin'].config.model
    spec = replace(plan.teachers['swin'], config=own)
    with pytest.raises(PlanError, match='(?s)a training of swin that was '
                       'stopped, of another model than its config has now.*'
                       'delete '):
        train_if_missing(spec, plan)


def test_how_to_train_a_bad_detector_anew(toy, tmp_path):
    plan = make_plan(toy())
    assert retraining(plan) == {}
    folder = tmp_path / 'work' / 'pool' / 'wide'
    folder.mkdir(parents=True)
    told = retraining(plan)
    assert told == {'wide': (
        f'To train it anew, delete {plan.teachers["wide"].checkpoint} and '
        f'{folder}, correct its config, and run tools/from_scratch.py.')}
    # A progression that has begun belongs to the old weights.
    (tmp_path / 'work' / 'progression.json').write_text('{}')
    assert retraining(plan)['wide'].endswith('with another --work-dir.')


def test_an_ap_that_was_not_measured_is_said_to_be(toy, tmp_path, monkeypatch,
                                                   capsys):
    plan = make_plan(toy())
    content = torch.load(plan.student.checkpoint, weights_only=True)
    student, timed = tmp_path / 'student.pth', []
    for value in content['state_dict'].values():
        value += 1
    torch.save(content, student)

    def latency(detector, validation):
        timed.append(detector.state_dict())
        return .01

    for name, value in (('measured_aps', lambda *_: {
            'student': None, 'wide': None, 'swin': 30.}),
                        ('latency', latency),
                        ('describe_gain', lambda _: 'the gain'),
                        ('read_history', lambda _: None)):
        monkeypatch.setattr(command, name, value)
    ends = {'progression': (31., None, 33.), 'alone': (30.5, 31., None)}
    taught, alone = (Progression(tuple(
        StageResult(index, 'x', None, ap, 'x.pth', 1.)
        for index, ap in enumerate(aps, 1)), str(student), None)
        for aps in ends.values())
    (tmp_path / 'work').mkdir()
    command.compare(plan, taught, alone)
    rows = [[cell.strip() for cell in line.split('│')[1:4]]
            for line in capsys.readouterr().out.splitlines() if '│' in line]
    assert [row[1:] for row in rows] == [
        ['not measured', '-'], ['30.5', '-'], ['31.0', '-'],
        ['not measured', '-'], ['31.0', '+0.5'],
        ['not measured', 'not measured'], ['33.0', 'not measured'],
        ['30.0', '-'], ['not measured', '-']]
    results = json.loads((tmp_path / 'work/results.json').read_text())
    assert [row['minus_alone'] for row in results][4:7] == [.5, None, None]

    # Where no control can be as long, there is no row of one.
    command.compare(plan, taught, None)
    results = json.loads((tmp_path / 'work/results.json').read_text())
    assert [row['what'] for row in results][1:3] == [
        'stage 1, taught by x', 'stage 2, taught by x']
    assert not any(row['minus_alone'] for row in results)
    capsys.readouterr()

    # The student is timed as it comes out, its baseline measured as it began.
    torch.testing.assert_close(dict(timed[0]), content['state_dict'])

    # A student without a checkpoint has learned nothing yet.
    monkeypatch.setattr(
        command, 'measured_aps',
        lambda specs, detectors, *_: dict.fromkeys(detectors, 30.))
    command.compare(make_plan(toy(student=dict(checkpoint=None))), taught,
                    alone)
    results = json.loads((tmp_path / 'work/results.json').read_text())
    assert [(row['what'], row['box_ap']) for row in results[::7]] == [
        ('student trained on alone, as long as stages 1 to 1', 30.5),
        ('teacher wide', 30.)]


@pytest.mark.slow
def test_pool_progression_and_comparison(toy, drawn, repository, tmp_path):
    cfg = toy(order=['wide', 'swin'])
    for name, teacher in cfg.mtpd.teachers.items():
        own = toy()
        own.pop('mtpd')
        own.model = Config.fromfile(teacher.config).model
        own.train_cfg.max_epochs = own.train_cfg.val_interval = 1
        if name == 'swin':  # a Mask R-CNN
            own.train_dataloader.dataset.pipeline[2].with_mask = True
        own.dump(str(tmp_path / f'{name}.py'))
        teacher.config = str(tmp_path / f'{name}.py')
        teacher.checkpoint = str(tmp_path / f'pool/{name}.pth')
    cfg.mtpd.student.checkpoint = str(tmp_path / 'pool/student.pth')
    cfg.dump(str(tmp_path / 'cfg.py'))

    def run():
        done = run_command('tools/from_scratch.py', tmp_path / 'cfg.py',
                           cwd=repository)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    printed = run()
    for words in ('Training student from random', 'Training wide from random',
                  'Probe of stage 2, swin', 'student trained on alone',
                  'stage 2, taught by swin', 'teacher wide', '(no teacher)',
                  'AP from the student trained on alone'):
        assert words in printed
    assert 'No control was run' not in printed
    rows = json.load(open(tmp_path / 'work/results.json'))
    aps = {row['what']: row['box_ap'] for row in rows}
    assert {row['what']: row['minus_alone'] for row in rows
            if row['minus_alone'] is not None} == {
        f'stage {index}, taught by {teacher}': pytest.approx(
            aps[f'stage {index}, taught by {teacher}'] - aps[
                f'student trained on alone, as long as stages 1 to {index}'])
        for index, teacher in ((1, 'wide'), (2, 'swin'))}
    assert [r['what'] for r in rows] == [
        'student alone', 'student trained on alone, as long as stages 1 to 1',
        'student trained on alone, as long as stages 1 to 2',
        'stage 1, taught by wide', 'stage 2, taught by swin', 'teacher swin',
        'teacher wide']
    # Again: nothing is trained twice, the results are the same.
    printed = run()
    assert 'from random weights' not in printed
    assert 'Epoch(train)' not in printed
    again = json.load(open(tmp_path / 'work/results.json'))
    assert [(r['what'], r['box_ap']) for r in again] \
        == [(r['what'], r['box_ap']) for r in rows]


@pytest.mark.parametrize('hooks, expected', [
    (None, dict(interval=1)), ({}, dict(interval=1)),
    (dict(checkpoint=None), dict(interval=2, by_epoch=True)),
    (dict(checkpoint=dict(type='CheckpointHook', interval=5, save_last=False,
                          max_keep_ckpts=1)),
     dict(interval=5, max_keep_ckpts=2))])
def test_a_training_leaves_its_last_checkpoint(toy, hooks, expected):
    cfg = toy()
    cfg.pop('default_hooks', None)
    if hooks is not None:
        cfg.default_hooks = hooks
        if hooks.get('checkpoint'):  # where it would not be found
            hooks['checkpoint'].update(out_dir='x', filename_tmpl='{}.pth')
    keep_last_checkpoint(cfg)
    assert cfg.default_hooks.checkpoint == dict(
        type='CheckpointHook', save_last=True,
        backend_args=dict(backend='atomic'), **expected)
    cfg.default_hooks = dict(checkpoint=None)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=30)
    keep_last_checkpoint(cfg)
    hook = cfg.default_hooks.checkpoint
    assert (hook.interval, hook.by_epoch) == (30, False)
