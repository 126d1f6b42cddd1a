"""How long a detector takes for one image."""
import platform
import statistics
import time
from itertools import islice
from typing import Any, Callable

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner


def latency(detector: BaseDetector, validation: Config,
            images: int = 20) -> float:
    """Median seconds of the prediction for one image, preprocessing and
    postprocessing included.

    Args:
        detector: On any device; it is moved and stays in eval mode.
        validation: From :func:`mtpd.search.measure.validation_config`.
        images: The number of timed images; three more come before them.
    """
    # Without a seed the sampler asks all processes for one.
    loader = Runner.build_dataloader({
        **validation.loader, 'batch_size': 1,
        'sampler': dict(type='DefaultSampler', shuffle=False, seed=0)})
    detector = detector.to(get_device()).eval()
    seconds = []
    with torch.no_grad():
        for batch in islice(loader, 3 + images):
            seconds.append(timed(lambda: detector.val_step(batch)))
    return statistics.median(seconds[3:] or seconds)


def timed(step: Callable[[], Any],
          clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, until the device has finished its work."""
    start = clock()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def latency_key() -> str:
    """The key of this machine's latencies in the cache."""
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() \
        else f'{platform.machine()}, {torch.get_num_threads()} threads'
    return f'seconds on {machine}'
