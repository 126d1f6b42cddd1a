"""Distillation that fades or stops, alone and among several processes."""
import copy
import math
import socket
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.optim import build_optim_wrapper
from torch.nn.parallel import DistributedDataParallel

from mtpd.distill.hooks.fade import FadeDistillHook


def test_strength_falls_linearly_between_begin_and_end():
    hook = FadeDistillHook(begin=4, end=8)
    assert [hook.strength(p) for p in (0, 4, 5, 6, 7.5, 8, 100)] == [
        1, 1, 0.75, 0.5, 0.125, 0, 0]
    stop = FadeDistillHook(begin=3, end=3)
    assert [stop.strength(p) for p in (2.99, 3, 4)] == [1, 0, 0]
    for begin, end in ((3, 2), (-1, 2), (1, math.inf), (math.nan, 2)):
        with pytest.raises(ValueError, match='0 <= begin <= end'):
            FadeDistillHook(begin, end)


def test_strength_follows_the_position_in_the_run_not_a_count():
    strengths = []
    runner = SimpleNamespace(
        iter=25, epoch=2, train_dataloader=range(10),
        model=SimpleNamespace(set_strength=strengths.append))
    FadeDistillHook(begin=2, end=3).before_train_iter(runner, 5)
    FadeDistillHook(begin=20, end=30, by_epoch=False).before_train_iter(
        runner, 5)
    assert strengths == [0.5, 0.5]


def distiller(retinanet, teacher, checkpoint, **changes):
    torch.manual_seed(0)
    model = MODELS.build({
        'type': 'FeatureDistiller', 'student': retinanet,
        'teachers': [dict(name='t', model=teacher, checkpoint=checkpoint)],
        'distill': dict(type='FeatureL2Loss'), 'init_adapters': 'random',
        **changes})
    model.init_weights()
    return model.train()


def images() -> dict:
    return demo_mm_inputs(2, [(3, 64, 96)] * 2, num_items=[3, 2],
                          num_classes=5)


@pytest.fixture
def pair(retinanet, swin_mask_rcnn, checkpoint_of):
    return retinanet, swin_mask_rcnn, checkpoint_of(swin_mask_rcnn, 1, 'swin')


def test_half_strength_is_half_the_loss(pair):
    model = distiller(*pair)
    data = model.data_preprocessor(images(), True)
    whole = model(**copy.deepcopy(data), mode='loss')
    model.set_strength(0.5)
    half = model(**copy.deepcopy(data), mode='loss')
    for stride in (8, 16, 32, 64):
        key = f'loss_distill_s{stride}'
        torch.testing.assert_close(half[key], whole[key] / 2)


def test_stopped_it_is_plain_training_and_nobody_else_runs(pair, monkeypatch):
    model = distiller(*pair)

    def fail(*_args, **_kwargs):
        raise AssertionError('ran although distillation has stopped')

    branch, = model.guidances
    for part in (branch.teacher.detector, branch.mechanism,
                 branch.adapter, model.data_preprocessor.teachers[0]):
        monkeypatch.setattr(part, 'forward', fail)
    model.set_strength(0)
    data = images()
    plain = copy.deepcopy(model.student)
    batch = model.data_preprocessor(copy.deepcopy(data), True)
    total, _ = model.parse_losses(model(**batch, mode='loss'))
    expected, _ = plain.parse_losses(plain(
        **plain.data_preprocessor(data, True), mode='loss'))
    torch.testing.assert_close(total, expected, rtol=0, atol=0)
    total.backward()
    expected.backward()
    for one, other in zip(model.student.parameters(), plain.parameters()):
        assert torch.equal(one.grad, other.grad)
    assert all(p.grad is not None and not p.grad.any()
               for p in branch.parameters())


def _train(rank: int, port: int, pair: tuple, out: str) -> None:
    """Two steps with distillation, three without, under DDP as mmengine sets
    it up: every parameter has to have a gradient in every step."""
    import mtpd  # noqa: F401  (a fresh process)
    from mmengine.registry import DefaultScope
    torch.set_num_threads(1)
    DefaultScope.get_instance('worker', scope_name='mmdet')
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}',
                            rank=rank, world_size=2)
    model = distiller(*pair)
    wrapped = DistributedDataParallel(model, find_unused_parameters=False)
    optimizer = build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01),
        clip_grad=dict(max_norm=1.0)))
    torch.manual_seed(rank)
    norms = []
    for step in range(5):
        model.set_strength(float(step < 2))
        batch = model.data_preprocessor(images(), True)
        total, _ = model.parse_losses(wrapped(**batch, mode='loss'))
        total.backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters()
                     if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
        norms.append([torch.stack([
            g.norm() for n, g in gradients.items()
            if n.startswith(part)]).norm().item()
            for part in ('student.', 'guidances.')])
    torch.save((norms, dict(model.named_parameters())),
               f'{out}/{rank}.pth')
    dist.destroy_process_group()


def test_two_processes_stop_in_mid_run_and_go_on(pair, tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    # Forked: a spawned process could not import this file by its name.
    mp.start_processes(_train, (port, pair, str(tmp_path)), nprocs=2,
                       start_method='fork')
    (norms, one), (others, other) = (
        torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    assert norms == others
    # With distillation the adapters are a part of the norm that is clipped,
    # without it they are none.
    assert all(student > 0 and adapters > 0 for student, adapters in norms[:2])
    assert all(student > 0 == adapters for student, adapters in norms[2:])
    assert all(torch.equal(one[k], other[k]) for k in one)
