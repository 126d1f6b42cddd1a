"""The student trained on alone: what a gain is compared with."""
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config

from commands import run_command, run_two
from mtpd.analysis.runs import read_run
from mtpd.plan.data_check import student_data
from mtpd.plan.identity import identity_of
from mtpd.plan.work_dir import WorkDir
from mtpd.progression import PlanError, make_plan
from mtpd.progression.control import (control_command, control_config,
                                      describe_gain, gain_of)
from mtpd.progression.history import (Control, History, read_history,
                                      read_plan)
from mtpd.progression.record import read_record
from mtpd.stage.log import StageHistory
from mtpd.progression.stage_sequence import run_stages


def stages(*aps: float | None) -> tuple[StageHistory, ...]:
    return tuple(StageHistory(index, 'abc'[index - 1], end_ap=ap)
                 for index, ap in enumerate(aps, 1))


@pytest.fixture
def history(toy) -> History:
    """Of two stages that end at 30 and 32.5 AP, and no control."""
    return History(make_plan(toy()), None, stages(30., 32.5), ('a', 'b'))


def test_the_gain_is_the_difference_to_the_control(history):
    def told(*aps, problem=''):
        return describe_gain(replace(history, control=Control(
            stages(*aps), problem)))

    assert told(29., 31.) == (
        'Distillation helped: the progression ends +1.5 AP from the student '
        'trained on alone for as long (one seed each; tools/analyze.py tells '
        'whether that is more than noise).')
    assert told(29., 33.).startswith('Distillation did not help: the '
                                     'progression ends -0.5 AP')
    assert told(29., 32.46).startswith('Distillation made no difference: the '
                                       'progression ends +0.0 AP')
    # Compared after the stages that both have finished.
    begun = told(29., None)
    assert begun.startswith('Distillation helped: after stage 1 the '
                            'progression is +1.0 AP from')
    assert 'The control is not finished' in begun and '--control' in begun
    nothing = told()
    assert 'No control was run' in nothing and '+' not in nothing
    assert nothing.splitlines()[-1] == control_command(history)
    other = told(problem='x is no control of this progression (y)')
    assert other.startswith('x is no control of this progression (y), so it')
    alone = replace(history, plan=replace(history.plan, distill={
        'type': 'FeatureL2Loss', 'loss_weight': 0}))
    assert describe_gain(alone).startswith('No teacher took part')
    assert gain_of(history) is None


def test_the_command_is_the_one_to_type(history):
    work = Path(history.plan.work_dir)
    work.mkdir()
    (work / 'config.py').touch()
    assert control_command(history) == (
        f'python tools/train.py {work}/config.py --work-dir {work} --control')
    spaced = replace(history, plan=replace(history.plan, work_dir='a b'),
                     record={'starts': [{'processes': 1}, {'processes': 4}]})
    assert control_command(spaced) == (
        "torchrun --nproc_per_node=4 tools/train.py CONFIG --work-dir 'a b' "
        '--control --launcher pytorch')


def test_the_control_has_the_stages_of_the_order(toy, history):
    cfg = toy(order='bgs', max_teachers=1)
    with pytest.raises(PlanError, match='holds no order yet.*bgs_order'):
        control_config(cfg, replace(history, order=None))
    control = make_plan(control_config(cfg, replace(
        history, order=('wide+swin',))))
    assert control.order == (('wide', 'swin'),)
    assert not control.distils
    assert control.work_dir == str(Path(cfg.work_dir) / 'alone')
    assert cfg.mtpd.order == 'bgs'  # the progression's own is as it was


def test_where_no_control_can_be_as_long_none_is_advised(toy, history):
    """It would be trained in vain, and advised again."""
    limit = dict(max_epochs=7)
    assert history.plan.student.config.train_cfg.max_epochs != 7
    trained = replace(history, stages=(replace(history.stages[0],
                                               limit=limit),))
    early = toy()
    early.custom_hooks = [dict(type='mmengine.hooks.EarlyStoppingHook')]
    for other, words in (
            (trained, r"stage 1 was trained with {'max_epochs': 7}, and "
             r"train_cfg now has {'max_epochs': \d+}. Set it as it was"),
            (replace(history, plan=make_plan(early)),
             'custom_hooks has an EarlyStoppingHook')):
        told = describe_gain(other)
        assert re.search(f'None can be as long: {words}', told)
        assert '--control' not in told
        with pytest.raises(PlanError, match=words):
            control_config(toy(), other)
    same = replace(history, stages=(replace(
        history.stages[0], limit=dict(max_epochs=history.plan.student.config
                                      .train_cfg.max_epochs)),))
    assert '--control' in describe_gain(same)


