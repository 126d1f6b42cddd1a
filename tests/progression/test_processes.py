"""Training with two processes (gloo), by the whole command."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from commands import run_two

PROGRAM = Path(__file__).with_name('two_processes.py')


def words(config, folder: Path, stop: int, launcher: str) -> list[str]:
    """The command; what each process has noted lies in ``folder``."""
    folder.mkdir(exist_ok=True)
    return [str(PROGRAM), str(folder), str(stop), str(config), '--work-dir',
            str(folder / 'work'), '--no-probe', '--resume', '--launcher',
            launcher]


def torchrun(words: list[str], cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone',
         '--nproc_per_node=2', *words], cwd=cwd, capture_output=True,
        text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})


@pytest.fixture(scope='module')
def config(toy_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp('config')
    cfg = toy_in(folder, on_nonfinite='skip')
    cfg.randomness.deterministic = True
    cfg.train_dataloader.batch_size = 4
    cfg.default_hooks.logger.interval = 1
    cfg.train_cfg.val_interval = 1
    cfg.dump(str(folder / 'toy.py'))
    return folder / 'toy.py'


@pytest.fixture(scope='module')
def undisturbed(config, repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    done = run_two(*words(config, folder, 0, 'pytorch'), cwd=repository)
    for process in done:
        assert process.returncode == 0, process.stderr[-3000:]
    return folder, done, [torch.load(folder / f'{rank}.pth',
                                     weights_only=False) for rank in (0, 1)]


def test_two_processes_are_one_with_the_mean_gradient(undisturbed):
    folder, done, ((first, _), (second, opened)) = undisturbed
    # 24 images, two processes of 4: 3 steps an epoch, 2 epochs, 2 stages.
    assert len(first) == len(second) == 3 * 2 * 2
    for steps in (first, second):
        assert [s['teacher'] for s in steps] == ['wide'] * 6 + ['swin'] * 6
    for at in (0, 1, 6, 7):
        rank_steps = first[at], second[at]
        stage, = (folder / 'work').glob(f'stage{1 + at // 6}_*')
        model = MODELS.build(Config.fromfile(
            str(next(stage.glob('*.py')))).model).train()
        gradients = []
        for step in rank_steps:
            model.load_state_dict(step['student'])
            model.training_parts().load_state_dict(step['parts'])
            model.zero_grad()
            losses = model.loss(*step['batch'])
            total, _ = model.parse_losses(losses)
            total.backward()
            assert losses.keys() == step['losses'].keys()
            for name, value in losses.items():
                value = sum(value) if isinstance(value, list) else value
                torch.testing.assert_close(value.detach(),
                                           step['losses'][name],
                                           rtol=1e-5, atol=1e-5)
            gradients.append({n: p.grad.clone() for n, p in
                              model.named_parameters() if p.grad is not None})
        assert not torch.equal(rank_steps[0]['batch'][0],
                               rank_steps[1]['batch'][0])
        for name, one in gradients[0].items():
            mean = (one + gradients[1][name]) / 2
            for step in rank_steps:
                torch.testing.assert_close(step['gradients'][name], mean,
                                           rtol=1e-5, atol=1e-5)
    parameters = [n for n, _ in model.student.named_parameters()]
    for one, other in zip(first, second):
        assert all(torch.equal(one['after'][n], other['after'][n])
                   for n in parameters)
    # Statistics of batch norms are each one's own until a validation.
    key = 'backbone.bn1.running_mean'
    assert not torch.equal(first[5]['student'][key], second[5]['student'][key])
    for at in (3, 9):
        assert all(torch.equal(value, second[at]['student'][name])
                   for name, value in first[at]['student'].items())


def test_images_without_labels_are_shared_out(toy_in, frames, repository,
                                              tmp_path):
    cfg = toy_in(tmp_path, order=['wide'], distill=dict(
        type='FeatureL2Loss', loss_weight=.5),
        unlabelled=dict(folder=str(frames), batch_size=2))
    cfg.train_dataloader.batch_size = 4
    cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 1
    cfg.dump(str(tmp_path / 'toy.py'))
    done = run_two(*words(tmp_path / 'toy.py', tmp_path / 'out', -1,
                          'pytorch'), cwd=repository)
    for process in done:
        assert process.returncode == 0, process.stderr[-3000:]
    first, second = (torch.load(tmp_path / 'out' / f'{rank}.pth',
                                weights_only=False)[0] for rank in (0, 1))
    assert len(first) == len(second) == 3
    seen = [image.numpy().tobytes() for steps in (first, second)
            for step in steps for image in step['batch'][3]['inputs']]
    # 11 images without labels: all once, and one anew.
    assert len(seen) == 12 and len(set(seen)) >= 11
    stage, = (tmp_path / 'out' / 'work').glob('stage1_*')
    model = MODELS.build(Config.fromfile(str(next(stage.glob('*.py')))).model)
    gradients = []
    for step in (first[0], second[0]):
        model.train().load_state_dict(step['student'])
        model.training_parts().load_state_dict(step['parts'])
        model.zero_grad()
        total, _ = model.parse_losses(model.loss(*step['batch']))
        total.backward()
        gradients.append({name: p.grad.clone() for name, p in
                          model.named_parameters() if p.grad is not None})
    for name, one in gradients[0].items():
        for step in (first[0], second[0]):
            torch.testing.assert_close(
                step['gradients'][name], (one + gradients[1][name]) / 2,
                rtol=1e-5, atol=1e-5)
    for name, _ in model.student.named_parameters():
        assert torch.equal(first[-1]['after'][name], second[-1]['after'][name])


def test_both_skip_what_one_could_not(undisturbed):
    """The third step's loss was not finite in the second process alone."""
    folder, done, ((first, _), (second, _)) = undisturbed
    assert first[2]['losses']['loss_distill_s8'].isfinite()
    assert 'loss_not_finite' not in first[2]['losses']
    assert second[2]['losses']['loss_not_finite'].isnan()
    for steps in (first, second):
        assert any(g.isnan().any() for g in steps[2]['gradients'].values())
        for key, value in steps[2]['student'].items():
            if 'running' not in key and 'num_batches' not in key:
                assert torch.equal(steps[2]['after'][key], value)
        assert all(v.isfinite().all() for v in steps[3]['student'].values())
    # Not only the weights: the skipped step's statistics are gone as well.
    assert all(torch.equal(first[2]['student'][k], first[3]['student'][k])
               for k in first[2]['student'])
    logged = [json.loads(line) for path in sorted(
        (folder / 'work').glob('stage1_*/*/vis_data/scalars.json'))
        for line in open(path)]
    assert [line.get('skipped') for line in logged if 'lr' in line] \
        == [None, None, 1, 1, 1, 1]


