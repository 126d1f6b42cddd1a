"""Stopped anywhere, a progression ends with the weights of one that was not.

``benchmarks/kill.py`` does the same by ``kill -9`` at random moments.
"""
import errno
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.runner import Runner

from mtpd.compat import atomic_files
from mtpd.distill.distiller import FeatureDistiller
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.plan.work_dir import WorkDir
from mtpd.progression import (PlanError, run as run_module, run_progression,
                              stage_sequence as stages_module)
from mtpd.progression.prepare import DiskFull
from mtpd.randomness import seed_everything, seed_generators
from mtpd.stage.resume import compare_with_checkpoint, newest_checkpoint
from mtpd.stage.preemption import EXIT_CODE, Preempted
from mtpd.stage import resume as resume_module
from mtpd.stage.checkpoint_hook import StageCheckpointHook
from mtpd.stage.seeding import KeyedBatches, seeded_loader, stateful_components

STEPS = 6
"""Per epoch: 24 images by 4."""


@pytest.fixture(autouse=True)
def _deterministic_until_the_end():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope='module')
def restless(toy_in):
    """cfg(folder): 2 stages of 2 epochs of 6 steps with all that draws or has
    a state: augmentation, shuffling, masks, momentum, averages, best."""
    def cfg(folder, workers=0, **changes):
        sum_of_two = dict(type='WeightedSum', losses=[
            dict(type='MGDLoss'), dict(type='FeatureL2Loss')])
        made = toy_in(folder, handover='best', distill=sum_of_two, **changes)
        made.default_hooks.checkpoint.update(interval=2, by_epoch=False)
        made.randomness.deterministic = True
        made.train_dataloader.update(batch_size=4, num_workers=workers,
                                     persistent_workers=workers > 0)
        pipeline = made.train_dataloader.dataset.pipeline
        pipeline.insert(-1, dict(type='PhotoMetricDistortion'))
        made.optim_wrapper.optimizer.momentum = 0.9
        made.train_cfg.val_interval = 1
        made.custom_hooks = [dict(type='EMAHook', momentum=0.3)]
        return made
    return cfg


def go(cfg):
    return run_progression(cfg, resume=True, with_probe=False)


def weights(path) -> dict[str, torch.Tensor]:
    return torch.load(path)['state_dict']


@pytest.fixture(scope='module')
def undisturbed(restless, tmp_path_factory):
    """Stage by stage what it handed on."""
    folder = tmp_path_factory.mktemp('undisturbed') / 'work'
    result = go(restless(folder))
    torch.use_deterministic_algorithms(False)
    return [weights(stage.checkpoint) for stage in result.stages]


def is_undisturbed(result, undisturbed) -> bool:
    return all(torch.equal(mine[key], value)
               for stage, other in zip(result.stages, undisturbed, strict=True)
               for mine in [weights(stage.checkpoint)]
               for key, value in other.items())


class Died(BaseException):
    """As a killed process: no handler of ``Exception`` sees it."""


def dies_at_call(monkeypatch, owner, name: str, call: int, after=False):
    """Let the nth call of a function be the last thing that happens."""
    whole = getattr(owner, name)
    calls = []

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) != call:
            return whole(*args, **kwargs)
        if after:
            whole(*args, **kwargs)
        raise Died

    monkeypatch.setattr(owner, name, dies)
    return calls


@pytest.mark.parametrize('workers, deaths', [pytest.param(
    2 * (i == 0), deaths, marks=[pytest.mark.slow] if 0 < i < 4 else [])
    for i, deaths in enumerate([
    # In epoch 1 of stage 1 and in its epoch 2.
    [(FeatureDistiller, 'train_step', 4, False),
     (FeatureDistiller, 'train_step', 7, True)],
    # Before the first validation's end, and after the last one's.
    [(CocoMetric, 'compute_metrics', 2, False),
     (CocoMetric, 'compute_metrics', 4, True)],
    # Writing, of a checkpoint and of a file when all of it was written.
    [(Runner, 'save_checkpoint', 5, False),
     (atomic_files.os, 'replace', 14, False)],
    # Between the stages, and after the last step of epoch 1 of stage 2.
    [(stages_module, 'stage_config', 2, False),
     (FeatureDistiller, 'train_step', STEPS, True)],
    # Exporting stage 1, and before the result is.
    [(stages_module, 'export_student', 1, False),
     (run_module, 'export_student', 1, False)],
])], ids=lambda x: '+'.join(d[1] for d in x) if isinstance(x, list) else x)
def test_it_ends_where_it_would_have(restless, undisturbed, tmp_path,
                                     monkeypatch, workers, deaths):
    for death in deaths:
        with monkeypatch.context() as patch:
            dies_at_call(patch, *death)
            with pytest.raises(Died):
                go(restless(tmp_path, workers))
    assert is_undisturbed(go(restless(tmp_path, workers)), undisturbed)
    assert not list(tmp_path.rglob('*.partial'))


