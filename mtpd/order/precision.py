"""Float32 products in float32, whatever the surroundings ask for."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Switch autocast, TF32 and bfloat16 products off within a block.

    torch has two settings for lower precision,
    ``set_float32_matmul_precision`` and, from 2.9 on, ``fp32_precision`` of
    each backend. It refuses to read the first after the second was set, and
    setting the first also sets the second. So both are saved and restored.

    Args:
        device_type: Where the products are taken, 'cpu' or 'cuda'.
    """
    matmuls = []
    for backend in (torch.backends.cuda, torch.backends.mkldnn):
        matmul: Any = getattr(backend, 'matmul', None)
        if hasattr(matmul, 'fp32_precision'):
            matmuls.append(matmul)
    by_backend = [matmul.fp32_precision for matmul in matmuls]
    try:
        overall = torch.get_float32_matmul_precision()
    except RuntimeError:  # only fp32_precision was set
        overall = None
    torch.set_float32_matmul_precision('highest')
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        if overall is not None:
            torch.set_float32_matmul_precision(overall)
        for matmul, precision in zip(matmuls, by_backend, strict=True):
            matmul.fp32_precision = precision
