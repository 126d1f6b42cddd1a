"""What only a GPU shows; `make test-gpu` runs these.

The CPU is the reference: the same weights and images on both devices.
"""
import copy
import math

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mtpd.distill.distiller import FeatureDistiller
from mtpd.distill.frozen import FrozenDetector
from mtpd.order import FeatureMoments, adaptation_costs
from mtpd.order.precision import full_precision
from mtpd.plan.pool import build_pool
from mtpd.progression import make_plan, run_progression
from mtpd.progression.probe import probe
from mtpd.randomness import isolate_rng
from mtpd.search.find_order import find_order

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(),
                       reason='PyTorch sees no GPU here'),
    # Of toy maps the coarse levels have fewer positions than coefficients.
    pytest.mark.filterwarnings('ignore:At stride')]


def device_of(module) -> str:
    return next(module.parameters()).device.type


def distiller_of(cfg) -> FeatureDistiller:
    """The first stage's, as a run builds it."""
    from mmdet.registry import MODELS

    from mtpd.stage.config import stage_config
    plan = make_plan(cfg)
    stage = stage_config(plan, 1, plan.order[0], plan.student.checkpoint, {})
    with isolate_rng(0):
        return MODELS.build(stage.model)


def batch_of(cfg) -> dict:
    from mmengine.runner import Runner
    loader = copy.deepcopy(cfg.train_dataloader)
    loader.sampler.shuffle = False
    return next(iter(Runner.build_dataloader(loader, seed=0)))


def losses_of(distiller, batch, device) -> dict[str, float]:
    distiller = distiller.to(device).train()
    with isolate_rng(0):
        data = distiller.data_preprocessor(copy.deepcopy(batch), True)
        losses = distiller(**data, mode='loss')
        total, logged = distiller.parse_losses(losses)
    total.backward()
    return {name: float(value) for name, value in logged.items()}


def test_a_step_on_both_devices(toy):
    """Losses and gradients of one step, with TF32 off, to 1e-4."""
    cfg = toy(order=['swin'])
    batch = batch_of(cfg)
    results = []
    for device in ('cpu', 'cuda'):
        distiller = distiller_of(cfg)
        allowed = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            with full_precision(device):
                losses = losses_of(distiller, batch, device)
        finally:
            torch.backends.cudnn.allow_tf32 = allowed
        norm = math.sqrt(sum(
            float(p.grad.square().sum()) for p in distiller.parameters()
            if p.grad is not None))
        teacher = distiller.guidances[0].teacher
        assert device_of(teacher.detector) == device
        results.append({**losses, 'norm': norm})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, rel=1e-4, abs=1e-6), \
            name


def test_the_cost_pass_is_that_of_the_cpu(toy_in, tmp_path, monkeypatch):
    """TF32 is off in the forwards of the pass, so costs agree to 1e-4."""
    costs = []
    for device in ('cpu', 'cuda'):
        for module in ('feature_maps', 'measure'):
            monkeypatch.setattr(f'mtpd.search.{module}.get_device',
                                lambda device=device: device)
        plan = make_plan(toy_in(tmp_path / device, order='bgs',
                                strides=(8, 16)))
        costs.append(find_order(plan, build_pool(plan)).costs)
    for source in costs[0].names:
        for target in costs[0].names:
            if source != target:
                assert costs[1].cost(source, target) == pytest.approx(
                    costs[0].cost(source, target), rel=1e-4)


def test_moments_on_the_gpu():
    """Sums of maps on the GPU against those on the CPU, also under TF32."""
    generator = torch.Generator().manual_seed(0)
    maps = {name: {8: torch.randn(4, channels, 24, 32, generator=generator)}
            for name, channels in (('a', 6), ('b', 9))}
    channels = {8: {'a': 6, 'b': 9}}
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        results = []
        for device in ('cpu', 'cuda'):
            moments = FeatureMoments(channels, folds=4)
            moments.add({name: {8: levels[8].to(device)}
                         for name, levels in maps.items()}, [0, 1, 2, 3])
            results.append(adaptation_costs(moments))
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    for pair in (('a', 'b'), ('b', 'a')):
        assert results[1].cost(*pair) == pytest.approx(
            results[0].cost(*pair), rel=1e-5)


def test_a_progression_on_the_gpu(toy):
    """Both stages, AP measured, and a checkpoint that a CPU loads."""
    cfg = toy()
    result = run_progression(cfg)
    assert [stage.index for stage in result.stages] == [1, 2]
    state = torch.load(result.student, map_location='cpu')['state_dict']
    assert all(value.device.type == 'cpu' and value.isfinite().all()
               for value in state.values() if value.is_floating_point())


def test_the_probe_reports_the_memory_of_the_gpu(toy):
    plan = make_plan(toy())
    pool = build_pool(plan)
    estimates = probe(plan, plan.order, pool)
    assert len(estimates) == 2
    for estimate in estimates:
        assert 0 < estimate.peak < torch.cuda.mem_get_info()[1]
        assert estimate.seconds > 0
    # The teachers wait for their stages on the CPU.
    assert {device_of(pool[name]) for name in ('wide', 'swin')} == {'cpu'}


@pytest.mark.parametrize('options', [
    dict(precision='bf16'), dict(precision='fp16'),
    dict(channels_last=True)], ids=str)
def test_a_fast_teacher_sees_nearly_the_same(toy, options):
    plan = make_plan(toy(order=['swin']))
    detector = build_pool(plan)['swin'].cuda()
    images = torch.randn(2, 3, 64, 96, device='cuda')
    plain = FrozenDetector(copy.deepcopy(detector))(images)
    fast = FrozenDetector(copy.deepcopy(detector), **options)(images)
    assert plain.keys() == fast.keys()
    for stride, level in plain.items():
        error = (fast[stride].float() - level).norm() / level.norm()
        assert error < .05


def test_mixed_precision_trains(toy):
    cfg = toy(order=['swin'])
    distiller = distiller_of(cfg).cuda().train()
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    optimizer = build_optim_wrapper(distiller, cfg.optim_wrapper)
    before = copy.deepcopy(distiller.student.state_dict())
    logged = distiller.train_step(batch_of(cfg), optimizer)
    assert all(value.isfinite().all() for value in logged.values())
    after = distiller.student.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
