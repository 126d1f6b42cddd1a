"""From a config to a checked plan: student, pool, order, options.

Everything that can be wrong is looked for here, also in the last stage, and
all of it is reported together, before any work.
"""
import json
from dataclasses import dataclass
from typing import Any, Mapping

from mmengine.config import Config

from mtpd.distill.auto_weight import is_disabled
from mtpd.distill.losses.mechanism import mechanism_config

from .detectors import DetectorSpec, load_config
from .errors import PlanError, did_you_mean
from .settings import (Options, ProgressionSettings, TeacherSettings,
                       read_settings)
from .work_dir import WorkDir

Stages = tuple[tuple[str, ...], ...]
"""The stages first to last, each the names of its teachers."""


@dataclass(frozen=True, kw_only=True)
class Plan(Options):
    """One progression; what it inherits are the options of ``mtpd``.

    Attributes:
        student: The student; its config is the user's without ``mtpd``.
        teachers: The pool by name.
        order: The stages; None where Backward Greedy Selection is to find
            them.
        work_dir: Where everything is written.
        seed: The config's; None until one is drawn.
    """
    student: DetectorSpec
    teachers: Mapping[str, DetectorSpec]
    order: Stages | None
    work_dir: str
    seed: int | None = None

    @property
    def paths(self) -> WorkDir:
        """Where everything is written."""
        return WorkDir(self.work_dir)

    @property
    def specs(self) -> dict[str, DetectorSpec]:
        """Student and pool by name, the student first."""
        return {'student': self.student, **self.teachers}

    @property
    def distils(self) -> bool:
        """Whether teachers take part: the mechanism's weight is above 0."""
        return not is_disabled(self.distill)

    @property
    def declares_aps(self) -> bool:
        """Whether the config gives the teachers' APs."""
        return any(spec.ap is not None for spec in self.teachers.values())

    @property
    def used(self) -> tuple[str, ...]:
        """The teachers that may be needed, each once."""
        if self.order is None:
            return tuple(self.teachers)
        return tuple(dict.fromkeys(
            name for stage in self.order for name in stage))


def stage_label(names: tuple[str, ...]) -> str:
    """A stage by its teachers: ``swin_t``, ``swin_t+x101``."""
    return '+'.join(names)


def make_plan(cfg: Config) -> Plan:
    """The plan of a config that has an ``mtpd`` part; reads no data.

    Without ``mtpd.distill``, a progression that an earlier version started
    keeps the default that it was started with.

    Args:
        cfg: The user's config, with ``work_dir`` set.

    Raises:
        PlanError: With every problem found.
    """
    settings, problems = read_settings(ProgressionSettings, cfg.mtpd, 'mtpd')
    student_config = Config(
        {key: value for key, value in cfg._cfg_dict.items() if key != 'mtpd'},
        filename=cfg.filename)
    student = DetectorSpec('student', student_config,
                           settings.pop('student', {}).get('checkpoint'))
    problems += _student_problems(student_config)
    pool = settings.pop('teachers', None)
    limit = settings.get('max_teachers')
    stages = _stages(settings.pop('order', 'bgs'))
    teachers: dict[str, DetectorSpec] = {}
    if pool is not None:
        teachers, of_teachers = _read_teachers(pool)
        problems += of_teachers + _order_problems(stages, limit, teachers,
                                                  pool)
    if problems:
        raise PlanError(problems)
    if stages is not None and limit is not None:
        stages = stages[-limit:]  # later teachers matter more
    if 'distill' not in cfg.mtpd:
        settings.update(_former_default(cfg.work_dir))
    seed = (cfg.get('randomness') or {}).get('seed')
    return Plan(student=student, teachers=teachers, order=stages,
                work_dir=cfg.work_dir, seed=seed, **settings)


def _former_default(work_dir: str) -> dict[str, Any]:
    """The mechanism of a progression that was started when the default was
    the paper's; it is resumed and shown with it."""
    try:
        with open(WorkDir(work_dir).record) as file:
            recorded = json.load(file)['identity']['distill']
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # nothing was started; or it is reported where it is read
    papers = mechanism_config('paper')
    return {'distill': papers} if recorded == papers else {}


