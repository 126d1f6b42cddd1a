"""A finished progression as it lies on disk: its validations and students."""
import json
import math
import os
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from mmengine.config import Config

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.distill.auto_weight import is_disabled
from mtpd.distill.hooks.checkpoint import ENTRY
from mtpd.plan.detectors import DetectorSpec, load_config
from mtpd.progression.history import StageHistory, read_log


class NotComparable(ValueError):
    """Two folders that do not hold two runs of one student."""


@dataclass(frozen=True)
class Validation:
    """The student at one validation.

    Attributes:
        stage: From 1.
        teacher: The stage's; named also where it did not take part.
        at: Epochs done in this stage, iterations where training counts those.
        ap: Box AP in percent.
        logged: Mean of the detection loss as logged in the epoch that ended
            here (since the validation before, where epochs are not logged);
            nan where nothing was.
        checkpoint: Of these weights, None where it is gone.
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
        student: What it ended with: config, checkpoint and its AP in percent.
        validations: In order.
        identity: What it is a run of, as its checkpoints say.
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
        return 'distilled (' + ' > '.join(self.identity['order']) + ')' \
            if self.taught else 'trained on alone'


def read_run(folder: str, config: str | None = None) -> FinishedRun:
    """What a progression has left in its work dir.

    Args:
        folder: The work dir.
        config: The student's config; None for ``student.py`` in it, which
            every finished progression writes.

    Raises:
        NotComparable: It holds no finished progression.
    """
    state = os.path.join(folder, 'progression.json')
    if not os.path.isfile(state):
        raise NotComparable(
            f'{folder} holds no progression (there is no progression.json). '
            'Name the work dir of a run of tools/train.py or '
            'tools/from_scratch.py.')
    with open(state) as file:
        identity = json.load(file)['identity']
    stages = [os.path.join(folder, f'stage{index}_{label}')
              for index, label in enumerate(identity['order'], 1)]
    needed = [os.path.join(stage, 'student.pth') for stage in stages]
    needed += [os.path.join(folder, 'student.pth')]
    needed += [] if config else [os.path.join(folder, 'student.py')]
    missing = [path for path in needed if not os.path.isfile(path)]
    if missing:
        raise NotComparable(
            f'{folder} holds an unfinished progression: there is no '
            f'{missing[0]}. Go on with it by tools/train.py --resume'
            + ('.' if config or not missing[0].endswith('.py')
               else ', or name its config with --config.'))
    student = load_config(config) if config else Config.fromfile(needed[-1])
    student.pop('mtpd', None)
    ends = [read_checkpoint(path)['meta'] for path in needed[:len(stages)]]
    by_epoch = student.train_cfg.get('by_epoch',
                                     'max_epochs' in student.train_cfg)
    return FinishedRun(
        folder, DetectorSpec('student', student, needed[len(stages)],
                             ends[-1][ENTRY]['end_ap']),
        tuple(validation for index, (stage, label) in enumerate(
            zip(stages, identity['order'], strict=True), 1)
            for validation in _validations(stage, index, label, by_epoch)),
        identity, sum(end['iter'] for end in ends))


def check_comparable(first: FinishedRun, second: FinishedRun) -> list[str]:
    """Remarks on what differs between two runs beside their teachers.

    Raises:
        NotComparable: They are of different students, or of one that started
            from different weights.
    """
    shapes = []
    for run in (first, second):
        weights = read_checkpoint(run.student.weights)['state_dict']
        shapes.append({key: tuple(w.shape) for key, w in weights.items()})
    differing = [key for key in {**shapes[0], **shapes[1]}
                 if shapes[0].get(key) != shapes[1].get(key)]
    if differing or first.student.model != second.student.model:
        said = (f'{len(differing)} of their tensors differ, such as '
                f'{differing[0]}: {shapes[0].get(differing[0])} and '
                f'{shapes[1].get(differing[0])}') if differing else \
            'their weights have the same shapes, and "model" in their ' \
            'student.py differs'
        raise NotComparable(
            f'{first.folder} and {second.folder} hold different students: '
            f'{said}. Name two runs of one student, such as WORK_DIR and '
            'WORK_DIR/alone of tools/from_scratch.py.')
    if first.identity['student'] != second.identity['student']:
        raise NotComparable(
            f'{first.folder} and {second.folder} started from different '
            'weights (progression.json: '
            f'{first.identity["student"]} and {second.identity["student"]}). '
            'Name two runs from one mtpd.student.checkpoint.')
    remarks = []
    if first.taught == second.taught:
        remarks.append('Both runs are ' + (
            'distilled' if first.taught else 'without distillation')
            + ', so this says nothing on distillation itself.')
    if first.iterations != second.iterations:
        remarks.append(
            f'They were not trained for as long: {first.iterations} and '
            f'{second.iterations} iterations.')
    if first.student.config.train_dataloader.dataset != \
            second.student.config.train_dataloader.dataset:
        remarks.append('They were trained on different data; the training '
                       'loss is measured on that of the first.')
    return remarks


def _validations(stage: str, index: int, teacher: str,
                 by_epoch: bool) -> list[Validation]:
    read = read_log(stage, StageHistory(index, teacher))
    found = []
    before = 0
    for validation in read.validations:
        if 'AP' not in validation.aps:
            continue
        since = [line for line in read.lines
                 if before < line['step'] <= validation.iteration]
        before = at = validation.iteration
        if by_epoch and since:
            at = int(since[-1]['epoch'])
        path = os.path.join(
            stage, f'{"epoch" if by_epoch else "iter"}_{at}.pth')
        found.append(Validation(
            index, teacher, at, validation.aps['AP'], _logged(since),
            path if os.path.isfile(path) else None))
    return found


def _logged(lines: Sequence[Mapping[str, float]]) -> float:
    last = [line for line in lines
            if line.get('epoch') == lines[-1].get('epoch')]
    losses = [line['loss'] - sum(value for key, value in line.items()
                                 if key.startswith('loss_distill'))
              for line in last]
    return sum(losses) / len(losses) if losses else math.nan
