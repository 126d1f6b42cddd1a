"""A finished progression, read from its work dir: validations and student."""
import math
import os
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from mmengine.config import Config

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.distill.auto_weight import is_disabled
from mtpd.distill.hooks.checkpoint import ENTRY
from mtpd.plan.detectors import DetectorSpec, load_config
from mtpd.plan.work_dir import (StageDir, UnreadableHistory, WorkDir,
                                read_progression)
from mtpd.stage.log import StageHistory, read_log


class NotComparable(ValueError):
    """The folders do not hold two finished runs of one student."""


@dataclass(frozen=True)
class Validation:
    """The student at one validation.

    Attributes:
        stage: From 1.
        teacher: The stage's, even if it did not take part.
        at: Epochs of this stage before it; iterations where training counts
            iterations.
        ap: Box AP in percent.
        logged: Mean of the detection loss as logged in the epoch that ended
            here (since the previous validation, where epochs are not logged);
            nan where nothing was logged.
        checkpoint: Of these weights, None if it no longer exists.
    """
    stage: int
    teacher: str
    at: int
    ap: float
    logged: float
    checkpoint: str | None

    @property
    def label(self) -> str:
        """``2.14``: stage 2, after epoch 14."""
        return f'{self.stage}.{self.at}'


@dataclass(frozen=True)
class FinishedRun:
    """A progression with all its stages done.

    Attributes:
        folder: Its work dir.
        student: The last stage's: config, checkpoint and AP in percent.
        validations: Of all stages, in order.
        identity: As in ``progression.json``: the options and the hashes of
            the checkpoints that the result depends on.
        iterations: Of all stages together.
    """
    folder: str
    student: DetectorSpec
    validations: tuple[Validation, ...]
    identity: dict[str, Any]
    iterations: int

    @property
    def taught(self) -> bool:
        """Whether teachers took part (distillation weight above 0)."""
        return not is_disabled(self.identity['distill'])

    @property
    def name(self) -> str:
        """``distilled (swin > two_stage)`` or ``trained on alone``."""
        order = ' > '.join(self.identity['order'])
        return f'distilled ({order})' if self.taught else 'trained on alone'


def read_run(folder: str, config: str | None = None) -> FinishedRun:
    """A finished progression, from its work dir.

    Args:
        folder: The work dir.
        config: The student's config; None for ``student.py`` in the work dir,
            which every finished progression writes.

    Raises:
        NotComparable: The folder holds no finished progression.
        UnreadableHistory: Its ``progression.json`` is damaged.
    """
    paths = WorkDir(folder)
    if not os.path.isfile(paths.record):
        raise NotComparable(
            f'{folder} holds no progression (there is no progression.json). '
            'Name the work dir of a run of tools/train.py or '
            'tools/from_scratch.py.')
    identity = read_progression(paths.record).get('identity', {})
    missing = {'student', 'order', 'distill'} - identity.keys()
    if missing:
        raise UnreadableHistory(
            f'{paths.record} does not say what was run: its identity has no '
            f'{" and no ".join(sorted(missing))}. Restore it, or name another '
            'run.')
    taught = not is_disabled(identity['distill'])
    stages = [paths.stage(index, label, taught)
              for index, label in enumerate(identity['order'], 1)]
    _check_finished(paths, stages, config)
    student = load_config(config) if config \
        else Config.fromfile(paths.student_config)
    student.pop('mtpd', None)
    ends = [read_checkpoint(stage.student)['meta'] for stage in stages]
    by_epoch = student.train_cfg.get('by_epoch',
                                     'max_epochs' in student.train_cfg)
    validations: list[Validation] = []
    for index, label in enumerate(identity['order'], 1):
        validations += stage_validations(stages[index - 1].folder, index,
                                         label, by_epoch)
    return FinishedRun(
        folder, DetectorSpec('student', student, paths.student,
                             ends[-1][ENTRY]['end_ap']),
        tuple(validations), identity, sum(end['iter'] for end in ends))


