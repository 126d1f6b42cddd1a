"""What a run says while it runs: stage, time left, terms, to any backend."""
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.registry import VISBACKENDS
from mmengine.visualization import LocalVisBackend

from mtpd.progression import run_progression
from mtpd.stage.time_left import StageProgressHook

written = []


@VISBACKENDS.register_module()
class ListBackend(LocalVisBackend):
    """Stands for TensorBoard and whatever else mmengine writes to."""

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        written.append(dict(scalar_dict, step=step, to=self._save_dir))
        super().add_scalars(scalar_dict, step, file_path, **kwargs)


def test_every_backend_gets_stage_terms_and_time_left(toy):
    cfg = toy()
    cfg.visualizer.vis_backends = [dict(type='ListBackend')]
    written.clear()
    run_progression(cfg, with_probe=False)
    lines = [line for line in written if 'lr' in line]
    assert [line['stage'] for line in lines] == [1] * 6 + [2] * 6
    for line in lines:
        folder = 'stage1_wide' if line['stage'] == 1 else 'stage2_swin'
        assert folder in line['to']
        assert {'loss', 'loss_cls', 'loss_bbox', 'loss_distill_s8',
                'distill_ratio', 'hours_left'} <= line.keys()
    left = [line['hours_left'] for line in lines]
    assert left[5] > left[11] and left[11] * 3600 < 1e-3
    # Two stages of six steps, with times as mmengine has averaged them.
    seconds = [line['time'] for line in lines]
    assert left[0] * 3600 == pytest.approx(11 * seconds[0], rel=.01)
    assert left[8] * 3600 >= 3 * min(seconds) * (1 - 1e-9)


@pytest.mark.parametrize('done, epoch, later, expected', [
    # 4 epochs of 10 steps of 2 s, validated every 2 epochs for 30 s.
    (9, 0, 0, 30 * 2 + 2 * 30), (39, 3, 0, 0 * 2 + 1 * 30),
    (20, 2, 0, 19 * 2 + 1 * 30),
    # Two later stages, together 1.5 times as long: 1.5 x (80 + 60).
    (9, 0, 1.5, 60 + 60 + 210)])
def test_seconds_left_by_hand(done, epoch, later, expected):
    hook = StageProgressHook(1, later)
    hook._validation_seconds = 30.
    loop = SimpleNamespace(max_iters=40, max_epochs=4, val_interval=2)
    runner = SimpleNamespace(train_loop=loop, iter=done, epoch=epoch,
                             val_loop=object())
    assert hook._seconds_left(runner, 2.) == expected


def test_a_start_is_recorded(toy):
    cfg = toy(order=['swin'])
    cfg.train_cfg.max_epochs = 1
    run_progression(cfg, with_probe=False)
    run_progression(toy(order=['swin']), with_probe=False, resume=True)
    record = json.loads((Path(cfg.work_dir) / 'progression.json').read_text())
    assert [s['resume'] for s in record['starts']] == [False, True]
    for start in record['starts']:
        assert start['processes'] == 1 and start['threads'] == 1
        assert start['versions'] == record['versions']
        assert start['command'] and start['time'][:2] == '20'
    assert record['seed'] == 0


def test_the_ratio_is_averaged_as_the_losses_beside_it(toy):
    cfg = toy(order=['swin'])
    cfg.default_hooks.logger.interval = 3
    cfg.visualizer.vis_backends = [dict(type='ListBackend')]
    for window in (1, 3):
        cfg.work_dir += str(window)
        cfg.log_processor = dict(type='LogProcessor', window_size=window)
        written.clear()
        run_progression(cfg, with_probe=False)
        lines = [line for line in written if 'lr' in line]
        if window == 1:
            cfg.default_hooks.logger.interval = 1
            cfg.work_dir += 'each'
            written.clear()
            run_progression(cfg, with_probe=False)
            each = [line['distill_ratio'] for line in written if 'lr' in line]
            assert [line['distill_ratio'] for line in lines] == [
                each[2], each[5]]
            cfg.default_hooks.logger.interval = 3
        else:
            assert [line['distill_ratio'] for line in lines] == pytest.approx(
                [sum(each[:3]) / 3, sum(each[3:]) / 3])
