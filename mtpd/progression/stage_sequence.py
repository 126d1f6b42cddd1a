"""Run the stages one after the other, each as one mmengine run.

A stage that was interrupted resumes from the checkpoint that
``mtpd.stage.resume`` finds.
"""
import logging
import os
import time
from dataclasses import dataclass
from typing import Any, Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log

from mtpd.compat.checkpoints import CorruptCheckpoint, read_checkpoint
from mtpd.distill.hooks.checkpoint import ENTRY, OtherTeacher

from mtpd.plan.errors import PlanError
from mtpd.plan.identity import other_identity
from mtpd.plan.plan import Plan, Stages, stage_label
from mtpd.plan.work_dir import StageDir
from mtpd.processes import on_main
from mtpd.randomness import isolate_rng
from mtpd.search.fitted_adapters import fitted_maps
from mtpd.search.measure import (box_ap, in_percent, mean_ap,
                                 validation_config)
from mtpd.show.tables import ap_text
from mtpd.stage.resume import (best_checkpoint, compare_with_checkpoint,
                               newest_checkpoint, saved_checkpoints)
from mtpd.stage.config import stage_config
from mtpd.stage.runner import run_stage
from mtpd.stage.validations import known_ap, read_validations

from .export import export_student
from .start import build_student, save_atomically


@dataclass(frozen=True)
class StageResult:
    """A finished stage.

    Attributes:
        index: From 1.
        teacher: Its name; several are joined by +.
        start_ap: The student's box AP in percent before it, None if unknown.
        end_ap: The box AP in percent of what it hands on; None if it could
            not be measured.
        checkpoint: The student that it hands on, a plain mmdet checkpoint.
        seconds: Of training, in the process that finished it.
    """
    index: int
    teacher: str
    start_ap: float | None
    end_ap: float | None
    checkpoint: str
    seconds: float


@dataclass(frozen=True)
class Stage:
    """A stage that is to be finished.

    Attributes:
        plan: The progression.
        index: From 1.
        names: Its teachers.
        weights: What it starts from; None for the student's initialisation.
        start_ap: The box AP in percent of these weights, None if unknown.
    """
    plan: Plan
    index: int
    names: tuple[str, ...]
    weights: str | None
    start_ap: float | None

    @property
    def label(self) -> str:
        """Its teachers' names, joined by +."""
        return stage_label(self.names)

    @property
    def paths(self) -> StageDir:
        """Where it writes."""
        return self.plan.paths.stage(self.index, self.label,
                                     self.plan.distils)

    def describe(self) -> str:
        """``Stage 1 (swin_t)``."""
        taught = self.label if self.plan.distils else 'no teacher'
        return f'Stage {self.index} ({taught})'


def run_stages(plan: Plan, order: Stages, weights: str | None,
               record: Mapping[str, Any],
               pool: Mapping[str, BaseDetector]) -> tuple[StageResult, ...]:
    """Finish every stage, each from the one before.

    Args:
        plan: The progression.
        order: Its stages.
        weights: What the first one starts from.
        record: What progression.json holds.
        pool: The built teachers by name.
    """
    results: list[StageResult] = []
    start_ap = record['start_ap']
    seconds = record['seconds_per_step'] or [1.] * len(order)
    for index, names in enumerate(order, 1):
        stage = Stage(plan, index, names, weights, start_ap)
        result = _result_if_finished(stage, record['identity'])
        if result is None:
            later = sum(seconds[index:]) / seconds[index - 1]
            result = _train(stage, record, later, pool)
        else:
            print_log(f'{stage.describe()} is finished: AP '
                      f'{ap_text(result.end_ap)}', logger='current')
        results.append(result)
        weights, start_ap = result.checkpoint, result.end_ap
    return tuple(results)


def check_stages(plan: Plan, order: Stages, resume: bool) -> None:
    """Read what stages have recorded of their validations, before anything is
    added to it; of a resumed progression, look whether a stage is gone from
    whose student a later one has begun.

    Args:
        plan: The progression.
        order: Its stages.
        resume: Whether it is resumed.

    Raises:
        PlanError: A file is damaged, or a stage is gone.
    """
    later = False
    for index, names in reversed([*enumerate(order, 1)]):
        paths = Stage(plan, index, names, None, None).paths
        read_validations(paths.folder)
        begun = os.path.isfile(paths.student) \
            or bool(saved_checkpoints(paths.folder))
        if resume and later and not begun:
            raise PlanError([
                f'Stage {index} has left neither student.pth nor a checkpoint '
                f'in {paths.folder}, and a later stage has begun from it. '
                'Trained again, it would not be the one that the later stage '
                f'knows. Restore {paths.student}; or remove the folders of '
                'the later stages, which are then trained again, too.'])
        later = later or begun


def warn_of_other_lengths(plan: Plan, order: Stages) -> None:
    """Say where a finished stage was trained for longer or shorter than the
    config says now: it is not trained again.

    Args:
        plan: The progression.
        order: Its stages.
    """
    length = length_of(plan)
    for index, names in enumerate(order, 1):
        path = Stage(plan, index, names, None, None).paths.student
        try:
            trained = read_checkpoint(path)['meta'][ENTRY].get('length')
        except (FileNotFoundError, CorruptCheckpoint):
            continue  # it is not finished
        if trained not in (None, length):
            print_log(f'Stage {index} is finished, with {trained}, and '
                      f'train_cfg now has {length}. It is not trained again: '
                      'choose another work_dir for that.', logger='current',
                      level=logging.WARNING)


