"""A plain mmdet checkpoint of a distilled student."""
import io
import os
from typing import Any, Mapping

import torch
from mmengine.config import Config

from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.checkpoints import read_checkpoint
from mtpd.distill.detector import CheckpointMismatch
from mtpd.distill.hooks.checkpoint import ENTRY
from mtpd.provenance import as_plain


def export_student(checkpoint: str, out: str,
                   extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write the student of a training checkpoint as stock mmdet reads it.

    The file holds tensors, strings, numbers, dicts, lists and tuples only:
    ``torch.load(out)`` takes it with no allow-list, and mmdet loads its
    ``state_dict`` strictly. With EMA on, these are the EMA weights, which
    mmengine puts into ``state_dict``. The file appears whole or not at all.

    Args:
        checkpoint: Written by a stage, or by plain mmdet training.
        out: The file to write.
        extra: Added to ``meta['mtpd']``, plain values.

    Returns:
        ``meta`` as written: ``dataset_meta`` (classes), ``epoch``, ``iter``
        and ``mtpd``, the provenance.

    Raises:
        CheckpointMismatch: The file has no ``state_dict``.
    """
    content = read_checkpoint(checkpoint)
    if 'state_dict' not in content:
        raise CheckpointMismatch(
            f'{checkpoint} has no state_dict (it has {sorted(content)[:5]}), '
            'so it is no training checkpoint. Name an epoch_*.pth of a stage.')
    meta = content.get('meta', {})
    provenance = {k: v for k, v in {**content.get(ENTRY, {}),
                                    **meta.get(ENTRY, {})}.items()
                  if k not in ('training_parts', 'logged')}
    plain = {
        'meta': {
            'dataset_meta': as_plain(meta.get('dataset_meta') or {}),
            'epoch': as_plain(meta.get('epoch')),
            'iter': as_plain(meta.get('iter')),
            ENTRY: as_plain({**provenance, **(extra or {})})},
        # clone(): a view would take its whole storage into the file.
        'state_dict': {key.removeprefix('module.'): value.detach().clone()
                       for key, value in content['state_dict'].items()}}
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    os.makedirs(os.path.dirname(out) or '.', exist_ok=True)
    atomic_write(out, buffer.getvalue())
    return plain['meta']


def plain_config(student: Config) -> Config:
    """The student's config without a trace of mtpd, for stock mmdet."""
    cfg = Config(dict(student._cfg_dict.items()))
    if 'custom_imports' in cfg:
        imports = [i for i in cfg.custom_imports.imports
                   if i.split('.')[0] != 'mtpd']
        if imports:
            cfg.custom_imports.imports = imports
        else:
            cfg.pop('custom_imports')
    return cfg