def test_a_control_may_start_without_the_checkpoint(toy, history):
    cfg = toy(inherit=('neck',))
    cfg.load_from = cfg.mtpd.student.checkpoint
    history = replace(history, order=('wide', 'swin'))
    scratch = make_plan(control_config(cfg, history, scratch=True))
    assert scratch.work_dir == str(Path(cfg.work_dir) / 'scratch')
    assert scratch.student.checkpoint is None and not scratch.inherit
    assert scratch.student.sliced_from is None and not scratch.distils
    alone = make_plan(control_config(cfg, history))
    assert alone.student.checkpoint and alone.inherit
    assert scratch.order == alone.order == (('wide',), ('swin',))
    cfg.mtpd.student = dict(sliced_from=dict(config='a.py', checkpoint='a'))
    scratch = control_config(cfg, history, scratch=True)
    assert scratch.mtpd.student == dict(checkpoint=None)
    assert scratch.load_from is None


def test_what_is_no_control_is_not_compared(two_runs, tmp_path):
    work, alone = two_runs
    plan = read_plan(str(work))
    history = read_history(plan)
    assert [s.end_ap for s in history.control.stages] == [
        s.end_ap for s in read_history(read_plan(str(alone))).stages]
    assert not history.control.problem
    assert gain_of(history).value == pytest.approx(
        history.stages[-1].end_ap - history.control.stages[-1].end_ap)
    # It may lie elsewhere.
    assert read_history(plan, str(alone)).control == history.control
    assert read_history(plan, str(tmp_path)).control == Control()
    assert 'teachers took part in it' in \
        read_history(plan, str(work)).control.problem

    other = tmp_path / 'other'
    shutil.copytree(alone, other)
    record = json.loads((other / 'progression.json').read_text())
    for key, value, words in (
            ('student', 'f00', "checkpoint: 'f00' there"),
            ('handover', 'best', "mtpd.handover: 'best' there, 'last' here")):
        changed = {**record, 'identity': {**record['identity'], key: value}}
        (other / 'progression.json').write_text(json.dumps(changed))
        control = read_history(plan, str(other)).control
        assert not control.stages and words in control.problem
    (other / 'progression.json').write_text(json.dumps(record))
    for log in other.glob('stage1*/*/vis_data/scalars.json'):
        log.write_text(''.join(log.read_text().splitlines(True)[:2]))
    for validations in other.glob('stage1*/validations.json'):
        validations.write_text('{}')
    assert 'iterations of stage 1: 2 there, 6 here' in \
        read_history(plan, str(other)).control.problem


def test_a_stage_without_a_teacher_is_not_named_after_one(two_runs, tmp_path):
    """A control that an earlier version began keeps its folders."""
    work, alone = two_runs
    assert sorted(p.name for p in alone.glob('stage*')) == [
        'stage1_alone', 'stage2_alone']
    history = read_history(read_plan(str(work)))
    run = read_run(str(alone))
    old = tmp_path / 'alone'
    shutil.copytree(alone, old)
    for index, name in enumerate(('wide', 'swin'), 1):
        (old / f'stage{index}_alone').rename(old / f'stage{index}_{name}')
        paths = WorkDir(str(old))
        assert paths.stage(index, name, taught=False).folder == str(
            old / f'stage{index}_{name}')
    assert paths.stage(3, 'x', taught=False).folder == str(old /
                                                           'stage3_alone')
    for read, other in zip(
            history.control.stages,
            read_history(history.plan, str(old)).control.stages, strict=True):
        assert (read.end_ap, read.length, read.finished) == (
            other.end_ap, other.length, other.finished)
    assert [(v.stage, v.at, v.ap) for v in read_run(str(old)).validations] \
        == [(v.stage, v.at, v.ap) for v in run.validations]
    # Resumed, nothing is trained again.
    before = sorted(str(path) for path in old.rglob('*.pth'))
    control = make_plan(Config.fromfile(str(old / 'config.py')))
    control = replace(control, work_dir=str(old))
    record = read_record(control, identity_of(control, control.order))
    results = run_stages(control, control.order, None, record, {})
    assert [r.end_ap for r in results] == [
        s.end_ap for s in history.control.stages]
    assert sorted(str(path) for path in old.rglob('*.pth')) == before


