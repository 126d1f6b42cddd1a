"""From a config to a checked plan: student, pool, order, options.

Everything that can be wrong is looked for here, also in the last stage, and
all of it is reported together, before any work.
"""
import copy
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from mmengine.config import Config, ConfigDict

from mtpd.config_types import (SCOPE, closest_name, dict_of, type_name,
                               with_names, wrong_shapes)
from mtpd.distill.auto_weight import SHARE, is_disabled

from .detectors import SOURCE, DetectorSpec
from .errors import PlanError, did_you_mean
from .paths import find_file, paths_in, read_detector, with_found_paths
from .settings import (Options, ProgressionSettings, TeacherSettings,
                       read_settings)
from .settings.defaults import (default_adapter, former_defaults,
                                share_in)
from .work_dir import WorkDir

NEEDED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper',
          'val_dataloader', 'val_evaluator')
"""What the student's config has to set."""

DICTS = (
    'model', 'model.backbone', 'model.data_preprocessor', 'train_dataloader',
    'train_dataloader.dataset', 'train_dataloader.sampler', 'val_dataloader',
    'val_dataloader.dataset', 'val_dataloader.sampler', 'train_cfg', 'val_cfg',
    'optim_wrapper', 'optim_wrapper.optimizer', 'default_hooks',
    'default_hooks.checkpoint', 'visualizer', 'auto_scale_lr', 'randomness')
LISTS = ('custom_hooks',)
"""Of which shape its parts have to be."""

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
        share: The automatic weight's, where the mechanism has none of its
            own.
    """
    student: DetectorSpec
    teachers: Mapping[str, DetectorSpec]
    order: Stages | None
    work_dir: str
    seed: int | None = None
    share: float = SHARE

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


def stage_teachers(label: str, plan: Plan) -> tuple[str, ...]:
    """The names that a stage's label is made of."""
    return (label,) if label in plan.teachers else tuple(label.split('+'))


def make_plan(cfg: Config) -> Plan:
    """The plan of a config that has an ``mtpd`` part; reads no data.

    Without ``mtpd.distill``, a progression that an earlier version started
    keeps the default that it was started with.

    Args:
        cfg: The user's config, with ``work_dir`` set.

    Raises:
        PlanError: With every problem found.
    """
    plan, problems = draft_plan(cfg)
    if problems:
        raise PlanError(problems)
    return plan


def draft_plan(cfg: Config) -> tuple[Plan, list[str]]:
    """A plan, and everything that is wrong in the config.

    Where something is wrong, the plan has the settings' defaults and the
    teachers that can be read, so that the rest of it can be checked too.

    Args:
        cfg: As in :func:`make_plan`.
    """
    cfg = with_names(cfg)
    given, problems = _with_load_from(cfg)
    settings, of_settings = read_settings(ProgressionSettings, given, 'mtpd')
    student, of_student = _student(cfg, settings.pop('student', {}))
    shapes = wrong_shapes(student.config._cfg_dict, DICTS, LISTS)
    for field in shapes:  # nothing else in it can be looked at
        student.config.pop(field.partition('.')[0], None)
    problems += [*of_settings, *of_student, *shapes.values()]
    problems += _student_problems(student.config, shapes)
    pool = settings.pop('teachers', None)
    limit = settings.get('max_teachers')
    stages = _stages(settings.pop('order', 'bgs'))
    teachers: dict[str, DetectorSpec] = {}
    if pool is not None:
        teachers, of_teachers = _read_teachers(pool, cfg.filename)
        problems += of_teachers + _order_problems(stages, limit, teachers,
                                                  pool)
    if stages is not None and limit is not None:
        stages = stages[-limit:]  # later teachers matter more
    settings = with_found_paths(settings, cfg.filename)
    if isinstance(given, Mapping):
        settings.update({key: value for key, value
                         in former_defaults(cfg.work_dir).items()
                         if key not in given})
    settings['adapter'] = settings.get('adapter') or default_adapter(settings)
    if stages is not None and not {*sum(stages, ())} <= {*teachers}:
        # So that each teacher is looked at.
        stages = tuple((name,) for name in teachers)
    seed = dict_of(cfg, 'randomness').get('seed')
    return Plan(student=student, teachers=teachers, order=stages,
                work_dir=cfg.work_dir, seed=seed,
                share=share_in(cfg.work_dir, settings), **settings), problems


def _student(cfg: Config, given: Mapping[str, Any]
             ) -> tuple[DetectorSpec, list[str]]:
    content = dict(cfg._cfg_dict.items())
    content.pop('mtpd')
    config = Config(content, filename=cfg.filename)
    # Without a scope mmengine looks for the distiller in its own registry.
    config.default_scope = cfg.get('default_scope') or SCOPE
    checkpoint, sliced_from = given.get('checkpoint'), given.get('sliced_from')
    if not sliced_from or len(sliced_from) < 2:  # none, or a wrong one
        return DetectorSpec('student', config, checkpoint
                            and find_file(checkpoint, cfg.filename)), []
    source, problems = read_detector(SOURCE, sliced_from, cfg.filename)
    if checkpoint is not None:
        problems.append('mtpd.student has a checkpoint and sliced_from. Leave '
                        'one of them out: the student starts from one.')
    sliced = None if source is None else WorkDir(cfg.work_dir).sliced
    return DetectorSpec('student', config, sliced,
                        sliced_from=source), problems