def length_of(plan: Plan) -> dict[str, int]:
    """The ``max_epochs`` or ``max_iters`` of a stage, by ``train_cfg``."""
    train = plan.student.config.train_cfg
    return {key: train[key] for key in ('max_epochs', 'max_iters')
            if train.get(key) is not None}


def _result_if_finished(stage: Stage, identity: Mapping[str, Any]
                        ) -> StageResult | None:
    path = stage.paths.student
    if not os.path.isfile(path):
        return None
    try:
        recorded = read_checkpoint(path)['meta'][ENTRY]
    except CorruptCheckpoint as error:
        print_log(f"{path} is skipped, and written again from the stage's "
                  'newest checkpoint, without which the stage is trained '
                  f'again: {error}', logger='current', level=logging.WARNING)
        return None
    other = other_identity(recorded['identity'], identity)
    if other:
        raise OtherTeacher(f'{path} belongs to another progression:\n  '
                           + '\n  '.join(other))
    return StageResult(
        stage.index, stage.label, known_ap(recorded['start_ap']),
        known_ap(recorded['end_ap']), path, recorded['seconds'])


def _train(stage: Stage, record: Mapping[str, Any], later: float,
           pool: Mapping[str, BaseDetector]) -> StageResult:
    """Train a stage to its end, from its newest checkpoint if it has one."""
    hashes = record['identity']['teachers']
    provenance = dict(
        identity=record['identity'], aps=record['aps'], costs=record['costs'],
        versions=record['versions'], seed=record['seed'], stage=stage.index,
        teacher=stage.label, start_ap=stage.start_ap,
        teacher_hash='+'.join(map(hashes.__getitem__, stage.names)))
    cfg = stage_config(stage.plan, stage.index, stage.names, stage.weights,
                       provenance, later)
    cfg.load_from = _newest(stage, provenance)
    cfg.resume = cfg.load_from is not None
    if cfg.resume:
        compare_with_checkpoint(cfg, cfg.load_from)
    print_log(stage.describe() + (
        f', resumed from {cfg.load_from}' if cfg.resume else
        ', from its beginning'), logger='current')
    if stage.plan.init_adapters == 'fitted' and stage.plan.distils:
        _fit_adapters(stage, pool)
    began = time.time()
    run_stage(cfg, {name: pool[name] for name in stage.names})
    seconds = time.time() - began
    barrier()  # the others wait until the first has written
    checkpoint = None
    if stage.plan.handover == 'best':
        checkpoint = on_main(lambda: best_checkpoint(stage.paths.folder))
    checkpoint = checkpoint or _newest(stage, provenance)
    if checkpoint is None:
        raise RuntimeError(
            f'Stage {stage.index} left no checkpoint in '
            f'{stage.paths.folder}. Set default_hooks.checkpoint with '
            'save_last=True.')
    end = _end_ap(stage, cfg, checkpoint)
    if is_main_process():
        # Written last: its presence is what makes the stage finished.
        export_student(checkpoint, stage.paths.student,
                       {'end_ap': end, 'seconds': seconds,
                        'length': length_of(stage.plan)})
    barrier()
    return StageResult(stage.index, stage.label, stage.start_ap, end,
                       stage.paths.student, seconds)


def _newest(stage: Stage, provenance: Mapping[str, Any]) -> str | None:
    """The newest checkpoint of this stage of this progression."""
    expected = {'stage': stage.index, **provenance['identity']}

    def not_of_stage(content: Mapping[str, Any]) -> str | None:
        saved = content.get(ENTRY)
        if saved is None:
            return ('it was not written by this progression (no "mtpd" '
                    'entry).')
        other = other_identity({'stage': saved.get('stage'),
                                **saved.get('identity', {})}, expected)
        if not other:
            return None
        return ('it belongs to another stage or progression: '
                + '; '.join(other))

    return on_main(lambda: newest_checkpoint(stage.paths.folder,
                                             not_of_stage))


def _end_ap(stage: Stage, cfg: Config, checkpoint: str) -> float | None:
    """Box AP of what a stage hands on, as its validation says, or measured."""
    metrics = on_main(lambda: read_validations(stage.paths.folder).get(
        read_checkpoint(checkpoint)['meta'].get('iter')))
    if metrics is not None and (
            not metrics or any(k.endswith('bbox_mAP') for k in metrics)):
        return in_percent(mean_ap(metrics))
    student = build_student(stage.plan, checkpoint, checkpoint)
    with isolate_rng(0):
        return box_ap(student, validation_config(stage.plan.student.config))


def _fit_adapters(stage: Stage, pool: Mapping[str, BaseDetector]) -> None:
    """Write the linear maps from the present student to the stage's teachers,
    unless the file exists."""
    path = stage.paths.fitted_adapters
    if on_main(lambda: os.path.isfile(path)):
        return
    student = build_student(stage.plan, stage.weights,
                            stage.plan.student.checkpoint_field)
    with isolate_rng(0):
        maps = fitted_maps(stage.plan, student, stage.names, pool)
    if is_main_process():
        save_atomically(maps, path)
    barrier()