def _check_finished(paths: WorkDir, stages: Sequence[StageDir],
                    config: str | None) -> None:
    files = [*(stage.student for stage in stages), paths.student]
    cure = 'Resume it with tools/train.py --resume'
    if config is None:
        files.append(paths.student_config)
    for path in files:
        if not os.path.isfile(path):
            if path == paths.student_config:
                cure += ', or name its config with --config'
            raise NotComparable(f'{paths.folder} holds an unfinished '
                                f'progression: there is no {path}. {cure}.')


def check_comparable(first: FinishedRun, second: FinishedRun) -> list[str]:
    """Remarks on what differs between two runs beside their teachers.

    Raises:
        NotComparable: They are of different students, or of one student that
            started from different weights.
    """
    _check_same_student(first, second)
    if first.identity['student'] != second.identity['student']:
        raise NotComparable(
            f'{first.folder} and {second.folder} started from different '
            'weights (progression.json: '
            f'{first.identity["student"]} and {second.identity["student"]}). '
            'Name two runs from one mtpd.student.checkpoint.')
    remarks = []
    if first.taught == second.taught:
        kind = 'distilled' if first.taught else 'without distillation'
        remarks.append(f'Both runs are {kind}, so this comparison shows '
                       'nothing about distillation itself.')
    if first.iterations != second.iterations:
        remarks.append('The runs differ in length: '
                       f'{first.iterations} and {second.iterations} '
                       'iterations.')
    if first.student.config.train_dataloader.dataset != \
            second.student.config.train_dataloader.dataset:
        remarks.append("The runs used different training data. The training "
                       "loss is measured on the first run's data.")
    return remarks


def _check_same_student(first: FinishedRun, second: FinishedRun) -> None:
    shapes = []
    for run in (first, second):
        weights = read_checkpoint(run.student.weights)['state_dict']
        shapes.append({key: tuple(w.shape) for key, w in weights.items()})
    differing = [key for key in {**shapes[0], **shapes[1]}
                 if shapes[0].get(key) != shapes[1].get(key)]
    if differing:
        key = differing[0]
        reason = (f'{len(differing)} of their tensors differ, such as {key}: '
                  f'{shapes[0].get(key)} and {shapes[1].get(key)}')
    elif first.student.model != second.student.model:
        reason = ('their weights have the same shapes, and "model" in their '
                  'student.py differs')
    else:
        return
    raise NotComparable(
        f'{first.folder} and {second.folder} hold different students: '
        f'{reason}. Name two runs of one student, such as WORK_DIR and '
        'WORK_DIR/alone of tools/from_scratch.py.')


def stage_validations(stage: str, index: int, teacher: str,
                      by_epoch: bool) -> list[Validation]:
    """The validations of one stage that have a box AP.

    Args:
        stage: Its folder.
        index: From 1.
        teacher: Its name.
        by_epoch: Whether training counts epochs, not iterations.
    """
    log = read_log(stage, StageHistory(index, teacher))
    unit = 'epoch' if by_epoch else 'iter'
    validations = []
    previous = 0
    for validation in log.validations:
        if 'AP' not in validation.aps:
            continue
        lines = [line for line in log.lines
                 if previous < line['step'] <= validation.iteration]
        previous = at = validation.iteration
        if by_epoch and lines:
            at = int(lines[-1]['epoch'])
        losses = [line['loss'] - distill_loss(line) for line in lines
                  if line.get('epoch') == lines[-1].get('epoch')]
        logged = sum(losses) / len(losses) if losses else math.nan
        path = os.path.join(stage, f'{unit}_{at}.pth')
        validations.append(Validation(
            index, teacher, at, validation.aps['AP'], logged,
            path if os.path.isfile(path) else None))
    return validations


def is_distill(key: str) -> bool:
    """Whether a key of the training log is a term of the distillation loss."""
    return key.startswith('loss_distill')


def distill_loss(line: Mapping[str, float]) -> float:
    """The distillation loss in a line of the training log; the rest of its
    ``loss`` is the detection loss."""
    return sum(value for key, value in line.items() if is_distill(key))
