"""What the folder of a progression holds, as far as it has come."""
import os
from dataclasses import dataclass, field, replace
from typing import Any, Iterable, Mapping, Sequence

from mmengine.config import Config

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.distill.auto_weight import is_disabled
from mtpd.distill.hooks.checkpoint import ENTRY
from mtpd.plan.detectors import load_config
from mtpd.plan.plan import Plan, make_plan, stage_label
from mtpd.plan.work_dir import (StageDir, UnreadableHistory, WorkDir,
                                read_json, read_progression)
from mtpd.search.found_order import FoundOrder
from mtpd.stage.log import StageHistory, Validation, read_log
from mtpd.stage.resume import newest_checkpoint
from mtpd.stage.validations import known_ap

_FIND = 'Find the order again.'


@dataclass(frozen=True)
class Control:
    """The student trained on alone for as long as a progression.

    Attributes:
        stages: Those that have begun; none where it was not run or cannot be
            compared.
        problem: Why it cannot be compared, if that is so.
    """
    stages: tuple[StageHistory, ...] = ()
    problem: str = ''


@dataclass(frozen=True)
class History:
    """A progression, finished or not.

    Attributes:
        plan: What was planned; its ``work_dir`` is the folder that was read.
        found: The order with its costs; None where the config gives the order
            or none was found yet.
        stages: Those that have begun, in order.
        order: All stages by their teachers; None before there is an order.
        start: The weights that the first stage starts from, None for the
            student's own initialisation.
        start_ap: Their box AP in percent, None if unknown.
        record: ``progression.json``, empty before it is written.
        control: What the student gains without teachers.
    """
    plan: Plan
    found: FoundOrder | None = None
    stages: tuple[StageHistory, ...] = ()
    order: tuple[str, ...] | None = None
    start: str | None = None
    start_ap: float | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    control: Control = Control()

    @property
    def by_epoch(self) -> bool:
        """Whether training counts epochs, not iterations."""
        return 'max_epochs' in self.plan.student.config.train_cfg

    @property
    def finished(self) -> bool:
        """Whether every stage has handed on its student."""
        return self.order is not None and len(self.stages) == len(
            self.order) and all(stage.finished for stage in self.stages)

    @property
    def present_ap(self) -> float | None:
        """The newest box AP of the student in percent: of the last stage's
        end, or of the last validation before it; None before the first."""
        present = None
        for stage in self.stages:
            if stage.end_ap is not None:
                present = stage.end_ap
                continue
            for validation in stage.validations:
                present = validation.aps.get('AP', present)
        return present

    def describe_gone(self) -> str:
        """The stages whose student was removed, in words; empty if none."""
        text = ''
        for stage in self.stages:
            if stage.is_gone:
                text += (f' What stage {stage.index} ({stage.teacher}) handed '
                         'on is no longer in its folder.')
        return text

    def when(self, validation: Validation) -> str:
        """When a validation was, in the units that training counts."""
        if self.by_epoch and validation.epoch is not None:
            return f'epoch {validation.epoch}'
        return f'iteration {validation.iteration}'

    @property
    def newest(self) -> str | None:
        """The newest student, None before the first checkpoint."""
        return next((s.weights for s in self.stages[::-1] if s.weights), None)


def read_plan(work_dir: str, config: str | None = None) -> Plan:
    """The plan of a progression, with its results in ``work_dir``.

    Args:
        work_dir: Its folder, which may have been moved.
        config: The user's config; None reads ``work_dir/config.py``.

    Raises:
        UnreadableHistory: The folder or the config is missing, or it has no
            ``mtpd`` part.
        PlanError: Something in the config is wrong.
    """
    if not os.path.isdir(work_dir):
        raise UnreadableHistory(f'There is no folder {work_dir}. Name the '
                                'work_dir of a progression, which '
                                'tools/train.py writes.')
    path = config or WorkDir(work_dir).config
    if not os.path.isfile(path) and '::' not in path:
        raise UnreadableHistory(f'There is no file {path}. ' + (
            'Correct the path after --config.' if config else
            'tools/train.py CONFIG writes it at the start of every run, also '
            f'with --resume --work-dir {work_dir}. tools/report.py also takes '
            'the config that the progression was run with, by --config FILE.'))
    cfg = load_config(path)
    if 'mtpd' not in cfg:
        raise UnreadableHistory(
            f'{path} has no mtpd part, so {work_dir} is no progression. Name '
            'the work_dir of one, or for tools/report.py --config FILE.')
    if config is None:
        # A run has written there which files it found: nothing in its own
        # folder is meant.
        cfg = Config(cfg._cfg_dict)
    cfg.work_dir = work_dir
    return make_plan(cfg)