def test_one_process_speaks_and_writes(undisturbed):
    folder, done, (_, (_, opened)) = undisturbed
    assert [process.stdout.count('Progression (box AP')
            for process in done] == [1, 0]
    inside = [path for path in opened if path.startswith(str(folder / 'work'))]
    assert inside == []


@pytest.mark.slow
def test_one_is_asked_to_stop_and_both_do(config, repository, undisturbed,
                                          tmp_path):
    done = torchrun(words(config, tmp_path, 8, 'pytorch'), repository)
    assert done.returncode != 0
    assert done.stderr.count('exitcode  : 75') >= 1, done.stderr[-3000:]
    counts = [len(torch.load(tmp_path / f'{rank}.pth',
                             weights_only=False)[0]) for rank in (0, 1)]
    assert counts == [8, 8]
    stage, = (tmp_path / 'work').glob('stage2_*')
    assert [p.name for p in stage.glob('epoch_*')] == ['epoch_0_batch_2.pth']
    done = run_two(*words(config, tmp_path, -1, 'slurm'), cwd=repository,
                   of_slurm=True)
    assert [p.returncode for p in done] == [0, 0], done[0].stderr[-3000:]
    mine, other = (torch.load(folder / 'work' / 'student.pth')['state_dict']
                   for folder in (tmp_path, undisturbed[0]))
    assert all(torch.equal(mine[key], other[key]) for key in other)
