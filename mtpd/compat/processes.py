"""Starts and ends several processes, also on machines without a GPU.

The launchers of mmengine 0.10.7 call ``torch.cuda.set_device`` with any
backend, and its Runner passes a device number to DistributedDataParallel,
which refuses it for a model on a CPU. No longer needed once both check first
whether there is a GPU (no release does).
"""
import datetime
import os

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed


def leave_processes() -> None:
    """Close the process group, if there is one.

    Waits for the other processes first: a process that ended while gloo's
    threads still waited for another was seen to be aborted.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def init_processes(cfg: Config) -> None:
    """Call mmengine's ``init_dist`` for a config's launcher; on a CPU, start a
    gloo process group instead.

    Does nothing without a launcher, or if the process group exists already.

    Args:
        cfg: Its ``launcher`` and ``env_cfg.dist_cfg`` are read. On a CPU its
            ``model_wrapper_cfg`` is set, unless the user has set it.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return
    options = dict(cfg.get('env_cfg', {}).get('dist_cfg', {}))
    if get_device() != 'cpu':
        if not is_distributed():
            init_dist(launcher, **options)
        return
    if not is_distributed():
        _init_gloo(launcher, options.get('timeout'))
    # mmengine's default wrapper names a device; this one does not.
    cfg.setdefault('model_wrapper_cfg', dict(
        type='MMDistributedDataParallel', device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False)))


def _init_gloo(launcher: str, timeout: float | None) -> None:
    # The variables in which each launcher passes rank, number of processes and
    # local rank. One node only, as nobody trains on the CPUs of several.
    rank, size, local = {
        'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
        'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE',
                'OMPI_COMM_WORLD_LOCAL_RANK'),
        'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')}[launcher]
    os.environ.update(RANK=os.environ[rank], WORLD_SIZE=os.environ[size],
                      LOCAL_RANK=os.environ[local])
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
    torch.distributed.init_process_group(
        'gloo', timeout=None if timeout is None
        else datetime.timedelta(seconds=timeout))