def with_found_files(cfg: Config, plan: Plan) -> Config:
    """A config that names the files where its plan has found them, so that a
    copy of it in another folder means the same.

    Args:
        cfg: The user's config; it is not changed.
        plan: Its plan.
    """
    cfg = copy.deepcopy(with_names(cfg))
    source = plan.student.sliced_from
    own = cfg.mtpd.student = cfg.mtpd.get('student') or ConfigDict()
    if source is None:
        own.checkpoint = plan.student.checkpoint
    else:
        own.sliced_from = dict(checkpoint=source.checkpoint, config=find_file(
            own.sliced_from.config, cfg.filename))
    for name, spec in plan.teachers.items():
        teacher = cfg.mtpd.teachers[name]
        teacher.checkpoint = spec.checkpoint
        teacher.config = find_file(teacher.config, cfg.filename)
    dict_of(cfg.mtpd, 'unlabelled').update(paths_in(plan.unlabelled))
    return cfg


def _with_load_from(cfg: Config) -> tuple[Any, list[str]]:
    """``mtpd`` with mmengine's ``load_from`` as the student's checkpoint where
    it names none, and why ``load_from`` cannot be followed."""
    given, weights = cfg.mtpd, cfg.get('load_from')
    student = isinstance(given, Mapping) and dict_of(given, 'student')
    if not isinstance(student, Mapping):
        return given, []
    if student.get('sliced_from'):  # which says it all
        return {**given, 'student': {'checkpoint': None, **student}}, []
    if not weights:
        return given, []
    if 'checkpoint' not in student:
        return {**given, 'student': {**student, 'checkpoint': weights}}, []
    if student['checkpoint'] is not None:
        return given, []  # it was trained further, as the plan says
    return given, [
        f'load_from is {weights}, and mtpd.student.checkpoint is None, which '
        "is the student's own initialisation. Set mtpd.student.checkpoint to "
        'this file, or load_from=None.']


def unset_parts(cfg: Config, skipped: Iterable[str]) -> list[str]:
    """What the student's config has to set and does not.

    Args:
        cfg: The config.
        skipped: Fields that have another problem.
    """
    known = [field.partition('.')[0] for field in skipped]
    return [f'{key} is not set: the progression trains and validates with '
            "the student's own config." for key in NEEDED
            if not cfg.get(key) and key not in known]


def _student_problems(cfg: Config, skipped: Iterable[str]) -> list[str]:
    """What the student's own config lacks for training in stages."""
    problems = unset_parts(cfg, skipped)
    loop = dict_of(cfg, 'train_cfg').get('type')
    hook = dict_of(cfg, 'default_hooks.checkpoint').get('type')
    for field, kind, known, cure in (
            ('train_cfg.type', loop,
             ('EpochBasedTrainLoop', 'IterBasedTrainLoop'),
             'Set train_cfg=dict(by_epoch=True, max_epochs=...).'),
            ('default_hooks.checkpoint.type', hook, ('CheckpointHook',),
             'Add your own hook to custom_hooks.')):
        if kind is not None and type_name(kind) not in known:
            problems.append(
                f'{field} is {kind!r}; a stage has to resume wherever it was '
                f"stopped, so it needs mmengine's {' or '.join(known)}. "
                f'{cure}')
    return problems


def _read_teachers(pool: Mapping[str, Any], filename: str | None
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
        if isinstance(name, str) and '+' in name:
            problems.append(f'{field}: teachers that teach at once are joined '
                            'by +. Rename this teacher.')
        values, wrong = read_settings(TeacherSettings, entry, field)
        if isinstance(entry, Mapping) and 'config' not in entry:
            close = closest_name(name, {*pool} - {name})
            wrong += [f'{field} has no config; did you mean '
                      f'mtpd.teachers.{close}?'] if close else []
        problems += wrong
        if not {'config', 'checkpoint'} <= set(values):
            continue
        spec, wrong = read_detector(name, values, filename)
        problems += wrong
        if spec is not None:
            teachers[name] = spec
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
    problems = _fractions(teachers)
    if stages is None:
        problems += _mixed_aps(teachers, pool)
    elif not stages or not all(stages):
        problems.append("mtpd.order is empty. Set 'bgs' or a list of teacher "
                        'names.')
    else:
        names = [name for stage in stages for name in stage]
        for name in names:
            if name not in pool:
                problems.append(
                    f'mtpd.order names {name!r}, which is not in '
                    'mtpd.teachers' + did_you_mean(
                        name, [*pool, 'bgs'][:len(pool) + (len(names) == 1)],
                        quote=True))
        if len(set(names)) < len(names):
            problems.append(f'mtpd.order names a teacher twice: {names}.')
    if limit is not None and pool and limit > len(pool):
        problems.append(
            f'mtpd.max_teachers is {limit}, and mtpd.teachers has '
            f'{len(pool)} ({", ".join(pool)}). Set it to at most that, or to '
            'None for no limit.')
    return problems


def _fractions(teachers: Mapping[str, DetectorSpec]) -> list[str]:
    """That declared APs are fractions of 1, as they seem."""
    fractions = [f'{name} ({spec.ap:g})' for name, spec in teachers.items()
                 if spec.ap is not None and 0 < spec.ap <= 1]
    if not fractions:
        return []
    return [f'mtpd.teachers: ap is in percent, and that of '
            f'{", ".join(fractions)} is at most 1, which is probably a '
            'fraction. Write 50.8 for 0.508.']


def _mixed_aps(teachers: Mapping[str, DetectorSpec],
               pool: Mapping[str, Any]) -> list[str]:
    # One that is declared with a wrong value is declared.
    declared = [name for name in teachers if pool[name].get('ap') is not None]
    missing = [name for name in teachers if name not in declared]
    if not declared or not missing:
        return []
    return [f'mtpd.teachers: ap is declared for {", ".join(declared)} but not '
            f'for {", ".join(missing)}. Declared and measured AP may come '
            'from different data and do not compare: declare all of them, or '
            'none to have all measured.']