def read_history(plan: Plan, control: str | None = None) -> History:
    """Everything that the plan's ``work_dir`` holds.

    Args:
        plan: The progression.
        control: The work dir of the student trained on alone; None for
            ``alone`` in the plan's.

    Raises:
        UnreadableHistory: ``order.json`` or ``progression.json`` is broken.
    """
    record = read_progression(plan.paths.record)
    found = None
    if not plan.order and os.path.isfile(plan.paths.order_file):
        content = read_json(plan.paths.order_file, object, _FIND)
        try:
            found = FoundOrder.from_json(content)
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableHistory(
                f'{plan.paths.order_file} cannot be read: {error} {_FIND}'
                ) from error
    order = _order_of(plan, record, found)
    stages = _read_stages(plan.paths, order or (), plan.distils)
    # Written where the student's checkpoint alone is not what it starts from.
    start = plan.paths.start if os.path.isfile(plan.paths.start) \
        else plan.student.checkpoint
    start_ap = stages[0].start_ap if stages else None
    if start_ap is None and found and start == plan.student.checkpoint:
        start_ap = found.student_ap
    alone = _read_control(plan, control, record.get('identity', {}), stages)
    return History(plan, found, _with_lengths(stages, alone.stages), order,
                   start, start_ap, record, alone)


def _read_control(plan: Plan, folder: str | None, identity: Mapping[str, Any],
                  stages: tuple[StageHistory, ...]) -> Control:
    """The control of a progression with this identity and these stages."""
    paths = WorkDir(folder or plan.paths.baseline)
    if not os.path.isfile(paths.record):
        return Control()
    record = read_progression(paths.record)
    alone_identity = record.get('identity', {})
    taught = not is_disabled(alone_identity.get('distill', {}))
    alone = _read_stages(paths, alone_identity.get('order', ()), taught)
    problem = 'teachers took part in it' if taught else ''
    expected = _traits(identity, stages)
    for what, value in _traits(alone_identity, alone).items():
        if not taught and expected.get(what, value) != value:
            problem = f'{what}: {value!r} there, {expected[what]!r} here'
    if problem:
        return Control(problem=f'{paths.folder} is no control of this '
                       f'progression ({problem})')
    return Control(_with_lengths(alone, stages))


def _traits(identity: Mapping[str, Any],
            stages: Iterable[StageHistory]) -> dict[str, Any]:
    """What a progression and its control have in common, by name, as far as
    it is known."""
    traits = {}
    for key, what in (('student', 'hash of mtpd.student.checkpoint'),
                      ('inherit', 'mtpd.inherit'),
                      ('handover', 'mtpd.handover')):
        if key in identity:
            traits[what] = identity[key]
    for stage in stages:
        if stage.end_ap is not None and stage.length:
            traits[f'iterations of stage {stage.index}'] = stage.length
    return traits


def _order_of(plan: Plan, record: Mapping[str, Any],
              found: FoundOrder | None) -> tuple[str, ...] | None:
    """All stages by their teachers, None before there is an order."""
    recorded = record.get('identity', {}).get('order')
    if recorded is not None:
        return tuple(recorded)
    if plan.order:
        return tuple(map(stage_label, plan.order))
    return found.order.teachers if found else None


def _read_stages(work_dir: WorkDir, order: Sequence[str],
                 taught: bool) -> tuple[StageHistory, ...]:
    has_result = os.path.isfile(work_dir.student)
    folders: Sequence[StageDir] = [
        work_dir.stage(index, teacher, taught)
        for index, teacher in enumerate(order, 1)]
    if not has_result:
        folders = _begun(folders)
    stages: list[StageHistory] = []
    for index, (paths, teacher) in enumerate(
            zip(folders, order, strict=False), 1):
        student = paths.student
        has_ended = has_result or index < len(folders)
        is_gone = has_ended and not os.path.isfile(student)
        if is_gone and index == len(order):
            student = work_dir.student  # the same
        stage = _read_stage(paths.folder, student, StageHistory(
            index, teacher, is_gone=is_gone,
            start_ap=stages[-1].end_ap if stages else None))
        if stages and stages[-1].is_gone:
            stages[-1] = replace(stages[-1], end_ap=stage.start_ap)
        stages.append(stage)
    return tuple(stages)


def _begun(folders: Sequence[StageDir]) -> Sequence[StageDir]:
    """Up to the last that is there; those before it may have been removed."""
    while folders and not os.path.isdir(folders[-1].folder):
        folders = folders[:-1]
    return folders


def _read_stage(folder: str, student: str,
                stage: StageHistory) -> StageHistory:
    """A stage with its log and, of its weights, what they say."""
    stage = read_log(folder, stage)
    if os.path.isfile(student):
        recorded = read_checkpoint(student)['meta'][ENTRY]
        return replace(
            stage, start_ap=known_ap(recorded['start_ap']),
            end_ap=known_ap(recorded['end_ap']), weights=student,
            seconds=recorded['seconds'], limit=recorded.get('length'))
    newest = newest_checkpoint(folder)
    if newest is None:
        return stage
    recorded = read_checkpoint(newest).get(ENTRY, {})
    return replace(stage, weights=newest, start_ap=known_ap(
        recorded.get('start_ap', stage.start_ap)))


def _with_lengths(stages: Iterable[StageHistory],
                  others: Iterable[StageHistory]) -> tuple[StageHistory, ...]:
    """Stages whose logs are gone as long as their counterparts."""
    known = {other.index: other.length for other in others}
    return tuple(replace(stage, length=known.get(stage.index, 0))
                 if stage.is_gone and not stage.length else stage
                 for stage in stages)
