"""Training of detectors of the pool that have no checkpoint yet."""
import copy
import logging
import os
from dataclasses import replace
from typing import Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.logging import print_log

from mtpd.backbones import other_normalisation
from mtpd.compat.processes import init_processes
from mtpd.distill.detector import (CheckpointMismatch, build_detector,
                                   load_weights)
from mtpd.plan.data_check import data_problems
from mtpd.plan.detectors import DetectorSpec, is_url
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan
from mtpd.plan.predictions import unmeasurable_aps
from mtpd.plan.registered import part_problems
from mtpd.plan.start_check import (amp_problems, frozen_notes,
                                   missing_weights, schedule_notes)
from mtpd.processes import on_main
from mtpd.stage.resume import compare_with_checkpoint, newest_checkpoint
from mtpd.stage.runner import run_stage

from .export import export_student
from .record import is_started

TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper')
VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')
"""What a detector's config needs to be trained by itself, and what it has
all of or none, to be validated."""


def untrainable(plan: Plan) -> list[str]:
    """Why detectors of the pool that have no checkpoint yet cannot be trained
    with their own configs, or not be measured afterwards.

    Args:
        plan: The progression; of the student's own config only the files of
            first weights are looked at.
    """
    problems, configs = [], {}
    for spec in plan.teachers.values():
        if not is_to_be_trained(spec):
            continue
        owner = f'{spec.field}.config: '
        validates = any(map(spec.config.get, VALIDATION))
        missing = [key for key in TRAINING + VALIDATION * validates
                   if not spec.config.get(key)]
        if missing:
            problems.append(
                f'{owner}{", ".join(missing)} not set, so that it cannot be '
                f'trained, and there is no file {spec.checkpoint} yet. Name '
                "a config with its own data and schedule (the student's with "
                'another model), or the checkpoint of a trained detector.')
        else:
            configs[owner] = spec.config
            problems += part_problems(spec.config, owner) + [
                owner + problem for problem in amp_problems(spec.config)]
        if spec.ap is None:
            alone = {spec.name: replace(spec, checkpoint=None)}
            problems += unmeasurable_aps(replace(plan, teachers=alone,
                                                 order=None))
    for spec in plan.specs.values():
        if is_to_be_trained(spec):
            problems += [f'{spec.name}: {problem}'
                         for problem in missing_weights(spec.model)]
    return problems + data_problems(configs)


def untrained_notes(plan: Plan,
                    pool: Mapping[str, BaseDetector]) -> list[str]:
    """What is hardly meant in the configs of detectors that will be trained.

    Args:
        plan: The progression; the student's schedule is not looked at.
        pool: The built detectors, by name.
    """
    notes = []
    for spec in plan.specs.values():
        if spec.name in pool and is_to_be_trained(spec):
            notes += frozen_notes(spec, pool[spec.name])
            if spec.name != 'student':
                notes += [f'{spec.field}.config: {note}' for note
                          in schedule_notes(spec.config, None)]
    return notes


def is_to_be_trained(spec: DetectorSpec) -> bool:
    """Whether a detector's checkpoint is a file that does not exist yet."""
    path = spec.checkpoint
    return path is not None and not is_url(path) \
        and on_main(lambda: not os.path.isfile(path))


def retraining(plan: Plan) -> dict[str, str]:
    """What to do to train a detector anew that ``tools/from_scratch.py`` has
    trained: name -> a sentence.

    Args:
        plan: The progression.
    """
    elsewhere = ' with another --work-dir' if is_started(plan) else ''
    cures = {}
    for name, spec in plan.specs.items():
        folder = plan.paths.pool(name)
        if spec.checkpoint and os.path.isdir(folder):
            cures[name] = (
                f'To train it anew, delete {spec.checkpoint} and {folder}, '
                'correct its config, and run tools/from_scratch.py'
                f'{elsewhere}.')
    return cures


def train_if_missing(spec: DetectorSpec, plan: Plan) -> None:
    """Train a detector of the pool with its own config, unless its checkpoint
    exists.

    Args:
        spec: The detector; its checkpoint is written.
        plan: Its progression.

    Raises:
        PlanError: A stopped training was of another model or optimizer, or
            this one left no checkpoint, as one with a hook of its own that
            keeps none.
    """
    if not is_to_be_trained(spec):
        return
    path = spec.weights
    cfg = copy.deepcopy(spec.config)
    cfg.launcher = plan.student.config.get('launcher', 'none')
    init_processes(cfg)
    cfg.work_dir = plan.paths.pool(spec.name)
    cfg.experiment_name = cfg.work_dir.replace(os.sep, '_')
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.work_dir
    keep_last_checkpoint(cfg)
    newest = on_main(lambda: newest_checkpoint(cfg.work_dir))
    if newest is not None:
        _refuse_other_model(spec, newest, cfg.work_dir)
        compare_with_checkpoint(cfg, newest)
        cfg.resume, cfg.load_from = True, newest
    print_log(f'Training {spec.name} from random weights. To train it anew '
              f'later, delete {path} and {cfg.work_dir}.', logger='current')
    difference = other_normalisation(cfg)
    if difference:
        print_log(f'{spec.name}: {difference}', 'current', logging.WARNING)
    run_stage(cfg)

    def export() -> None:
        trained = newest_checkpoint(cfg.work_dir)
        if trained is None:
            raise PlanError([f'{spec.name} was trained in {cfg.work_dir} and '
                             'left no checkpoint there.'])
        export_student(trained, path)

    on_main(export)


def _refuse_other_model(spec: DetectorSpec, newest: str, folder: str) -> None:
    """mmengine resumes what fits, and leaves the rest at random.

    Raises:
        PlanError: The newest checkpoint is of another model.
    """
    try:
        load_weights(build_detector(spec.model), newest, spec.field)
    except CheckpointMismatch as error:
        raise PlanError([
            f'{folder} holds a training of {spec.name} that was stopped, of '
            f'another model than its config has now. {error} To train it '
            f'anew, delete {folder}.']) from error


def keep_last_checkpoint(cfg: Config) -> None:
    """Let a training leave its last checkpoint, also where its config has no
    hook for that, and write each whole or not at all.

    Args:
        cfg: It is changed.
    """
    hooks = dict(cfg.get('default_hooks') or {})
    by_epoch = cfg.train_cfg.get('max_iters') is None
    length = cfg.train_cfg['max_epochs' if by_epoch else 'max_iters']
    none = 'checkpoint' in hooks and not hooks['checkpoint']
    hook = dict(type='CheckpointHook', interval=length, by_epoch=by_epoch) \
        if none else dict(hooks.get('checkpoint') or dict(
            type='CheckpointHook', interval=1))
    for key in ('filename_tmpl', 'out_dir'):  # it is looked for by its name
        hook.pop(key, None)
    hook.update(save_last=True, backend_args=dict(backend='atomic'))
    if hook.get('max_keep_ckpts', -1) > 0:
        # mmengine deletes the oldest before it writes the new one.
        hook['max_keep_ckpts'] = max(2, hook['max_keep_ckpts'])
    cfg.default_hooks = {**hooks, 'checkpoint': hook}
