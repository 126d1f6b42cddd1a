"""From a config to a checked plan: student, pool, order, stages.

Everything that can be wrong is looked for here, also in the last stage, and
all of it is reported together, before any work.
"""
import difflib
import importlib.util
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Iterator, Mapping
from urllib.parse import urlparse

from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

from mtpd.backbones import fill_in_channels
from mtpd.compat.checkpoints import checkpoint_hash, fetch_checkpoint
from mtpd.distill.adapters import ADAPTERS, STARTS
from mtpd.distill.detector import build_detector
from mtpd.distill.hooks.fade import FadeDistillHook
from mtpd.distill.inherit import INHERITABLE
from mtpd.distill.teacher_view.transform import as_fraction

from .settings import CostSettings, read_cost_settings
from .work_dir import WorkDir

FIELDS = {
    'student': 'dict(checkpoint=...)',
    'teachers': 'dict(name=dict(config=..., checkpoint=..., ap=..., '
                'scale=...), ...)',
    'order': "'bgs' or a list of teacher names; a tuple of names among them "
             'is one stage of several teachers at once',
    'max_teachers': 'an integer of at least 1, or None for no limit',
    'distill': 'the mechanism, such as '
               "dict(type='FeatureL2Loss', loss_weight=1.0)",
    'strides': 'a tuple of strides to match such as (8, 16, 32), or None for '
               'all',
    'handover': "'last' or 'best'",
    'adapter': "'auto' or 'conv'",
    'init_adapters': "'zero', 'random', 'identity' or 'fitted'",
    'inherit': "some of 'backbone', 'neck', 'head' and 'alternate_blocks'",
    'fade': 'dict(begin=..., end=..., by_epoch=True)',
    'costs': 'dict(images=..., split=..., certainty=..., sequential=...)',
    'checkpoint_every': 'iterations between two checkpoints within an epoch, '
                        'or None for epoch ends only',
    'on_nonfinite': "'stop' or 'skip'",
    'fast_teacher': "dict(precision='bf16' or 'fp16', channels_last=..., "
                    'compile=...)',
}
DEFAULTS = {
    'max_teachers': None, 'distill': dict(type='FeatureL2Loss'),
    'strides': None, 'handover': 'last', 'adapter': 'auto',
    'init_adapters': None, 'inherit': (), 'fade': None, 'fast_teacher': {},
    'costs': None, 'checkpoint_every': None, 'on_nonfinite': 'stop'}
TEACHER_FIELDS = ('config', 'checkpoint', 'ap', 'scale')


