"""Runs with images without labels: exact, resumable, refused when changed."""
import copy
import json
import shutil

import pytest
import torch

from mtpd.commands.train import dry_run
from mtpd.distill.distiller import FeatureDistiller
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.plan.plan import make_plan
from mtpd.progression import PlanError, run_progression
from mtpd.progression.control import control_config
from mtpd.progression.history import read_history
from mtpd.stage.config import stage_config


@pytest.fixture(scope='module')
def exact(toy_in, frames):
    """cfg(folder): one stage of 2 epochs of 6 steps of 4 + 3 images with all
    that draws or has a state, taught at twice the size with an automatic
    weight; of 11 images without labels, so that passes end within epochs."""
    def cfg(folder, workers=0, **changes):
        made = toy_in(folder, order=['wide'], distill=dict(
            type='WeightedSum', loss_weight=dict(share=0.5, iterations=4),
            losses=[dict(type='MGDLoss'), dict(type='FeatureL2Loss')]),
            unlabelled=dict(folder=str(frames), batch_size=3), **changes)
        made.mtpd.teachers.wide.scale = 2
        made.default_hooks.checkpoint.update(interval=2, by_epoch=False)
        made.train_dataloader.update(batch_size=4, num_workers=workers,
                                     persistent_workers=workers > 0)
        made.train_dataloader.dataset.pipeline.insert(
            -1, dict(type='PhotoMetricDistortion'))
        made.optim_wrapper.update(accumulative_counts=2)
        made.optim_wrapper.optimizer.momentum = 0.9
        made.custom_hooks = [dict(type='EMAHook', momentum=0.3)]
        return made
    return cfg


def go(cfg):
    return run_progression(cfg, resume=True, with_probe=False)


def weights(result) -> dict[str, torch.Tensor]:
    return torch.load(result.stages[-1].checkpoint)['state_dict']


@pytest.fixture(scope='module')
def undisturbed(exact, tmp_path_factory):
    """Work dir of a finished run, and its batches' images without labels."""
    folder = tmp_path_factory.mktemp('undisturbed') / 'work'
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        whole = FeatureDistiller.loss

        def loss(self, inputs, samples, teacher_inputs, unlabelled):
            seen.append((inputs.clone(), unlabelled['inputs'].clone(),
                         {k: v.shape for k, v in
                          unlabelled['teacher_inputs'].items()}))
            return whole(self, inputs, samples, teacher_inputs, unlabelled)

        patch.setattr(FeatureDistiller, 'loss', loss)
        result = go(exact(folder))
    return folder, weights(result), seen


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
        exact, undisturbed, tmp_path, monkeypatch):
    """Before steps 4 and 9 of 12, without workers and with two."""
    whole, folder = FeatureDistiller.loss, tmp_path / 'work'
    stops, steps = [3, 8], 0

    def dies(self, *args):
        nonlocal steps
        steps += 1
        if stops and steps > stops[0]:
            steps = stops.pop(0) // 2 * 2  # what the checkpoint holds
            raise KeyboardInterrupt
        return whole(self, *args)

    monkeypatch.setattr(FeatureDistiller, 'loss', dies)
    for workers in (0, 2):
        with pytest.raises(KeyboardInterrupt):
            go(exact(folder, workers))
    resumed = weights(go(exact(folder)))
    assert not stops
    assert resumed.keys() == undisturbed[1].keys()
    for key, value in undisturbed[1].items():
        assert torch.equal(resumed[key], value), key


def test_the_labelled_images_are_those_of_a_run_without(
        exact, undisturbed, tmp_path, monkeypatch):
    seen = []
    whole = FeatureDistiller.loss

    def loss(self, inputs, samples, teacher_inputs):
        seen.append(inputs.clone())
        return whole(self, inputs, samples, teacher_inputs)

    monkeypatch.setattr(FeatureDistiller, 'loss', loss)
    cfg = exact(tmp_path / 'work')
    del cfg.mtpd.unlabelled
    result = go(cfg)
    assert len(seen) == 12
    for own, (other, unlabelled, teachers) in zip(seen, undisturbed[2]):
        assert torch.equal(own, other)
        assert unlabelled.shape == (3, 3, 64, 96)
        assert teachers == {'wide': (3, 3, 128, 192)}
    after = weights(result)
    assert any(not torch.equal(after[key], value)
               for key, value in undisturbed[1].items())


def test_another_set_is_refused_at_a_resume(exact, undisturbed, frames,
                                            tmp_path):
    folder = undisturbed[0]
    record = json.loads((folder / 'progression.json').read_text())
    assert record['identity']['unlabelled']['batch_size'] == 3
    more = tmp_path / 'more'
    shutil.copytree(frames, more)
    cfg = exact(folder)
    cfg.mtpd.unlabelled.folder = str(more)
    go(copy.deepcopy(cfg))  # a copy of the same images
    next(more.glob('*.png')).unlink()
    for change in (dict(folder=str(more)), dict(batch_size=4), None,
                   dict(batch_norm='running')):
        cfg = exact(folder)
        if change is None:
            del cfg.mtpd.unlabelled
        else:
            cfg.mtpd.unlabelled.update(change)
        with pytest.raises(OtherTeacher, match='unlabelled'):
            go(cfg)


def test_faded_distillation_loads_and_probes_what_it_uses(
        exact, tmp_path, monkeypatch):
    seen, steps = [], []
    whole, step = FeatureDistiller.loss, FeatureDistiller.train_step

    def loss(self, inputs, samples, teacher_inputs, unlabelled=None):
        seen.append(unlabelled is not None)
        return whole(self, inputs, samples, teacher_inputs, unlabelled)

    def train_step(self, data, optim_wrapper):
        steps.append([tuple(image.shape) for image in
                      data.get('unlabelled', dict(inputs=[]))['inputs']])
        return step(self, data, optim_wrapper)

    monkeypatch.setattr(FeatureDistiller, 'loss', loss)
    monkeypatch.setattr(FeatureDistiller, 'train_step', train_step)
    cfg = exact(tmp_path / 'work', fade=dict(begin=1, end=1.5))
    run_progression(cfg)
    # Three steps of the probe, then an epoch and a half of six.
    assert steps[:3] == [[(3, 64, 96)] * 3] * 3
    assert [len(images) for images in steps[3:]] == [3] * 9 + [0] * 3
    assert seen == [True] * 12 + [False] * 3


def test_the_control_has_none(toy, frames):
    cfg = toy(unlabelled=dict(folder=str(frames)), order=['wide'])
    history = read_history(make_plan(cfg))
    control = make_plan(control_config(cfg, history))
    assert control.unlabelled is None
    stage = stage_config(control, 1, ('wide',), None, {})
    assert 'unlabelled' not in stage.train_cfg
    cfg.mtpd.distill.loss_weight = 0
    stage = stage_config(make_plan(cfg), 1, ('wide',), None, {})
    assert 'unlabelled' not in stage.train_cfg


def test_a_dry_run_shows_the_images_or_refuses_them(toy, frames, capsys):
    cfg = toy(unlabelled=dict(folder=str(frames), batch_size=4))
    dry_run(cfg, resume=True)
    out = capsys.readouterr().out
    assert f'4 images without labels of {frames} in each step' in out
    assert '11 images, 4 in each step; an epoch of 3 steps passes' in out
    cfg.mtpd.unlabelled.folder = 'nowhere'
    with pytest.raises(PlanError, match='there is no folder: nowhere in '):
        dry_run(cfg, resume=True)
