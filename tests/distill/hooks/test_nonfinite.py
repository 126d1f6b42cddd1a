"""Numbers that explode in a run, by the whole progression."""
import json
from pathlib import Path

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from mtpd.distill.branch import NotFinite
from mtpd.distill.distiller import FeatureDistiller
from mtpd.distill.frozen import FrozenDetector
from mtpd.progression import run_progression


def go(cfg):
    return run_progression(cfg, with_probe=False)


def poison(monkeypatch, what: str, at: int) -> list[dict]:
    """Spoil an iteration (from 1); the student at the start of each."""
    seen, models = [], []
    whole = FeatureDistiller.loss, FrozenDetector.__call__, OptimWrapper.step

    def loss(self, *args):
        seen.append({k: v.clone() for k, v in self.state_dict().items()})
        models[:] = [self]
        losses = whole[0](self, *args)
        if what == 'detection loss' and len(seen) == at:
            losses['loss_cls'] = [losses['loss_cls'][0] * torch.inf]
        return losses

    def look(self, *args):
        maps = whole[1](self, *args)
        if what == 'teacher' and len(seen) == at:
            maps[16][0, 0, 0, 0] = torch.inf
        return maps

    def step(self, **kwargs):
        if what in ('gradient', 'student') and len(seen) == at:
            group = self.optimizer.param_groups[0]
            group['params'][0].grad[0, 0, 0, 0] = torch.nan
        if what == 'student' and len(seen) == at:
            # As a map that is not finite leaves them.
            models[0].student.backbone.bn1.running_mean[0] = torch.nan
        whole[2](self, **kwargs)

    monkeypatch.setattr(FeatureDistiller, 'loss', loss)
    monkeypatch.setattr(FrozenDetector, '__call__', look)
    monkeypatch.setattr(OptimWrapper, 'step', step)
    return seen


@pytest.mark.parametrize('what, words', [
    ('teacher', 'the map of the teacher swin at stride 16 holds a value'),
    ('detection loss', None),
    ('gradient', 'all losses of this process are finite, but not the '
                 'gradient of student.backbone.conv1.weight')])
def test_a_run_stops_before_its_weights_are_spoiled(toy, monkeypatch, what,
                                                    words):
    cfg = toy(order=['swin'])
    seen = poison(monkeypatch, what, 5)
    if what == 'detection loss':  # found by NonFiniteHook alone, as a loss
        with pytest.raises(NotFinite, match='iteration 5.*gradient of'):
            go(cfg)  # that is changed after the distiller has looked
    else:
        with pytest.raises(NotFinite, match='stage1_swin, iteration 5 '
                           rf'\(epoch 2\): {words}.*epoch_1.pth'):
            go(cfg)
    assert len(seen) == 5


@pytest.mark.parametrize('what, at, accumulated', [
    ('teacher', 4, 1), ('gradient', 4, 1), ('student', 4, 1),
    # Of two iterations that make one step, the first and the second.
    ('teacher', 3, 2), ('teacher', 4, 2)])
def test_an_iteration_is_skipped_with_all_that_it_changed(
        toy, monkeypatch, what, at, accumulated):
    cfg = toy(order=['swin'], on_nonfinite='skip')
    cfg.optim_wrapper.accumulative_counts = accumulated
    # Decay and momentum would move weights without a gradient too.
    cfg.optim_wrapper.optimizer.update(momentum=.9, weight_decay=.1)
    seen = poison(monkeypatch, what, at)
    result = go(cfg)
    assert len(seen) == 6
    before, after = seen[at - 1], seen[4]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert any(not torch.equal(seen[0][k], after[k]) for k in after)
    final = torch.load(result.student)['state_dict']
    assert all(v.isfinite().all() for v in final.values())
    assert any(not torch.equal(after[k], final[k]) for k in final)
    lines = [json.loads(line) for path in Path(cfg.work_dir).glob(
        'stage1_swin/*/vis_data/scalars.json') for line in open(path)]
    lines = [line for line in lines if 'lr' in line]
    assert [line.get('skipped') for line in lines] == [
        None, None, None, 1, 1, 1]
    assert all(line['loss'] > 0 for line in lines)  # none of them is nan


def test_how_many_were_skipped_survives_a_resume(toy, monkeypatch):
    cfg = toy(order=['swin'], on_nonfinite='skip')
    with monkeypatch.context() as patch:
        seen = poison(patch, 'gradient', 2)
        whole = FeatureDistiller.loss

        def dies(self, *args):
            if len(seen) == 4:
                raise KeyboardInterrupt
            return whole(self, *args)

        patch.setattr(FeatureDistiller, 'loss', dies)
        with pytest.raises(KeyboardInterrupt):
            go(cfg)
    poison(monkeypatch, 'gradient', 2)  # iteration 5
    run_progression(toy(order=['swin'], on_nonfinite='skip'), resume=True,
                    with_probe=False)
    saved = torch.load(Path(cfg.work_dir) / 'stage1_swin' / 'epoch_2.pth',
                       weights_only=True)
    assert saved['message_hub']['runtime_info']['skipped'] == 2


@pytest.mark.parametrize('scale, found', [(2. ** 100, False), (1., True)])
def test_the_scaler_may_overflow_but_not_at_scale_1(toy, monkeypatch, scale,
                                                    found):
    """fp16's gradients overflow while the scale is being found. The scaler
    here is real, the one of CPUs."""
    module = 'mmengine.optim.optimizer.amp_optimizer_wrapper.'
    for user in (module, 'mtpd.plan.start_check.training.'):
        monkeypatch.setattr(user + 'is_cuda_available', lambda: True)
    monkeypatch.setattr(module + 'GradScaler', lambda **options:
                        torch.amp.GradScaler('cpu', **options))
    cfg = toy(order=['swin'])
    cfg.train_cfg.max_epochs = 1
    cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16',
                             loss_scale=dict(init_scale=scale))
    backward = AmpOptimWrapper.backward
    calls = []

    def overflows(self, loss, **kwargs):
        calls.append(self.loss_scaler.get_scale())
        backward(self, loss, **kwargs)
        if found or len(calls) == 1:
            group = self.optimizer.param_groups[0]
            group['params'][0].grad.fill_(torch.inf)

    monkeypatch.setattr(AmpOptimWrapper, 'backward', overflows)
    if found:
        with pytest.raises(NotFinite, match='iteration 1 .*gradients are not '
                           'finite even without a loss scale'):
            go(cfg)
    else:
        go(cfg)
        assert calls == [scale, scale / 2, scale / 2]
