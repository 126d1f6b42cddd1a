"""What jobs share: their configs, a plain training, what is recorded of it."""
import copy
import hashlib
import json
import os
import platform
import time
from functools import lru_cache
from statistics import fmean
from typing import Any, Iterator, Mapping

import torch
from mmengine.config import Config

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.data.drawn_shapes import draw_shapes
from mtpd.plan.data_check import missing_data
from mtpd.plan.detectors import DetectorSpec, load_config
from mtpd.plan.errors import PlanError
from mtpd.progression import export_student, make_plan
from mtpd.provenance import versions
from mtpd.stage.log import StageHistory, read_log
from mtpd.stage.resume import newest_checkpoint
from mtpd.stage.runner import run_stage


def config_of(dataset: str, name: str = 'mtpd') -> Config:
    """One of a data set's configs.

    Args:
        dataset: A folder of configs/evidence.
        name: Of the config; the progression itself is 'mtpd', as in the
            results that were written when its file was called mtpd.py.
    """
    file = 'progression' if name == 'mtpd' else name
    return copy.deepcopy(cached_config(
        f'configs/evidence/{dataset}/{file}.py'))


@lru_cache
def cached_config(file: str) -> Config:
    """A config, to be read only."""
    return load_config(file)


@lru_cache
def pool_of(dataset: str) -> dict[str, DetectorSpec]:
    """The teachers; their checkpoints may not exist yet."""
    return make_plan(config_of(dataset)).teachers


def prepare_data(dataset: str) -> None:
    """Draw the images of a data set that is drawn.

    Raises:
        PlanError: Images of another data set are missing.
    """
    cfg = config_of(dataset)
    if 'drawn_shapes' in cfg:
        draw_shapes(**cfg.drawn_shapes)
    missing = missing_data(make_plan(cfg))
    if missing:
        raise PlanError(missing)


def train_plain(cfg: Config, weights: str) -> None:
    """Train a detector from its first weights, by its own schedule.

    Args:
        cfg: Of the detector, with ``work_dir``.
        weights: Where its plain checkpoint is written.
    """
    cfg = copy.deepcopy(cfg)
    cfg.pop('mtpd', None)
    cfg.experiment_name = cfg.work_dir.replace(os.sep, '_')
    cfg.visualizer.name = cfg.work_dir
    cfg.custom_hooks = [dict(type='RecordValidationsHook')]
    cfg.default_hooks.checkpoint.interval = cfg.train_cfg.max_epochs
    run_stage(cfg)
    export_student(newest_checkpoint(cfg.work_dir), weights)


def describe_training(cfg: Config, folder: str,
                      began: float) -> dict[str, Any]:
    """What is published of a finished training.

    Args:
        cfg: Its config.
        folder: Where mmengine logged it.
        began: Value of :func:`time.monotonic` at its start.
    """
    log = read_log(folder, StageHistory(1, ''))
    last = log.lines[-1]
    lines = [line for line in log.lines if line['epoch'] == last['epoch']]
    return {**log.validations[-1].aps,
            'last_epoch': {
                key: fmean(line[key] for line in lines) for key in lines[-1]
                if 'loss' in key or key == 'distill_ratio'},
            'iterations': last['step'], 'seed': cfg.randomness.seed,
            'minutes': (time.monotonic() - began) / 60,
            'made_with': made_with(), 'config': describe_config(cfg)}


def describe_config(cfg: Config) -> dict[str, Any]:
    """A config as its file, its changes by dotted key, and a hash of all its
    values (without folders)."""
    file = os.path.relpath(cfg.filename)
    values = cfg.to_dict()
    changed = dict(changes(cached_config(file).to_dict(), values))
    values.pop('work_dir', None)
    if 'mtpd' in values:
        del values['mtpd']['student']
        if values['mtpd'].get('adapter') == 'auto':
            # Most results are of a time when this was the default.
            del values['mtpd']['adapter']
    text = json.dumps(values, sort_keys=True, default=str)
    return {'file': file, 'changed': changed,
            'sha256': hashlib.sha256(text.encode()).hexdigest()[:8]}


def changes(before: Mapping[str, Any], after: Mapping[str, Any],
            prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted key -> value of every difference; None for a removed key."""
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from changes(old, new, f'{prefix}{key}.')
        elif old != new:
            yield f'{prefix}{key}', new


def made_with() -> dict[str, Any]:
    """Versions and hardware."""
    return {**versions(), 'threads': torch.get_num_threads(),
            'hardware': torch.cuda.get_device_name()
            if torch.cuda.is_available() else f'{platform.machine()} CPU'}


def digest(path: str) -> str:
    """SHA-256 of a checkpoint's tensors, the first 8 hexadecimal digits."""
    sha = hashlib.sha256()
    for key, value in sorted(read_checkpoint(path)['state_dict'].items()):
        sha.update(f'{key} {value.dtype} {tuple(value.shape)}'.encode())
        sha.update(value.contiguous().numpy().tobytes())
    return sha.hexdigest()[:8]
