"""What the folder of a progression holds, as far as it has come."""
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

from mmengine.config import Config

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.distill.auto_weight import is_disabled
from mtpd.distill.hooks.checkpoint import ENTRY
from mtpd.plan.detectors import load_config
from mtpd.plan.plan import Plan, make_plan, stage_label
from mtpd.plan.work_dir import WorkDir
from mtpd.search.found_order import FoundOrder
from mtpd.stage.resume import newest_checkpoint
from mtpd.stage.validations import known_ap, read_validations

COLUMNS = {'AP': ('bbox_mAP', '/mAP'), 'AP50': ('bbox_mAP_50', '/AP50'),
           'AP75': ('bbox_mAP_75', '/AP75'), 'small': ('bbox_mAP_s',),
           'medium': ('bbox_mAP_m',), 'large': ('bbox_mAP_l',)}
"""Kind of AP -> how its name ends in a validation's metrics (CocoMetric's,
VOCMetric's)."""


class UnreadableHistory(ValueError):
    """A folder that is no progression, or a file in it that is broken."""


@dataclass(frozen=True)
class Validation:
    """The student's AP at one time.

    Attributes:
        iteration: Number of iterations of its stage before it.
        aps: Some of :data:`COLUMNS` -> percent. A size that no object has is
            left out.
        epoch: The epoch that ended here, None if the log does not say it.
    """
    iteration: int
    aps: Mapping[str, float]
    epoch: int | None = None


@dataclass(frozen=True)
class StageHistory:
    """A stage that has begun.

    Attributes:
        index: From 1.
        teacher: Its name; several are joined by +.
        lines: Of its training log, each with ``step``, the iteration from 1,
            ascending. Of iterations that a resumed run repeated, the last.
        validations: By iteration.
        length: Iterations as far as the log goes.
        start_ap: The student's box AP in percent before it, None if unknown.
        end_ap: The box AP in percent of what it handed on, None if
            unfinished or unknown.
        seconds: Of training, in the process that finished it.
        weights: Its newest student, None before the first checkpoint.
        limit: The ``max_epochs`` or ``max_iters`` that it was finished with,
            None if unfinished or unknown.
    """
    index: int
    teacher: str
    lines: tuple[Mapping[str, float], ...] = ()
    validations: tuple[Validation, ...] = ()
    length: int = 0
    start_ap: float | None = None
    end_ap: float | None = None
    seconds: float | None = None
    weights: str | None = None
    limit: Mapping[str, int] | None = None

    @property
    def finished(self) -> bool:
        """Whether it has handed on its student."""
        return self.seconds is not None


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
            f'with --resume --work-dir {work_dir}. Or name the config that '
            'the progression was run with by --config FILE.'))
    cfg = load_config(path)
    if 'mtpd' not in cfg:
        raise UnreadableHistory(
            f'{path} has no mtpd part, so {work_dir} is no progression. Name '
            'the work_dir of one, or its config by --config FILE.')
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
    record = _read_json(plan.paths.record) or {}
    found = None
    if not plan.order and os.path.isfile(plan.paths.order_file):
        content = _read_json(plan.paths.order_file)
        try:
            found = FoundOrder.from_json(content)
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableHistory(
                f'{plan.paths.order_file} cannot be read: {error} Find the '
                'order again.') from error
    order = _order_of(plan, record, found)
    stages = tuple(_read_stages(plan.paths, order or (), plan.distils))
    # Written where the student's checkpoint alone is not what it starts from.
    start = plan.paths.start if os.path.isfile(plan.paths.start) \
        else plan.student.checkpoint
    start_ap = stages[0].start_ap if stages else None
    if start_ap is None and found and start == plan.student.checkpoint:
        start_ap = found.student_ap
    return History(plan, found, stages, order, start, start_ap, record,
                   _read_control(plan, control, record.get('identity', {}),
                                 stages))