def _student_problems(cfg: Config) -> list[str]:
    """What the student's own config lacks for training in stages."""
    problems = []
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper',
                'val_dataloader', 'val_evaluator'):
        if not cfg.get(key):
            problems.append(f'{key} is not set: the progression trains and '
                            "validates with the student's own config.")
    loop = cfg.get('train_cfg', {}).get('type')
    hook = cfg.get('default_hooks', {}).get('checkpoint', {}).get('type')
    for field, kind, known, cure in (
            ('train_cfg.type', loop,
             ('EpochBasedTrainLoop', 'IterBasedTrainLoop'),
             'Set train_cfg=dict(by_epoch=True, max_epochs=...).'),
            ('default_hooks.checkpoint.type', hook, ('CheckpointHook',),
             'Add your own hook to custom_hooks.')):
        if kind is not None and kind not in known:
            problems.append(
                f'{field} is {kind!r}; a stage has to resume wherever it was '
                f"stopped, so it needs mmengine's {' or '.join(known)}. "
                f'{cure}')
    return problems


def _read_teachers(pool: Mapping[str, Any]
                   ) -> tuple[dict[str, DetectorSpec], list[str]]:
    teachers, problems = {}, []
    if not pool:
        problems.append('mtpd.teachers is empty: a progression needs at least '
                        'one teacher. Set dict(NAME=dict(config=..., '
                        'checkpoint=...)).')
    if 'student' in pool:
        problems.append("mtpd.teachers.student: the name 'student' is taken. "
                        'Rename this teacher.')
    for name, entry in pool.items():
        field = f'mtpd.teachers.{name}'
        values, wrong = read_settings(TeacherSettings, entry, field)
        problems += wrong
        if wrong:
            continue
        try:
            teachers[name] = DetectorSpec(
                name, load_config(values.pop('config')), **values)
        except OSError as error:
            problems.append(
                f'{field}.config: {entry["config"]} cannot be read ({error}). '
                "Name a file, or mmdet::family/name.py for one of mmdet's "
                'own.')
        except PlanError as error:
            problems += error.problems
    return teachers, problems


def _stages(order: Any) -> Stages | None:
    """The stages of an order by hand, None for 'bgs'; a name stands for a
    stage of its own."""
    if order == 'bgs':
        return None
    names = [order] if isinstance(order, str) else order
    return tuple(tuple(stage) if isinstance(stage, (list, tuple))
                 else (stage,) for stage in names)


def _order_problems(stages: Stages | None, limit: int | None,
                    teachers: Mapping[str, DetectorSpec],
                    pool: Mapping[str, Any]) -> list[str]:
    """Why the order, or the search for it, does not go with the pool."""
    problems = []
    if stages is None:
        problems += _mixed_aps(teachers)
    elif not stages or not all(stages):
        problems.append("mtpd.order is empty. Set 'bgs' or a list of teacher "
                        'names.')
    else:
        names = [name for stage in stages for name in stage]
        for name in names:
            if name not in pool:
                problems.append(
                    f'mtpd.order names {name!r}, which is not in '
                    'mtpd.teachers' + did_you_mean(name, pool, quote=True))
        if len(set(names)) < len(names):
            problems.append(f'mtpd.order names a teacher twice: {names}.')
    if limit is not None and pool and limit > len(pool):
        problems.append(
            f'mtpd.max_teachers is {limit}, and mtpd.teachers has '
            f'{len(pool)} ({", ".join(pool)}). Set it to at most that, or to '
            'None for no limit.')
    return problems


def _mixed_aps(teachers: Mapping[str, DetectorSpec]) -> list[str]:
    declared = [name for name, spec in teachers.items()
                if spec.ap is not None]
    missing = [name for name in teachers if name not in declared]
    if not declared or not missing:
        return []
    return [f'mtpd.teachers: ap is declared for {", ".join(declared)} but not '
            f'for {", ".join(missing)}. Declared and measured AP may come '
            'from different data and do not compare: declare all of them, or '
            'none to have all measured.']