def test_train_tells_the_gain_and_trains_the_control(toy, repository,
                                                     tmp_path):
    """The command that the end of the training names is run as it stands."""
    cfg = toy(order=['wide'])
    cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 1
    cfg.randomness = dict(seed=None)
    cfg.dump(str(tmp_path / 'user.py'))
    done = run_command('tools/train.py', tmp_path / 'user.py', '--no-probe',
                       cwd=repository)
    assert done.returncode == 0, done.stderr[-3000:]
    *_, told, command = done.stdout.splitlines()
    assert 'No control was run' in told
    python, *words = command.split()
    assert python == 'python' and words[-1] == '--control'
    dry = run_command(*words, '--dry-run', cwd=repository)
    assert "'loss_weight': 0" in dry.stdout
    assert not (tmp_path / 'work/alone').exists()
    done = run_command(*words, cwd=repository)
    assert done.returncode == 0, done.stderr[-3000:]
    assert '(no teacher)' in done.stdout
    assert 'Stage 1 (no teacher), from its beginning' in done.stdout
    assert 'AP from the student trained on alone for as long' in \
        done.stdout.splitlines()[-1]
    work = tmp_path / 'work'
    assert (work / 'alone/student.pth').is_file()
    seeds = [json.loads((folder / 'progression.json').read_text())['seed']
             for folder in (work, work / 'alone')]
    assert seeds[0] is not None and seeds[0] == seeds[1]
    # A config without teachers has no control.
    cfg.mtpd.distill.loss_weight = 0
    cfg.dump(str(tmp_path / 'off.py'))
    cfg.pop('mtpd')
    cfg.dump(str(tmp_path / 'plain.py'))
    for name, flag, message in (
            ('off.py', '--control', 'its own control'),
            ('plain.py', '--control', '--control: .*has no mtpd part'),
            ('plain.py', '--scratch', '--scratch: .*has no mtpd part')):
        done = run_command('tools/train.py', tmp_path / name, flag,
                           cwd=repository)
        assert done.returncode == 1 and re.search(message, done.stderr)


def test_two_processes_train_the_control(toy, repository, tmp_path):
    cfg = toy(order=['wide'])
    cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 1
    cfg.randomness = dict(seed=None)
    cfg.dump(str(tmp_path / 'user.py'))
    cfg.train_dataloader.batch_size = 8
    words = ('tools/train.py', tmp_path / 'user.py', '--no-probe',
             '--launcher', 'pytorch')
    for more in ((), ('--control',)):
        done = run_two(*words, *more, cwd=repository)
        for process in done:
            assert process.returncode == 0, process.stderr[-3000:]
    told = 'AP from the student trained on alone for as long'
    assert [told in process.stdout for process in done] == [True, False]
    work = tmp_path / 'work'
    records = [json.loads((folder / 'progression.json').read_text())
               for folder in (work, work / 'alone')]
    assert records[0]['seed'] == records[1]['seed'] is not None
    assert [r['starts'][-1]['processes'] for r in records] == [2, 2]
    history = read_history(read_plan(str(work)))
    # 24 images, two processes of 8: 2 steps of either.
    assert [s.length for s in (*history.stages, *history.control.stages)] == [
        2, 2]
    assert gain_of(history).last


def test_a_control_of_costs_on_images_without_labels_needs_none(toy, history,
                                                                frames):
    cfg = toy(unlabelled=dict(folder=str(frames)),
              costs=dict(split='unlabelled'))
    history = replace(history, order=('wide', 'swin'))
    for scratch in (False, True):
        control = control_config(cfg, history, scratch)
        plan = make_plan(control)
        assert plan.unlabelled is None
        assert not student_data(plan).problems
