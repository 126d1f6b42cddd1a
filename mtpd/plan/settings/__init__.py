"""Every setting of ``mtpd``: its default, check and description, in one place.

A new setting is a field here and a use where it acts. The plan, the messages
about wrong values, "did you mean" and docs/reference.md are made from these
fields. ``forms`` has what they are made with.
"""
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Mapping

from mtpd.distill.adapters import ADAPTERS, STARTS
from mtpd.distill.hooks.fade import FadeDistillHook
from mtpd.distill.inherit import INHERITABLE
from mtpd.distill.losses.mechanism import RECOMMENDED, mechanism_config
from mtpd.distill.teacher_view.scale import as_fraction, is_scale
from mtpd.plan.errors import try_keywords
from mtpd.statistics import TWO_ERRORS

from .forms import (RETIRED, Form, as_list, group_of, is_number,
                    is_positive_int, one_of, optional, read_settings, setting,
                    settings_of)

__all__ = ['RETIRED', 'CostSettings', 'FastTeacherSettings', 'Form', 'Options',
           'ProgressionSettings', 'StudentSettings', 'TeacherSettings',
           'UnlabelledSettings', 'as_list', 'is_number', 'is_positive_int',
           'read_settings', 'setting', 'settings_of']


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_pipeline(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(
        isinstance(step, Mapping) and 'type' in step for step in value)


def _is_strides(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) \
        and all(map(is_positive_int, value))


def _is_stages(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(name, str) for stage in value
        for name in (stage if isinstance(stage, (list, tuple)) else [stage]))


def _checked_fade(value: Any) -> dict[str, Any]:
    for key in ('begin', 'end'):
        number = value.get(key, 0) if isinstance(value, Mapping) else 0
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ValueError(f'mtpd.fade.{key} is {number!r}; it has to be a '
                             'number.')
    try_keywords(FadeDistillHook, value)
    return dict(value)


@dataclass(frozen=True, kw_only=True)
class TrainedSettings:
    """``mtpd.student.sliced_from``, and what every teacher has."""
    config: str = setting(
        Form("a config file, or mmdet::family/name.py for one of mmdet's own",
             _is_path), "The detector's whole mmdet config.")
    checkpoint: str = setting(
        Form('a file or URL of trained weights', _is_path),
        'Its weights, loaded strictly.')


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """``mtpd.student``."""
    checkpoint: str | None = setting(
        optional('a file or URL of the trained student, or None for its own '
                 'initialisation', _is_path),
        'The weights that it starts from; not needed with sliced_from.')
    sliced_from: dict[str, Any] = setting(
        group_of(TrainedSettings),
        'A trained detector that is the student with more channels. The '
        'student starts with the most important ones.', default=dict)


@dataclass(frozen=True, kw_only=True)
class TeacherSettings(TrainedSettings):
    """``mtpd.teachers.NAME``."""
    ap: float | None = setting(
        optional('box AP in percent, from 0 to 100, or None to have it '
                 'measured', lambda v: is_number(v) and 0 <= v <= 100),
        "Its box AP on the student's validation set. Declare it for all "
        'teachers or for none.', default=None)
    scale: Fraction = setting(
        Form("a number above 0, such as 2, 0.75 or '4/3'", is_scale,
             as_fraction),
        "Size of the teacher's images over the student's.",
        default=Fraction(1))


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """``mtpd.costs``: how adaptation costs are measured."""
    images: int | str | None = setting(
        optional("'all', 'auto', a number of images or None",
                 lambda v: v in ('all', 'auto') or is_positive_int(v)),
        "They are evenly spread over the split. 'auto' adds images until "
        'every decision is certain. None takes all, unless a saved result '
        'of fewer images is certain in every decision.', default=None)
    split: str = setting(
        one_of('train', 'val', 'unlabelled'),
        'The data set that the images are from. The paper takes the '
        "validation set; 'unlabelled' is mtpd.unlabelled.", default='train')
    certainty: float = setting(
        Form('above 0 and below 1; two standard errors are 0.9545',
             lambda v: is_number(v) and 0 < v < 1),
        'Confidence level at which a decision counts as certain.',
        default=TWO_ERRORS)
    sequential: float | None = setting(
        optional('GiB of disk space for maps, above 0, or None',
                 lambda v: is_number(v) and v > 0),
        'If it is set, the detectors run one after the other, for pools that '
        'do not fit into memory together. None runs all of them on each '
        'image.', default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FastTeacherSettings:
    """``mtpd.fast_teacher``: how teachers run, see ``FrozenDetector``."""
    precision: str | None = setting(
        one_of('bf16', 'fp16', None),
        'Mixed precision of the teacher; None for none of its own.',
        default=None)
    channels_last: bool = setting(
        one_of(True, False),
        'Whether images and weights lie channels last in memory.',
        default=False)
    compile: bool = setting(
        one_of(True, False),
        'Whether torch.compile compiles backbone and neck.', default=False)


@dataclass(frozen=True, kw_only=True)
class UnlabelledSettings:
    """``mtpd.unlabelled``: images without labels, from ``folder``,
    ``ann_file`` or ``dataset``."""
    folder: str | None = setting(
        optional('a folder of images, or None', _is_path),
        'The folder of the images, with the folders in it; of those that '
        'ann_file names, if it is set.', default=None)
    ann_file: str | None = setting(
        optional('a COCO file, or None', _is_path),
        'A COCO file whose images are taken. It needs no annotations, and '
        'those that it has are not read. Without a folder, names are '
        "relative to the file's own.", default=None)
    dataset: dict[str, Any] | None = setting(
        optional('the config of a data set, such as '
                 "dict(type='CocoDataset', ...), or None",
                 lambda v: isinstance(v, Mapping) and 'type' in v),
        'Any data set of mmdet. Its labels are not used, and its pipeline is '
        'replaced.', default=None)
    batch_size: int | None = setting(
        optional('an integer of at least 1, or None', is_positive_int),
        'Images in each step and process, beside the labelled ones. None '
        'takes train_dataloader.batch_size.', default=None)
    pipeline: list[Any] | None = setting(
        optional('a list of steps, or None', _is_pipeline),
        "The images' pipeline. None takes the student's training pipeline "
        'without what needs boxes.', default=None)
    batch_norm: str = setting(
        one_of('train', 'running'),
        "How the images pass the student's batch norms. 'train': normalised "
        "by their own batch, which changes the running statistics; "
        "'running': by the running statistics, which they do not change.",
        default='train')


@dataclass(frozen=True, kw_only=True)
class Options:
    """All settings except student, teachers and order."""
    max_teachers: int | None = setting(
        optional('an integer of at least 1, or None for no limit',
                 is_positive_int),
        'Maximum number of stages: the last ones of the order.', default=None)
    distill: dict[str, Any] = setting(
        Form("the mechanism, such as dict(type='PKDLoss', loss_weight=6.0), "
             "or 'paper'", lambda v: True, mechanism_config),
        "The distillation loss. 'paper' stands for the paper's squared "
        "distance with weight 1, dict(type='FeatureL2Loss').",
        default=RECOMMENDED.copy)
    strides: tuple[int, ...] | None = setting(
        Form('a tuple of strides such as (8, 16, 32), or None for all',
             lambda v: v is None or _is_strides(v),
             lambda v: None if v is None else tuple(v)),
        'The levels to match. None takes all that student and teacher share.',
        default=None)
    handover: str = setting(
        one_of('last', 'best'),
        'The weights that a stage hands on: of its last epoch, or of its '
        'best validation.', default='last')
    adapter: str = setting(  # never None in a plan
        one_of(*ADAPTERS, None),
        "Where adapters have a 1x1 convolution: where channels differ "
        "('auto'), or at every level ('conv'). None takes 'conv' with the "
        "default of distill (its share may be another), unless the student "
        "inherits neck or head, whose maps are the teacher's; else 'auto'.",
        default=None)
    init_adapters: str | None = setting(
        one_of(*STARTS, 'fitted', None),
        "How these convolutions start. None is the mechanism's choice.",
        default=None)
    inherit: tuple[str, ...] = setting(
        Form('some of ' + ', '.join(map(repr, INHERITABLE)),
             lambda v: set(as_list(v)) <= set(INHERITABLE),
             lambda v: tuple(as_list(v))),
        'The parts of the first teacher that the student starts with.',
        default=())
    fade: dict[str, Any] | None = setting(
        Form('dict(begin=..., end=..., by_epoch=True) or None',
             lambda v: True,
             lambda v: None if v is None else _checked_fade(v)),
        'In each stage, full distillation up to begin (in epochs, fractions '
        'too, or iterations), then linearly less, none from end on.',
        default=None)
    fast_teacher: dict[str, Any] = setting(
        group_of(FastTeacherSettings), 'How teachers run.', default=dict)
    costs: CostSettings = setting(
        group_of(CostSettings), 'How adaptation costs are measured.',
        default=CostSettings)
    unlabelled: UnlabelledSettings | None = setting(
        group_of(UnlabelledSettings),
        'Images without labels, which the student is taught on beside the '
        'labelled ones. None: there are none.', default=None)
    on_nonfinite: str = setting(
        one_of('stop', 'skip'),
        'At a loss or gradient that is not finite: stop the run, or skip the '
        'iteration.', default='stop')


@dataclass(frozen=True, kw_only=True)
class Members:
    """Who takes part in a progression, and in which order."""
    student: dict[str, Any] = setting(
        group_of(StudentSettings), 'The student.')
    teachers: dict[str, Any] = setting(
        Form('dict(NAME=' + group_of(TeacherSettings).words + ', ...)',
             lambda v: isinstance(v, Mapping)), 'The pool, by name.')
    order: Any = setting(
        Form("'bgs' or a list of teacher names; a tuple of names among them "
             'is one stage of several teachers at once',
             lambda v: isinstance(v, str) or _is_stages(v)),
        "The stages, first to last. 'bgs': Backward Greedy Selection finds "
        'them from adaptation costs.', default='bgs')


@dataclass(frozen=True, kw_only=True)
class ProgressionSettings(Options, Members):
    """The keys of ``mtpd``."""
