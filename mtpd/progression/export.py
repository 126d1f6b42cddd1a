"""A plain mmdet checkpoint of a distilled student."""
import io
import os
from typing import Any, Mapping

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor

from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.checkpoints import read_checkpoint
from mtpd.compat.state_dicts import (AmbiguousWeights, each_once,
                                     find_weights)
from mtpd.config_types import imported_modules
from mtpd.distill.detector import CheckpointMismatch, dataset_meta_of
from mtpd.distill.hooks.checkpoint import ENTRY
from mtpd.provenance import as_plain


def export_student(checkpoint: str, out: str,
                   extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write the student of a training checkpoint as stock mmdet reads it.

    The file holds tensors, strings, numbers, dicts, lists and tuples only:
    ``torch.load(out)`` takes it with no allow-list, and mmdet loads its
    ``state_dict`` strictly. With EMA on, these are the EMA weights, which
    mmengine puts into ``state_dict``. The file appears whole or not at all.
    What is taken of a file in another format, and what is left out, is
    logged.

    Args:
        checkpoint: Written by a stage, by plain mmdet training, or in a
            format of :mod:`mtpd.compat.state_dicts`.
        out: The file to write.
        extra: Added to ``meta['mtpd']``, plain values.

    Returns:
        ``meta`` as written: ``dataset_meta`` (classes), ``epoch``, ``iter``
        and ``mtpd``, the provenance.

    Raises:
        CheckpointMismatch: The file has no detector's weights, or several.
    """
    content = read_checkpoint(checkpoint)
    weights = _weights_of(content, checkpoint)
    meta = content.get('meta') or {}
    provenance = {k: v for k, v in {**content.get(ENTRY, {}),
                                    **meta.get(ENTRY, {})}.items()
                  if k not in ('training_parts', 'logged')}
    plain = {
        'meta': {
            'dataset_meta': as_plain(dataset_meta_of(content)),
            'epoch': as_plain(meta.get('epoch')),
            'iter': as_plain(meta.get('iter')),
            ENTRY: as_plain({**provenance, **(extra or {})})},
        # clone(): a view would take its whole storage into the file.
        'state_dict': each_once(weights,
                                lambda value: value.detach().clone())}
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    os.makedirs(os.path.dirname(out) or '.', exist_ok=True)
    atomic_write(out, buffer.getvalue())
    return plain['meta']


def _weights_of(content: Mapping[str, Any], checkpoint: str
                ) -> dict[str, Tensor]:
    """The detector's weights in a file, with a line of the log about a file
    of another format."""
    try:
        weights, notes, _ = find_weights(content)
    except AmbiguousWeights as error:
        raise CheckpointMismatch(f'{checkpoint} {error}') from error
    if not any(key.startswith('backbone.') for key in weights):
        raise CheckpointMismatch(
            f'{checkpoint} has no weights of a detector under names that '
            f"begin with 'backbone.' (it has {sorted(map(str, content))[:5]})"
            ', so it is no training checkpoint. Name an epoch_*.pth of a '
            'stage.')
    if notes:
        print_log(f'{checkpoint}: ' + '; '.join(notes), logger='current')
    return weights


def plain_config(student: Config) -> Config:
    """The student's config without a trace of mtpd, for stock mmdet."""
    cfg = Config(dict(student._cfg_dict.items()))
    if 'custom_imports' in cfg:
        imports = [i for i in imported_modules(cfg)
                   if i.split('.')[0] != 'mtpd']
        if imports:
            cfg.custom_imports.imports = imports
        else:
            cfg.pop('custom_imports')
    if cfg.get('resume'):  # the run is over
        cfg.resume = False
    return cfg