def steps_of(monkeypatch) -> list[int]:
    """The iterations of all steps from here on."""
    seen = []
    whole = FeatureDistiller.loss

    def look(self, *args):
        seen.append(1)
        return whole(self, *args)

    monkeypatch.setattr(FeatureDistiller, 'loss', look)
    return seen


def test_at_sigterm_the_iteration_is_ended_saved_and_left(
        restless, undisturbed, tmp_path, monkeypatch):
    steps = steps_of(monkeypatch)
    whole = FeatureDistiller.train_step

    def warned(self, *args, **kwargs):
        if len(steps) == STEPS + 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureDistiller, 'train_step', warned)
        with pytest.raises(Preempted) as stop:
            go(restless(tmp_path))
    assert stop.value.code == EXIT_CODE == 75
    assert len(steps) == STEPS + 3
    newest = newest_checkpoint(str(tmp_path / 'stage1_wide'))
    assert newest.endswith('epoch_1_batch_3.pth')
    # Another handler than ours would have been called now.
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    result = go(restless(tmp_path))
    assert len(steps) == 4 * STEPS  # none twice
    assert is_undisturbed(result, undisturbed)


def test_at_sigterm_a_validation_is_interrupted_and_rerun(
        restless, undisturbed, tmp_path, monkeypatch):
    steps = steps_of(monkeypatch)
    cfg = restless(tmp_path)
    # Where nothing is due to be saved, it is saved for the validation.
    cfg.default_hooks.checkpoint.update(interval=2, by_epoch=True)
    whole, calls = CocoMetric.process, []

    def warned(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:  # the first is the student's before stage 1
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(CocoMetric, 'process', warned)
        with pytest.raises(Preempted):
            go(cfg)
    assert len(steps) == STEPS
    assert is_undisturbed(go(restless(tmp_path)), undisturbed)
    assert len(steps) == 4 * STEPS


def test_workers_do_not_matter_and_may_be_ended_by_the_same_signal(
        restless, undisturbed, tmp_path, monkeypatch):
    steps = steps_of(monkeypatch)
    whole = FeatureDistiller.train_step

    def warned(self, *args, **kwargs):
        if len(steps) == 2:
            # A cluster's signal reaches all of a job, and comes from outside:
            # one of their parent would end workers in peace.
            subprocess.run(['kill', '-TERM', *(str(c.pid) for c in
                            multiprocessing.active_children()),
                            str(os.getpid())], check=True)
            time.sleep(.1)
        return whole(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureDistiller, 'train_step', warned)
        with pytest.raises(Preempted):
            go(restless(tmp_path, workers=2))
    assert 3 <= len(steps) < STEPS
    result = go(restless(tmp_path, workers=2))
    assert len(steps) == 4 * STEPS
    # Not only equal to themselves: how many load changes no sample.
    assert is_undisturbed(result, undisturbed)


def test_gradients_that_wait_are_saved(restless, tmp_path, monkeypatch):
    """Windows of 4 in epochs of 6: one is open when the first epoch ends."""
    def cfg(folder):
        made = restless(folder, order=['wide'])
        made.optim_wrapper.accumulative_counts = 4
        return made

    whole = weights(go(cfg(tmp_path / 'whole')).student)
    with monkeypatch.context() as patch:
        dies_at_call(patch, FeatureDistiller, 'train_step', STEPS + 2)
        with pytest.raises(Died):
            go(cfg(tmp_path / 'cut'))
    folder = tmp_path / 'cut' / 'stage1_wide'
    waiting = torch.load(folder / 'epoch_1.pth', weights_only=True)[
        'gradients']
    assert waiting and all(g.abs().sum() > 0 for name, g in waiting.items()
                           if name.endswith('conv1.weight'))
    # Only where no window is open there are others: after steps 4 and 8.
    inside = [p.name for p in folder.glob('*_batch_*')]
    assert inside == ['epoch_0_batch_4.pth']
    again = weights(go(cfg(tmp_path / 'cut')).student)
    assert all(torch.equal(whole[key], again[key]) for key in whole)


@pytest.mark.slow
def test_a_loop_of_iterations_goes_on_where_it_was(
        restless, tmp_path, monkeypatch):
    """Over more than one pass, by the sampler without end, with workers that
    stay (test_endless_batches_pass_after_pass has the other)."""
    def cfg(folder):
        made = restless(folder, 2, order=['wide'])
        made.train_dataloader.sampler.type = 'InfiniteSampler'
        made.train_cfg = dict(type='IterBasedTrainLoop', max_iters=11,
                              val_interval=5)
        made.param_scheduler = [dict(type='LinearLR', start_factor=0.25,
                                     by_epoch=False, begin=0, end=3)]
        made.default_hooks.checkpoint = dict(
            type='CheckpointHook', by_epoch=False, interval=4)
        return made

    first = []
    look = FeatureDistiller.loss

    def loss(self, inputs, samples, *args):
        first.append([sample.img_id for sample in samples])
        return look(self, inputs, samples, *args)

    monkeypatch.setattr(FeatureDistiller, 'loss', loss)
    one, other = tmp_path / 'whole', tmp_path / 'cut'
    whole = weights(go(cfg(one)).student)
    # Nothing is loaded to be thrown away: six batches are one pass.
    assert len({i for batch in first[:6] for i in batch}) == 24
    with monkeypatch.context() as patch:
        dies_at_call(patch, FeatureDistiller, 'train_step', 10)
        with pytest.raises(Died):
            go(cfg(other))
    stage = other / 'stage1_wide'
    assert newest_checkpoint(str(stage)).endswith('iter_8.pth')
    again = weights(go(cfg(other)).student)
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    # What interval asks for, and of the others those of the newest two.
    assert sorted(p.name for p in stage.glob('iter_*.pth')) == [
        'iter_10.pth', 'iter_11.pth', 'iter_4.pth', 'iter_8.pth']


def test_a_copy_that_is_resumed_leaves_the_original_its_best(
        restless, tmp_path, monkeypatch):
    """Its checkpoints name the best one by the original's path."""
    def cfg(folder):
        return restless(folder, order=['wide'])

    scores = iter([.1, .2, .3])
    monkeypatch.setattr(CocoMetric, 'compute_metrics',
                        lambda *_: {'bbox_mAP': next(scores)})
    with monkeypatch.context() as patch:
        dies_at_call(patch, FeatureDistiller, 'train_step', STEPS + 2)
        with pytest.raises(Died):
            go(cfg(tmp_path / 'one'))
    shutil.copytree(tmp_path / 'one', tmp_path / 'copy')
    go(cfg(tmp_path / 'copy'))
    for folder, epoch in (('one', 1), ('copy', 2)):
        best, = (tmp_path / folder / 'stage1_wide').glob('best_*')
        assert best.name == f'best_coco_bbox_mAP_epoch_{epoch}.pth'


def test_the_newest_of_two_kinds_is_the_one_of_most_iterations(tmp_path):
    """As where default_hooks.checkpoint.by_epoch has changed meanwhile."""
    def newest(**files):
        for path in tmp_path.glob('*'):
            path.unlink()
        for name, iterations in files.items():
            torch.save(dict(state_dict={}, meta=dict(iter=iterations)),
                       tmp_path / f'{name}.pth')
        path = newest_checkpoint(str(tmp_path))
        return path and Path(path).stem

    assert newest() is None
    assert newest(epoch_1=6, epoch_2=12) == 'epoch_2'
    assert newest(epoch_1_batch_2=8, epoch_1=6, iter_10=10, iter_9=9) \
        == 'iter_10'
    assert newest(epoch_3=18, iter_10=10) == 'epoch_3'
    assert newest(iter_9=9, iter_10=10) == 'iter_10'


def test_a_stage_that_is_counted_in_another_way_hands_on_its_end(
        restless, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        dies_at_call(patch, FeatureDistiller, 'train_step', STEPS + 4)
        with pytest.raises(Died):
            go(restless(tmp_path, order=['wide']))
    made = restless(tmp_path, order=['wide'])
    made.train_dataloader.sampler.type = 'InfiniteSampler'
    made.train_cfg = dict(type='IterBasedTrainLoop', max_iters=STEPS + 5,
                          val_interval=STEPS + 5)
    steps = steps_of(monkeypatch)
    go(made)
    assert len(steps) == 3  # from iteration 8 on
    folder = tmp_path / 'stage1_wide'
    assert newest_checkpoint(str(folder)) == str(folder / 'iter_11.pth')


@pytest.mark.slow
def test_the_best_and_a_plateau_survive_a_stop(restless, tmp_path,
                                               monkeypatch):
    """What a validation changes is on disk before it is over with."""
    def cfg(folder):
        made = restless(folder, order=['wide'])
        made.train_cfg.max_epochs = 4
        made.default_hooks.checkpoint.update(interval=2, by_epoch=True)
        made.param_scheduler = [dict(
            type='ReduceOnPlateauLR', monitor='coco/bbox_mAP', rule='greater',
            factor=.1, patience=0, by_epoch=True)]
        return made

    aps = {0: .1, 1: .9, 2: .5, 3: .4, 4: .3}

    def measured(patch, validation: int):
        said = iter([aps[at] for at in range(validation, 5)])
        patch.setattr(CocoMetric, 'compute_metrics',
                      lambda *_: {'bbox_mAP': next(said)})

    with monkeypatch.context() as patch:
        measured(patch, 0)
        whole = go(cfg(tmp_path / 'whole'))
    assert whole.stages[0].end_ap == 90
    folder = tmp_path / 'cut'
    # After the first validation, and after the second.
    for validation, step in ((0, STEPS + 1), (2, STEPS + 1)):
        with monkeypatch.context() as patch:
            measured(patch, validation)
            dies_at_call(patch, FeatureDistiller, 'train_step', step)
            with pytest.raises(Died):
                go(cfg(folder))
    with monkeypatch.context() as patch:
        measured(patch, 3)
        again = go(cfg(folder))
    assert again.stages[0].end_ap == 90
    one, other = (torch.load(path / 'stage1_wide' / 'epoch_4.pth',
                             weights_only=True)
                  for path in (tmp_path / 'whole', folder))
    for key, value in one['state_dict'].items():
        assert torch.equal(value, other['state_dict'][key])
    rates = [c['optimizer']['param_groups'][0]['lr'] for c in (one, other)]
    assert rates[0] == rates[1] == pytest.approx(.004 * .1 ** 2)
    assert len(list((folder / 'stage1_wide').glob('best_*'))) == 1


def test_a_start_that_came_to_no_stage_leaves_nothing_to_the_next(
        toy, monkeypatch):
    def cfg(seed):
        made = toy(order=['wide'], init_adapters='fitted', strides=(8,))
        made.mtpd.student.checkpoint = None
        made.randomness.seed = seed
        made.train_cfg.max_epochs = 1
        return made

    with monkeypatch.context() as patch:
        dies_at_call(patch, run_module, 'starting_ap', 1)
        with pytest.raises(Died):
            go(cfg(0))
    start = torch.load(Path(cfg(0).work_dir) / 'start.pth')['state_dict']
    go(cfg(1))
    again = torch.load(Path(cfg(0).work_dir) / 'start.pth')['state_dict']
    assert not torch.equal(start['backbone.conv1.weight'],
                           again['backbone.conv1.weight'])


def test_torn_and_foreign_checkpoints_are_skipped_with_a_message(
        restless, undisturbed, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        dies_at_call(patch, FeatureDistiller, 'train_step', STEPS + 4)
        with pytest.raises(Died):
            go(restless(tmp_path))
    folder = tmp_path / 'stage1_wide'
    names = sorted(p.name for p in folder.glob('epoch_*.pth'))
    assert names == ['epoch_1.pth', 'epoch_1_batch_2.pth']  # always two
    torn = folder / 'epoch_1_batch_2.pth'
    torn.write_bytes(torn.read_bytes()[:-1000])
    foreign = torch.load(folder / 'epoch_1.pth', weights_only=True)
    foreign['mtpd']['identity']['teachers']['wide'] = 'abc'
    torch.save(foreign, folder / 'epoch_8.pth')
    torch.save(dict(state_dict={}, meta={}), folder / 'epoch_9.pth')
    said = []
    monkeypatch.setattr('mtpd.stage.resume.print_log',
                        lambda text, **_: said.append(text))
    with monkeypatch.context() as patch:
        dies_at_call(patch, FeatureDistiller, 'train_step', 5)
        with pytest.raises(Died):
            go(restless(tmp_path))
    # Those of higher numbers do not push out what is written now.
    assert (folder / 'epoch_1_batch_4.pth').exists()
    result = go(restless(tmp_path))
    assert is_undisturbed(result, undisturbed)
    for name, why in (('epoch_9.pth', 'no "mtpd" entry'),
                      ('epoch_8.pth', "teachers.wide: 'abc' there"),
                      ('epoch_1_batch_2.pth', 'if a run was stopped')):
        assert [text for text in said if name in text and why in text], said


def dies_in_second_stage(monkeypatch, cfg):
    """After its first checkpoint and two more batches."""
    with monkeypatch.context() as patch:
        dies_at_call(patch, FeatureDistiller, 'train_step', 2 * STEPS + 4)
        with pytest.raises(Died):
            go(cfg)


def test_damaged_files_of_a_stage(restless, undisturbed, tmp_path,
                                  monkeypatch):
    """What it handed on is written again; its validations are asked for
    before anything is trained."""
    steps = steps_of(monkeypatch)
    dies_in_second_stage(monkeypatch, restless(tmp_path))
    done = len(steps)
    metrics = tmp_path / 'stage1_wide' / 'validations.json'
    whole = metrics.read_bytes()
    metrics.write_bytes(whole[:-9])
    with pytest.raises(PlanError, match=f'{metrics} is damaged .*Remove it'):
        go(restless(tmp_path))
    assert len(steps) == done
    metrics.write_bytes(whole)

    student = tmp_path / 'stage1_wide' / 'student.pth'
    student.write_bytes(student.read_bytes()[:-1000])
    said = []
    monkeypatch.setattr(stages_module, 'print_log',
                        lambda text, *_, **__: said.append(text))
    assert is_undisturbed(go(restless(tmp_path)), undisturbed)
    # From the checkpoint after two batches of stage 2 on.
    assert len(steps) == done + 2 * STEPS - 2
    assert [text for text in said
            if f'{student} is skipped, and written again' in text]


def test_a_stage_that_is_gone_is_not_trained_again_without_a_word(
        restless, undisturbed, tmp_path, monkeypatch):
    """As after somebody made space while the second stage was training."""
    steps = steps_of(monkeypatch)
    dies_in_second_stage(monkeypatch, restless(tmp_path))
    done = len(steps)
    first = tmp_path / 'stage1_wide'
    kept = (first / 'student.pth').read_bytes()
    shutil.rmtree(first)
    with pytest.raises(PlanError, match='Stage 1 has left neither .* in '
                       f'{first}, and .* Restore {first}/student.pth; or '):
        go(restless(tmp_path))
    assert len(steps) == done
    # The file alone is enough.
    first.mkdir()
    (first / 'student.pth').write_bytes(kept)
    assert is_undisturbed(go(restless(tmp_path)), undisturbed)
    assert len(steps) == done + 2 * STEPS - 2


def test_two_runs_do_not_train_in_one_folder(restless, tmp_path,
                                             monkeypatch):
    """As after the same job was submitted twice."""
    lock = WorkDir(str(tmp_path)).lock
    other = subprocess.Popen(
        [sys.executable, '-c', 'import fcntl, sys, time\n'
         'file = open(sys.argv[1], "a")\n'
         'fcntl.lockf(file, fcntl.LOCK_EX)\n'
         'print("held", flush=True)\ntime.sleep(600)', lock],
        stdout=subprocess.PIPE)
    steps = steps_of(monkeypatch)
    assert other.stdout.readline() == b'held\n'
    with pytest.raises(PlanError, match='Another run is training in '
                       f'{tmp_path}. Wait for it or end it, or choose '
                       f'another --work-dir. If there is none, remove {lock}'):
        go(restless(tmp_path, order=['wide']))
    assert not steps and [p.name for p in tmp_path.iterdir()] == ['.lock']
    other.kill()
    other.communicate()
    go(restless(tmp_path, order=['wide']))
    assert len(steps) == 2 * STEPS


def test_a_seed_is_drawn_once(restless, tmp_path, monkeypatch):
    def cfg():
        made = restless(tmp_path, order=['wide'])
        del made.randomness.seed
        return made

    with monkeypatch.context() as patch:
        dies_at_call(patch, FeatureDistiller, 'train_step', 4)
        with pytest.raises(Died):
            go(cfg())
    drawn = json.loads((tmp_path / 'seed.json').read_text())
    assert json.loads((tmp_path / 'progression.json').read_text())[
        'seed'] == drawn
    (tmp_path / 'seed.json').unlink()  # the record holds it too
    result = go(cfg())
    meta = torch.load(result.student)['meta']['mtpd']
    assert meta['seed'] == meta['identity']['seed'] == drawn
    other = cfg()
    other.randomness.seed = drawn + 1
    with pytest.raises(OtherTeacher, match=f'seed: {drawn} there'):
        go(other)


def test_another_number_of_batches_is_refused_within_an_epoch(
        restless, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        dies_at_call(patch, FeatureDistiller, 'train_step', 4)
        with pytest.raises(Died):
            go(restless(tmp_path))
    other = restless(tmp_path)
    other.train_dataloader.batch_size = 8
    with pytest.raises(PlanError, match='after batch 2 of a pass through the '
                       'images, with batches=6, batch_size=4, processes=1, '
                       'images=24; here it has batches=3, batch_size=8, '
                       'processes=1, images=24'):
        go(other)
    other = restless(tmp_path)
    other.optim_wrapper.optimizer = dict(type='AdamW', lr=.001)
    with pytest.raises(PlanError, match="type is 'AdamW' and was 'SGD'"):
        go(other)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_within_a_pass_batches_have_to_be_the_same(by_epoch):
    loader = seeded_loader(torch.utils.data.DataLoader(
        Draws(), batch_size=5), 7, 1)
    hook = StageCheckpointHook(by_epoch=by_epoch)
    assert hook.batches_done(loader) == 0
    same = dict(batches=len(loader), batch_size=5, processes=1, images=10)
    at_the_end = dict(batch=0, iter=3 * len(loader))
    for other in ({}, dict(batch_size=4), dict(processes=2), dict(batches=7),
                  dict(images=9)):
        hook._written = {'a': {**at_the_end, **same, **other}}
        if 'batches' not in other:
            assert hook.batches_done(loader) == 0
        hook._written = {'a': dict(batch=1, iter=1, **{**same, **other})}
        if not other:
            assert hook.batches_done(loader) == 1
            continue
        with pytest.raises(PlanError, match='after batch 1 of a pass'):
            hook.batches_done(loader)
    hook._written = {'a': dict(batch=1, iter=1)}  # an older version's
    assert hook.batches_done(loader) in (0, 1)


def test_a_checkpoint_waits_for_the_next_step(restless, tmp_path,
                                              monkeypatch):
    """Steps of 3 iterations, and a checkpoint every 4: after 6, as the epoch
    ends, and after 9."""
    made = restless(tmp_path, order=['wide'])
    made.optim_wrapper.accumulative_counts = 3
    made.default_hooks.checkpoint.interval = 4
    with monkeypatch.context() as patch:
        dies_at_call(patch, FeatureDistiller, 'train_step', STEPS + 5)
        with pytest.raises(Died):
            go(made)
    names = [p.name for p in (tmp_path / 'stage1_wide').glob('epoch_*')]
    assert sorted(names) == ['epoch_1.pth', 'epoch_1_batch_3.pth']


def written_by(path, **changes) -> tuple[Config, str]:
    """A config, and a checkpoint that was written with it."""
    cfg = Config(dict(
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(
            type='SGD', lr=.01, momentum=.9)),
        param_scheduler=[dict(type='LinearLR', end=5)]))
    torch.save(dict(meta=dict(cfg=cfg.pretty_text), state_dict={}), path)
    cfg.merge_from_dict(changes)
    return cfg, str(path)


@pytest.mark.parametrize('changes, words', [
    ({'optim_wrapper.optimizer.type': 'AdamW'},
     "optim_wrapper.optimizer.type is 'AdamW' and was 'SGD'"),
    ({'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0)},
     'optim_wrapper.paramwise_cfg is .* and was None'),
    ({'param_scheduler': [dict(type='CosineAnnealingLR')]},
     r"param_scheduler is \['CosineAnnealingLR'\] and was \['LinearLR'\]")])
def test_what_a_checkpoint_cannot_go_on_with_is_refused(tmp_path, changes,
                                                        words):
    with pytest.raises(PlanError, match=words):
        compare_with_checkpoint(*written_by(tmp_path / 'a.pth', **changes))


@pytest.mark.parametrize('changes, names', [
    ({}, []), ({'optim_wrapper.type': 'AmpOptimWrapper'}, []),
    ({'optim_wrapper.optimizer.lr': .1}, ['optim_wrapper.optimizer.lr']),
    ({'param_scheduler': [dict(type='mmengine.optim.LinearLR', end=6)],
      'optim_wrapper.optimizer.nesterov': True},
     ['optim_wrapper.optimizer.nesterov', 'param_scheduler[0]'])])
def test_what_a_resumed_run_does_not_take_over_is_said(
        tmp_path, monkeypatch, changes, names):
    told = []
    monkeypatch.setattr(resume_module, 'print_log',
                        lambda message, **_: told.append(message))
    compare_with_checkpoint(*written_by(tmp_path / 'a.pth', **changes))
    assert [message.split()[0] for message in told] == names


@pytest.mark.parametrize('train_cfg, meta, words', [
    (dict(max_epochs=2), dict(epoch=2, batch=1, iter=13),
     'max_epochs is 2, and .* after 2 epochs and 1 batches. Set it higher'),
    (dict(max_epochs=2), dict(epoch=3, iter=18), 'after 3 epochs. Set it'),
    (dict(max_iters=12), dict(epoch=0, iter=13), 'after 13 iters. Set it'),
    (dict(max_epochs=2), dict(epoch=2, batch=0, iter=12), None),
    (dict(max_iters=12), dict(epoch=0, iter=12), None)])
def test_a_run_that_was_trained_beyond_its_end_is_refused(
        tmp_path, train_cfg, meta, words):
    """It would hand on weights of a longer training than its record says."""
    path = str(tmp_path / 'a.pth')
    torch.save(dict(meta=meta, state_dict={}), path)
    cfg = Config(dict(train_cfg=train_cfg))
    if words is None:
        compare_with_checkpoint(cfg, path)
        return
    with pytest.raises(PlanError, match=words):
        compare_with_checkpoint(cfg, path)


def test_other_training_images_are_said(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(resume_module, 'print_log',
                        lambda message, **_: told.append(message))
    cfg, path = written_by(tmp_path / 'a.pth')
    cfg.train_dataloader = dict(dataset=dict(
        type='CocoDataset', ann_file='a.json', pipeline=[dict(type='Resize')]))
    torch.save(dict(meta=dict(cfg=cfg.pretty_text), state_dict={}), path)
    cfg.train_dataloader.dataset.type = 'mmdet.CocoDataset'
    compare_with_checkpoint(cfg, path)
    assert told == []
    cfg.train_dataloader.dataset.ann_file = 'b.json'
    compare_with_checkpoint(cfg, path)
    message, = told
    assert message.startswith(f'train_dataloader.dataset differs from what '
                              f'{path} was trained with. The run goes on with '
                              'the new one')


def test_a_config_that_cannot_be_read_back_is_not_compared(tmp_path):
    cfg, path = written_by(tmp_path / 'a.pth')
    for meta in ({}, dict(cfg='limit = inf')):
        torch.save(dict(meta=meta, state_dict={}), path)
        compare_with_checkpoint(cfg, path)


# ------------------------------------------------------------ the randomness


def draws() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_streams_of_other_keys_are_others():
    seen = {}
    for key in [(1, 0, 1, 0, 0), (1, 0, 1, 0, 1), (1, 0, 1, 1, 0),
                (2, 0, 1, 0, 0), (1, 1, 1, 0, 0), (1, 0, 0, 1, 0)]:
        seed_everything(*key)
        seen[key] = draws()
        seed_everything(*key)
        assert draws() == seen[key]
    for values in zip(*seen.values()):
        assert len(set(values)) == len(seen)


def test_loading_an_image_seeds_no_device(monkeypatch):
    """Each would format the call stack. The draws are the same."""
    seed_everything(5, 7)
    expected = draws()
    monkeypatch.setattr(torch, 'manual_seed', None)
    assert seed_generators(5, 7) == torch.initial_seed()
    assert draws() == expected
    loader = seeded_loader(torch.utils.data.DataLoader(Draws()), 7, 1)
    assert samples(loader, 0) == samples(loader, 0)


class Draws(torch.utils.data.Dataset):
    """Every sample is its index and what three generators give."""

    pipeline = 'first'

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, *draws()


def samples(loader, epoch: int, first: int = 0) -> list[list]:
    loader.batch_sampler.start_from(epoch, first)
    return [[sample[0].item(), *(x.item() for x in sample[1:])]
            for batch in loader for sample in zip(*batch)]


@pytest.mark.parametrize('workers', [0, 2])
def test_samples_are_functions_of_seed_stage_epoch_and_image(workers):
    def loader(seed=7, stage=1):
        return seeded_loader(torch.utils.data.DataLoader(
            Draws(), batch_size=3, num_workers=workers,
            persistent_workers=workers > 0), seed, stage)

    one = loader()
    first, second = samples(one, 0), samples(one, 1)
    assert [s[0] for s in first] == list(range(10))
    assert samples(loader(), 0) == first and samples(one, 0) == first
    assert samples(one, 1, 2) == second[6:]
    assert samples(seeded_loader(torch.utils.data.DataLoader(
        Draws(), batch_size=5), 7, 1), 1) == second  # whoever loads them
    others = [first, second, samples(loader(seed=8), 0),
              samples(loader(stage=2), 0)]
    drawn = [value for run in others for s in run for value in s[1:]]
    assert len(set(drawn)) == len(drawn)


def test_a_image_that_comes_twice_is_another_sample():
    loader = seeded_loader(torch.utils.data.DataLoader(
        Draws(), batch_sampler=[[3, 4], [3]]), 7, 1)
    once, other, twice = samples(loader, 0)
    assert once[0] == twice[0] == 3 and once[1:] != twice[1:]


def test_endless_batches_pass_after_pass():
    class Sampler:
        epoch = 0

        def __iter__(self):
            return iter([4, 5, 6] if self.epoch == 0 else [6, 5, 4])

        def __len__(self):
            return 3

        def set_epoch(self, epoch):
            self.epoch = epoch

    def made(first):
        batches = KeyedBatches(torch.utils.data.BatchSampler(
            Sampler(), 2, False), endless=True)
        batches.start_from(0, first)
        return iter(batches)

    whole = made(0)
    expected = [next(whole) for _ in range(5)]
    assert expected[:3] == [[(0, 0, 4), (0, 0, 5)], [(0, 0, 6)],
                            [(1, 0, 6), (1, 0, 5)]]
    later = made(3)
    assert [next(later), next(later)] == expected[3:]


def test_a_hook_may_give_the_data_set_another_pipeline():
    loader = seeded_loader(torch.utils.data.DataLoader(Draws()), 7, 1)
    inner = loader.dataset._dataset
    loader.dataset.pipeline = 'second'  # as mmdet's PipelineSwitchHook does
    assert inner.pipeline == 'second' == loader.dataset.pipeline
    assert pickle.loads(pickle.dumps(loader.dataset)).pipeline == 'second'


def test_what_has_a_memory_is_named(toy):
    cfg = toy()
    assert stateful_components(cfg) == []
    cfg.train_dataloader.dataset = dict(
        type='MultiImageMixDataset', dataset=cfg.train_dataloader.dataset,
        pipeline=[dict(type='CachedMosaic', img_scale=(96, 64))])
    cfg.custom_hooks = [dict(type='mmengine.hooks.EarlyStoppingHook')]
    assert stateful_components(cfg) == ['CachedMosaic', 'EarlyStoppingHook']
    assert stateful_components(cfg, [dict(type='CachedMixUp')]) == [
        'CachedMosaic', 'CachedMixUp', 'EarlyStoppingHook']


# ------------------------------------------- the disk, and what vanishes


@pytest.mark.slow
def test_images_that_vanish_are_named_and_back_again_it_goes_on(
        restless, undisturbed, tmp_path, monkeypatch, drawn):
    """In the middle of an epoch, and before the start."""
    folder = tmp_path / 'data'
    shutil.copytree(drawn, folder)

    def cfg():
        made = restless(tmp_path / 'work')
        made.train_dataloader.dataset.data_root = str(folder)
        return made

    whole = FeatureDistiller.train_step
    steps = []

    def lost(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == 4:
            (folder / 'train').rename(tmp_path / 'elsewhere')
        return whole(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureDistiller, 'train_step', lost)
        with pytest.raises(FileNotFoundError, match='data/train'):
            go(cfg())
        with pytest.raises(PlanError, match='there is no folder .*data/train'):
            go(cfg())
    (tmp_path / 'elsewhere').rename(folder / 'train')
    assert is_undisturbed(go(cfg()), undisturbed)


@pytest.mark.slow
def test_a_disk_that_takes_no_more_loses_nothing(
        restless, undisturbed, tmp_path, monkeypatch):
    """From some write on, and for every write of a whole start: first it is
    full, then read-only."""
    whole = atomic_files.os.replace
    calls = []

    def fails(source, target):
        calls.append(1)
        if len(calls) > 9:
            error = errno.ENOSPC if len(calls) == 10 else errno.EROFS
            raise OSError(error, os.strerror(error))
        whole(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files.os, 'replace', fails)
        for _ in range(2):
            with pytest.raises(DiskFull, match='written before is whole.*'
                               '--resume'):
                go(restless(tmp_path))
    assert is_undisturbed(go(restless(tmp_path)), undisturbed)