def _read_control(plan: Plan, folder: str | None, identity: Mapping[str, Any],
                  stages: tuple[StageHistory, ...]) -> Control:
    """The control of a progression with this identity and these stages."""
    paths = WorkDir(folder or plan.paths.baseline)
    record = _read_json(paths.record)
    if record is None:
        return Control()
    alone_identity = record.get('identity', {})
    taught = not is_disabled(alone_identity.get('distill', {}))
    alone = tuple(_read_stages(paths, alone_identity.get('order', ()), taught))
    problem = 'teachers took part in it' if taught else ''
    expected = _traits(identity, stages)
    for what, value in _traits(alone_identity, alone).items():
        if not taught and expected.get(what, value) != value:
            problem = f'{what}: {value!r} there, {expected[what]!r} here'
    if problem:
        return Control(problem=f'{paths.folder} is no control of this '
                       f'progression ({problem})')
    return Control(alone)


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


def _read_json(path: str) -> Any:
    if not os.path.isfile(path):
        return None
    try:
        with open(path) as file:
            return json.load(file)
    except ValueError as error:
        raise UnreadableHistory(
            f'{path} is no JSON ({error}). Restore it, or run the progression '
            'anew in another --work-dir.') from error


def _read_stages(work_dir: WorkDir, order: Sequence[str],
                 taught: bool) -> Iterable[StageHistory]:
    before = None
    for index, teacher in enumerate(order, 1):
        paths = work_dir.stage(index, teacher, taught)
        folder = paths.folder
        if not os.path.isdir(folder):
            return
        stage = read_log(folder, StageHistory(
            index, teacher, start_ap=before))
        if os.path.isfile(paths.student):
            recorded = read_checkpoint(paths.student)['meta'][ENTRY]
            stage = replace(
                stage, start_ap=known_ap(recorded['start_ap']),
                end_ap=known_ap(recorded['end_ap']), weights=paths.student,
                seconds=recorded['seconds'], limit=recorded.get('length'))
        elif (newest := newest_checkpoint(folder)) is not None:
            recorded = read_checkpoint(newest).get(ENTRY, {})
            stage = replace(stage, weights=newest,
                            start_ap=known_ap(
                                recorded.get('start_ap', before)))
        before = stage.end_ap
        yield stage


def read_log(folder: str, stage: StageHistory) -> StageHistory:
    """A stage with what its runs have logged; each start has a folder.

    A resumed run repeats what came after its checkpoint. Its lines replace
    those of an earlier run from the same iteration on.
    """
    lines: list[Mapping[str, float]] = []
    for path in sorted(Path(folder).glob('*/vis_data/scalars.json')):
        for text in path.read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # cut off when the process was killed
                continue
            # The others are validations'.
            if isinstance(line, dict) and 'lr' in line:
                while lines and lines[-1]['step'] >= line['step']:
                    lines.pop()
                lines.append(line)
    validations = []
    for iteration, metrics in sorted(read_validations(folder).items()):
        validations.append(Validation(iteration, _aps(metrics),
                                      _epoch_at(lines, iteration)))
    length = max([int(line['step']) for line in lines[-1:]]
                 + [v.iteration for v in validations], default=0)
    return replace(stage, lines=tuple(lines), length=length,
                   validations=tuple(validations))


def _epoch_at(lines: Iterable[Mapping[str, float]],
              iteration: int) -> int | None:
    """The epoch that training was in, None if its log does not say it."""
    epochs = [int(line['epoch']) for line in lines
              if line['step'] <= iteration and 'epoch' in line]
    return epochs[-1] if epochs else None


def _aps(metrics: Mapping[str, float]) -> dict[str, float]:
    if not metrics:
        return {'AP': 0.}  # CocoMetric is silent where nothing was detected
    # pycocotools says -1 of a size that no object has.
    return {column: 100 * value for column, endings in COLUMNS.items()
            for key, value in metrics.items()
            if key.endswith(endings) and value >= 0}