class PlanError(ValueError):
    """What is wrong with a progression's config, all of it at once."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        many = '' if len(problems) == 1 else f' ({len(problems)} problems)'
        super().__init__(f'The progression cannot start{many}:\n' + '\n'.join(
            f'  - {p}' for p in problems))

    def __reduce__(self) -> tuple:
        return type(self), (self.problems,)  # from process to process


@dataclass(frozen=True)
class DetectorSpec:
    """A detector of the pool, or the student.

    Attributes:
        name: Its key in ``mtpd.teachers``; ``student`` for the student.
        config: Its whole mmdet config.
        checkpoint: File or URL; None (student only) for no weights.
        ap: Box AP as declared, in percent; None to be measured.
        scale: Size of its images over the student's.
    """
    name: str
    config: Config
    checkpoint: str | None
    ap: float | None = None
    scale: Fraction = Fraction(1)

    @property
    def field(self) -> str:
        """Where the user wrote it."""
        return 'mtpd.student' if self.name == 'student' \
            else f'mtpd.teachers.{self.name}'

    @property
    def checkpoint_field(self) -> str:
        """Where the user wrote the checkpoint."""
        return f'{self.field}.checkpoint'

    @property
    def model(self) -> ConfigDict:
        """The ``model`` part, with its data preprocessor inside."""
        model = self.config.model.copy()
        if 'data_preprocessor' not in model and \
                'data_preprocessor' in self.config:
            model.data_preprocessor = self.config.data_preprocessor
        return model

    @property
    def weights(self) -> str:
        """The checkpoint of a detector that has one, as every teacher has.

        Raises:
            ValueError: It has none.
        """
        if self.checkpoint is None:
            raise ValueError(f'{self.checkpoint_field} is None; expected a '
                             'file or URL of trained weights. Set it.')
        return self.checkpoint

    def build(self) -> BaseDetector:
        """The detector, with exactly its checkpoint's weights; without a
        checkpoint, with weights as constructed.

        Raises:
            CheckpointMismatch, CheckpointUnavailable, CorruptCheckpoint,
            UnsafeCheckpoint, FileNotFoundError: The checkpoint cannot be used.
            TypeError: The config builds no detector with a neck.
        """
        return build_detector(self.model, self.checkpoint,
                              self.checkpoint_field)

    def hash(self) -> str | None:
        """sha256 of the checkpoint file, None without one."""
        return None if self.checkpoint is None else checkpoint_hash(
            fetch_checkpoint(self.checkpoint))


@dataclass(frozen=True)
class Plan:
    """One progression.

    Attributes:
        student: The student; its config is the user's without ``mtpd``.
        teachers: The pool by name.
        order: The stages first to last, each the names of its teachers (one,
            except where several teach at once); None where Backward Greedy
            Selection is to find them.
        max_teachers: At most so many stages; None for no limit.
        distill: The mechanism's config.
        strides: Levels to match; None for all shared ones.
        handover: Which weights a stage hands on, 'last' or 'best'.
        adapter: Where adapters have a convolution, 'auto' or 'conv'.
        init_adapters: How they start; None for the mechanism's choice.
        inherit: What the student takes over from the first teacher.
        fade: Where distillation ends within a stage; None for nowhere.
        fast_teacher: How teachers run, see ``FrozenDetector``.
        costs: How adaptation costs are measured.
        checkpoint_every: Iterations between two checkpoints within an epoch;
            None for epoch ends only.
        on_nonfinite: What happens at a loss or gradient that is not finite,
            'stop' or 'skip'.
        work_dir: Where everything is written.
        seed: The config's; None until one is drawn.
    """
    student: DetectorSpec
    teachers: Mapping[str, DetectorSpec]
    order: tuple[tuple[str, ...], ...] | None
    max_teachers: int | None
    distill: dict[str, Any]
    strides: tuple[int, ...] | None
    handover: str
    adapter: str
    init_adapters: str | None
    inherit: tuple[str, ...]
    fade: dict[str, Any] | None
    fast_teacher: dict[str, Any]
    costs: CostSettings
    checkpoint_every: int | None
    on_nonfinite: str
    work_dir: str
    seed: int | None = None

    @property
    def paths(self) -> WorkDir:
        """Where everything is written."""
        return WorkDir(self.work_dir)

    @property
    def used(self) -> tuple[str, ...]:
        """The teachers that may be needed, each once."""
        return tuple(self.teachers) if self.order is None else tuple(
            dict.fromkeys(name for stage in self.order for name in stage))

    def describe(self) -> str:
        """The plan in words, for people."""
        cfg = self.student.config
        train = cfg.train_cfg
        length = _counted(train.max_epochs, 'epoch') \
            if 'max_epochs' in train \
            else _counted(train.max_iters, 'iteration')
        optimizer = cfg.optim_wrapper.optimizer
        lines = [
            f'Student   {_architecture(cfg.model)}, from '
            + (self.student.checkpoint or 'its own initialisation'),
            'Pool      ' + ('\n          '.join(
                f'{t.name}: {_architecture(t.config.model)}, '
                + (f'AP {t.ap:g}' if t.ap is not None else
                   'AP to be measured' if self.order is None else
                   'AP not declared')
                + _said_scale(t.scale)
                + f', from {t.checkpoint}' for t in self.teachers.values())),
            'Order     ' + (
                'found by Backward Greedy Selection from adaptation costs '
                'between the detectors' if self.order is None
                else ' > '.join(map(stage_label, self.order))) + (
                '' if self.max_teachers is None else
                f', at most {self.max_teachers}'),
            'Levels    ' + ('all strides that student and teacher share'
                            if self.strides is None else
                            f'strides {self.strides}'),
            f'Distill   {dict(self.distill)}' + self._said_options(),
            f'Each stage is one run of {length}, batch '
            f'{cfg.train_dataloader.batch_size} per process, '
            f'{optimizer.type} lr {optimizer.get("lr")}, '
            + ' + '.join(_scheduler(s) for s in _as_list(
                cfg.get('param_scheduler'))),
            'The learning rate and its warm-up start anew in every stage; '
            f'the {self.handover} weights are handed on.',
            f'Results   {self.work_dir}',
        ]
        count = None if self.order is None else len(self.order)
        if count is None and self.max_teachers is not None:
            count = min(self.max_teachers, len(self.teachers))
        names = list(map(stage_label, self.order or ())) or [
            f'teacher {i + 1} of the order'
            for i in range(count or len(self.teachers))]
        most = '' if self.order else ' (fewer if the order stops before)'
        lines.insert(5, 'Stages    ' + '; '.join(
            f'{i}: {name}, {length}' for i, name in enumerate(names, 1))
            + most)
        return '\n'.join(lines)

    def _said_options(self) -> str:
        """What differs from the plainest progression, in words."""
        said = ''
        if self.adapter != 'auto':
            said += ', adapters with a convolution at every level'
        if self.init_adapters is not None:
            said += f', adapters start {self.init_adapters}'
        if self.fast_teacher:
            said += '\nTeachers  run with ' + ', '.join(
                f'{k}={v}' for k, v in self.fast_teacher.items())
        if self.inherit:
            said += ('\nInherits  ' + ', '.join(self.inherit)
                     + ' of the first teacher, as far as names and shapes '
                     'agree')
        if self.fade:
            unit = 'epoch' if self.fade.get('by_epoch', True) else 'iteration'
            said += (f'\nFades     from {unit} {self.fade["begin"]:g} of '
                     f'every stage, ended at {self.fade["end"]:g}: from there '
                     'the student trains alone')
        return said


def stage_label(names: tuple[str, ...]) -> str:
    """A stage by its teachers: ``swin_t``, ``swin_t+x101``."""
    return '+'.join(names)


def _said_scale(scale: Fraction) -> str:
    if scale == 1:
        return ''
    return (f", sees images at {scale} times the student's size; the "
            "student's maps are " + (
                'upsampled to its grid' if scale > 1 else
                'reduced to its grid by area averaging'))


def make_plan(cfg: Config) -> Plan:
    """The plan of a config that has an ``mtpd`` part; touches no data.

    Args:
        cfg: The user's config, with ``work_dir`` set.

    Raises:
        PlanError: With every problem found.
    """
    given = cfg.mtpd
    _check_nesting(given)
    own = Config({k: v for k, v in cfg._cfg_dict.items() if k != 'mtpd'},
                 filename=cfg.filename)
    student = DetectorSpec('student', own,
                           given.get('student', {}).get('checkpoint'))
    teachers, problems = _teachers(given)
    order, of_order = _order(given, teachers)
    settings, of_settings = _settings(given)
    problems = [*_unknown_fields(given), *_of_student(given, own), *problems,
                *of_order, *of_settings]
    most = settings.get('max_teachers')
    if most is not None and teachers and most > len(teachers):
        problems.append(
            f'mtpd.max_teachers is {most}, and mtpd.teachers has '
            f'{len(teachers)} ({", ".join(teachers)}). Set it to at most '
            'that, or to None for no limit.')
    if problems:
        raise PlanError(problems)
    return Plan(student, teachers, order, work_dir=cfg.work_dir,
                seed=(cfg.get('randomness') or {}).get('seed'), **settings)


def _check_nesting(given: Mapping) -> None:
    """Nothing else can be looked at where a dict is expected and none is."""
    for key in ('student', 'teachers', *(
            f'teachers.{n}' for n in given.get('teachers', {})
            if isinstance(given['teachers'], Mapping))):
        value = given
        for part in key.split('.'):
            value = value.get(part, {})
        if not isinstance(value, Mapping):
            raise PlanError([f'mtpd.{key} is {value!r}; it has to be '
                             f'{FIELDS[key.split(".")[0]]}.'])


def _unknown_fields(given: Mapping) -> list[str]:
    problems = []
    for key in given:
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, 1)
            problems.append(
                f'mtpd.{key} is not known' + (
                    f'; did you mean mtpd.{near[0]}?' if near else
                    f'. Known: {", ".join(FIELDS)}.'))
    return problems


def _of_student(given: Mapping, own: Config) -> list[str]:
    problems = [] if 'checkpoint' in given.get('student', {}) else [
        'mtpd.student.checkpoint is not set. Set the trained student that '
        'the progression starts from, or None for its own initialisation.']
    return problems + [
        f'{key} is not set: the progression trains and validates with the '
        "student's own config." for key in (
            'model', 'train_dataloader', 'train_cfg', 'optim_wrapper',
            'val_dataloader', 'val_evaluator') if not own.get(key)] + [
        f'{key} is {kind!r}; a stage, which has to go on wherever it was '
        f"stopped, needs mmengine's {' or '.join(known)}. {cure}"
        for key, kind, known, cure in (
            ('train_cfg.type', own.get('train_cfg', {}).get('type'),
             ('EpochBasedTrainLoop', 'IterBasedTrainLoop'),
             'Set train_cfg=dict(by_epoch=True, max_epochs=...).'),
            ('default_hooks.checkpoint.type', own.get(
                'default_hooks', {}).get('checkpoint', {}).get('type'),
             ('CheckpointHook',), 'Add your own hook to custom_hooks.'))
        if kind is not None and kind not in known]


def _teachers(given: Mapping) -> tuple[dict[str, DetectorSpec], list[str]]:
    teachers, problems = {}, []
    for name, entry in given.get('teachers', {}).items():
        field = f'mtpd.teachers.{name}'
        for key in ('config', 'checkpoint'):
            if not entry.get(key):
                problems.append(f'{field}.{key} is not set.')
        for key in set(entry) - set(TEACHER_FIELDS):
            problems.append(f'{field}.{key} is not known. Known: '
                            f'{", ".join(TEACHER_FIELDS)}.')
        scale = Fraction(1)
        try:
            scale = as_fraction(entry.get('scale', 1))
        except ValueError as error:
            problems.append(f'{field}.scale: {error}')
        try:
            if entry.get('config'):
                teachers[name] = DetectorSpec(
                    name, load_config(entry.config), entry.get('checkpoint'),
                    entry.get('ap'), scale)
        except OSError as error:
            problems.append(
                f'{field}.config: {entry.config} cannot be read ({error}). '
                "Name a file, or mmdet::family/name.py for one of mmdet's "
                'own.')
        except PlanError as error:
            problems += error.problems
    if not given.get('teachers'):
        problems.append('mtpd.teachers is empty: a progression needs at least '
                        f'one teacher. Set {FIELDS["teachers"]}.')
    if 'student' in given.get('teachers', {}):
        problems.append("mtpd.teachers.student: the name 'student' is taken. "
                        'Rename this teacher.')
    return teachers, problems


def _order(given: Mapping, teachers: Mapping[str, DetectorSpec]
           ) -> tuple[tuple[tuple[str, ...], ...] | None, list[str]]:
    """The stages, None where they are to be found."""
    order = given.get('order', 'bgs')
    if order == 'bgs':
        return None, _mixed_aps(teachers)
    problems = []
    stages = [order] if isinstance(order, str) else order
    if not isinstance(stages, (list, tuple)):
        return None, [f'mtpd.order is {order!r}; it has to be '
                      f'{FIELDS["order"]}.']
    stages = tuple(tuple(stage) if isinstance(stage, (list, tuple))
                   else (str(stage),) for stage in stages)
    named = [name for stage in stages for name in stage]
    for name in named:
        if name not in given.get('teachers', {}):
            near = difflib.get_close_matches(str(name), teachers, 1)
            problems.append(
                f'mtpd.order names {name!r}, which is not in mtpd.teachers'
                + (f'; did you mean {near[0]!r}?' if near else
                   f' ({", ".join(teachers) or "empty"}).'))
    if len(set(named)) < len(named):
        problems.append(f'mtpd.order names a teacher twice: {named}.')
    if not stages or not all(stages):
        problems.append("mtpd.order is empty. Set 'bgs' or a list of "
                        'teacher names.')
    most = given.get('max_teachers')
    if isinstance(most, int) and 1 <= most < len(stages):
        stages = stages[-most:]  # later teachers matter more
    return stages, problems


def _mixed_aps(teachers: Mapping[str, DetectorSpec]) -> list[str]:
    known = [t.name for t in teachers.values() if t.ap is not None]
    lacking = [n for n in teachers if n not in known]
    return [] if not known or not lacking else [
        f'mtpd.teachers: ap is declared for {", ".join(known)} but not for '
        f'{", ".join(lacking)}. Declared and measured AP may come from '
        'different data and do not compare: declare all of them, or none to '
        'have all measured.']


def _settings(given: Mapping) -> tuple[dict[str, Any], list[str]]:
    """What is neither student, teacher nor order: fields of :class:`Plan`."""
    settings = {**DEFAULTS, **{k: given[k] for k in DEFAULTS if k in given}}
    strides, inherit = settings['strides'], _as_list(settings['inherit'])
    distill = settings['distill']
    fade, fast = settings['fade'], settings['fast_teacher'] or {}
    choices = {'handover': ('last', 'best'), 'adapter': ADAPTERS,
               'init_adapters': (None, *STARTS, 'fitted'),
               'on_nonfinite': ('stop', 'skip')}
    wrong = [key for key, known in choices.items()
             if settings[key] not in known]
    wrong += [key for key in ('max_teachers', 'checkpoint_every')
              if settings[key] is not None and not (
                  isinstance(settings[key], int) and settings[key] >= 1)]
    if strides is not None and (
            not isinstance(strides, (list, tuple)) or not strides
            or not all(isinstance(s, int) for s in strides)):
        wrong.append('strides')
    if not isinstance(distill, Mapping) or 'type' not in distill:
        wrong.append('distill')
    if not set(inherit) <= set(INHERITABLE):
        wrong.append('inherit')
    costs, of_costs = read_cost_settings(settings['costs'])
    allowed = {'precision': (None, 'bf16', 'fp16'),
               'channels_last': (True, False), 'compile': (True, False)}
    if not isinstance(fast, Mapping) or any(
            value not in allowed.get(key, ()) for key, value in fast.items()):
        wrong.append('fast_teacher')
    problems = [f'mtpd.{key} is {settings[key]!r}; it has to be '
                f'{FIELDS[key]}.' for key in wrong] + of_costs
    if fade is not None:
        try:
            FadeDistillHook(**fade)
        except (TypeError, ValueError) as error:
            problems.append(f'mtpd.fade is {fade!r}; it has to be '
                            f'{FIELDS["fade"]} ({error}).')
    if problems:
        return {}, problems
    return {**settings, 'distill': dict(distill), 'inherit': tuple(inherit),
            'strides': None if strides is None else tuple(strides),
            'fast_teacher': dict(fast), 'costs': costs}, []


def load_config(name: str) -> Config:
    """A config by path, or of an installed package (``mmdet::family/x.py``).

    mmengine's ``Config.fromfile`` does not know the second form. Where timm
    or torchvision makes the backbone, the neck's channels are filled in.

    Raises:
        FileNotFoundError: There is no such file or package.
        PlanError: The backbone's model cannot be built.
    """
    package, separator, _ = name.partition('::')
    if not separator:
        cfg = Config.fromfile(name)
    # mmengine would pip-install a package that is not there.
    elif importlib.util.find_spec(package) is None:
        raise FileNotFoundError(f'package {package} is not installed')
    else:
        cfg = get_config(name)
    try:
        fill_in_channels(cfg)
    except (ImportError, ValueError) as error:
        raise PlanError([f'model.backbone of {name}: {error}']) from error
    return cfg


def missing_files(plan: Plan) -> list[str]:
    """What the plan needs and is not there, one message each.

    Looks at checkpoints, annotation files, image folders and each image
    that the annotations name. URLs are looked at when they are fetched.
    """
    used = [plan.student, *(plan.teachers[n] for n in plan.used)]
    return [
        f'{spec.field}.checkpoint: there is no file {spec.checkpoint}. Train '
        'it (tools/train.py with its own config), or correct the path.'
        for spec in used if spec.checkpoint and not is_url(spec.checkpoint)
        and not os.path.isfile(spec.checkpoint)] + missing_data(plan)


def missing_data(plan: Plan) -> list[str]:
    """The part of :func:`missing_files` that is not about checkpoints."""
    problems = []
    for part in ('train_dataloader', 'val_dataloader'):
        for field, dataset in inner_datasets(
                plan.student.config[part].dataset, f'{part}.dataset'):
            problems += _missing_data(field, dataset,
                                      training=part == 'train_dataloader')
    return problems


def inner_datasets(dataset: ConfigDict,
                   field: str) -> Iterator[tuple[str, ConfigDict]]:
    """The data sets that wrappers (repeat, concat, ...) are made of."""
    if 'datasets' in dataset:
        for i, inner in enumerate(dataset.datasets):
            yield from inner_datasets(inner, f'{field}.datasets.{i}')
    elif 'dataset' in dataset:
        yield from inner_datasets(dataset.dataset, f'{field}.dataset')
    else:
        yield field, dataset


def _missing_data(field: str, dataset: ConfigDict,
                  training: bool) -> list[str]:
    root = dataset.get('data_root') or ''
    annotations = os.path.join(root, dataset.get('ann_file') or '')
    if is_url(annotations):
        return []
    problems = []
    if not os.path.isfile(annotations):
        problems.append(
            f'{field}.ann_file: there is no file {annotations}. Put the '
            f'annotations there, or set data_root and ann_file of {field}.')
    for key, prefix in dataset.get('data_prefix', {}).items():
        folder = os.path.join(root, prefix)
        if not os.path.isdir(folder):
            problems.append(
                f'{field}.data_prefix.{key}: there is no folder {folder}. Put '
                f'the images there, or set data_root of {field}.')
    if problems:
        return problems
    built = DATASETS.build(ConfigDict({**dataset, 'pipeline': [],
                                       'lazy_init': True}))
    built.serialize_data = False  # numpy cannot serialise an empty list
    built.full_init()
    if len(built) == 0:
        return [f'{field}: no {"training " if training else ""}image is '
                f'left of {annotations} (classes '
                f'{built.metainfo.get("classes")}, filter_cfg '
                f'{dataset.get("filter_cfg")}). Check that '
                f'{field}.metainfo.classes are the names of the annotation '
                "file's categories."]
    there: dict[str, set[str]] = {}
    absent = []
    for i in range(len(built)):
        path = built.get_data_info(i).get('img_path', '')
        if is_url(path) or not path:
            continue
        folder, name = os.path.split(path)
        if folder not in there:
            there[folder] = set(os.listdir(folder)) \
                if os.path.isdir(folder) else set()
        if name not in there[folder]:
            absent.append(path)
    if absent:
        return [f'{field}: {len(absent)} of {len(built)} images that '
                f'{annotations} names are missing, the first is {absent[0]}. '
                f'Complete the folder, or set {field}.data_prefix.']
    return []


def is_url(path: str) -> bool:
    """Whether a path is fetched and not opened."""
    return urlparse(path).scheme in ('http', 'https', 's3', 'petrel')


def _as_list(value: Any) -> list:
    return [] if value is None else \
        list(value) if isinstance(value, (list, tuple)) else [value]


def _architecture(model: Mapping) -> str:
    """``RetinaNet, ResNet-50``, ``MaskRCNN, SwinTransformer (2, 2, 6, 2)``."""
    backbone = model.get('backbone') or {}
    depth = backbone.get('depth', backbone.get('depths', ''))
    depth = f'-{depth}' if isinstance(depth, int) else \
        f' {tuple(depth)}' if depth else ''
    return f'{model["type"]}, {backbone.get("type")}{depth}'


def _counted(number: int, what: str) -> str:
    return f'{number} {what}' + ('' if number == 1 else 's')


def _scheduler(scheduler: Mapping) -> str:
    unit = 'epoch' if scheduler.get('by_epoch', True) else 'iteration'
    if 'milestones' in scheduler:
        span = f'at {unit}s {list(scheduler["milestones"])}'
    else:
        span = f'{unit}s {scheduler.get("begin", 0)} to ' \
               f'{scheduler.get("end", scheduler.get("T_max", "the last"))}'
    return f'{scheduler["type"]} ({span})'
