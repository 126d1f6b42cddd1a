"""Several processes, also on machines without a GPU.

mmengine 0.10.7's launcher for torchrun calls ``torch.cuda.set_device``
whatever the backend, so it cannot start on a CPU. No longer needed once it
asks first whether there is a device (no release does).
"""
from typing import Any, Mapping

import torch
import torch.distributed
from mmengine.device import get_device
from mmengine.dist import init_dist


def leave_processes() -> None:
    """End what ``init_processes`` began, if it did.

    A process that ends while gloo's threads still wait for another was seen
    to be aborted.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def init_processes(launcher: str, dist_cfg: Mapping[str, Any]) -> None:
    """mmengine's ``init_dist``; torchrun on a CPU by gloo.

    Args:
        launcher: 'pytorch', 'slurm' or 'mpi'.
        dist_cfg: ``env_cfg.dist_cfg`` of a config.
    """
    if launcher == 'pytorch' and get_device() == 'cpu':
        torch.distributed.init_process_group('gloo')
    else:
        init_dist(launcher, **dist_cfg)
