"""Every mechanism under DistributedDataParallel, as mmengine sets it up."""
import os
import socket

import torch
import torch.multiprocessing as mp
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from torch import distributed as dist

from mtpd.distill.losses.mechanism import known_mechanisms

AUTO = dict(share=0.5, iterations=2)


def mechanisms() -> dict[str, dict]:
    """All that are registered, one more with the automatic weight."""
    found = {name: dict(type=name) for name in known_mechanisms()
             if name.endswith('Loss')}
    found['WeightedSum'] = dict(type='WeightedSum', losses=[
        dict(type='MGDLoss'), dict(type='FGDLoss')])
    found['auto'] = dict(type='MGDLoss', loss_weight=AUTO)
    return found


def _train(rank: int, port: int, model: dict, teacher: str, out: str) -> None:
    import mtpd  # noqa: F401  (a fresh process)
    from mmengine.registry import DefaultScope
    torch.set_num_threads(1)
    DefaultScope.get_instance('worker', scope_name='mmdet')
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}',
                            rank=rank, world_size=2)
    weights, problems = {}, {}
    for name, distill in mechanisms().items():
        torch.manual_seed(0)
        distiller = MODELS.build(dict(
            type='FeatureDistiller', student=model, student_checkpoint=teacher,
            distill=distill, adapter='conv', teachers=[dict(
                name='other', model=model, checkpoint=teacher)]))
        wrapped = MMDistributedDataParallel(
            module=distiller, device_ids=None, broadcast_buffers=False,
            find_unused_parameters=False)
        optimizer = build_optim_wrapper(wrapped, dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-4),
            clip_grad=dict(max_norm=1.)))
        torch.manual_seed(rank)
        try:
            for number in range(4):
                data = demo_mm_inputs(1, [(3, 64, 96)], num_items=[2 + rank],
                                      num_classes=5)
                if number % 2:  # images without labels beside it
                    data['unlabelled'] = demo_mm_inputs(
                        2, [(3, 96, 64)] * 2, num_items=[1, 1], num_classes=5)
                wrapped.train_step(data, optimizer)
        except RuntimeError as error:
            problems[name] = str(error)
        weights[name] = {k: v.detach().clone() for k, v in
                         distiller.named_parameters()}
    torch.save((weights, problems), os.path.join(out, f'{rank}.pth'))
    dist.destroy_process_group()


def test_no_parameter_is_unused_and_processes_stay_equal(
        retinanet, checkpoint_of, tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    checkpoint = checkpoint_of(retinanet, 2, 'student')
    # Forked: a spawned process could not import this file by its name.
    mp.start_processes(_train, (port, retinanet, checkpoint, str(tmp_path)),
                       nprocs=2, start_method='fork')
    (one, problems), (other, others) = (
        torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    assert problems == others == {}
    assert one.keys() == mechanisms().keys() and len(one) >= 10
    start = torch.load(checkpoint)['state_dict']
    for name, weights in one.items():
        assert all(torch.equal(weights[k], other[name][k]) for k in weights)
        moved = [k for k, v in weights.items() if k.startswith('student.')
                 and not torch.equal(v, start[k.removeprefix('student.')])]
        assert len(moved) > 20, name
