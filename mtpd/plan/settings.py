"""Every setting of ``mtpd``: its default, check and description, in one place.

A new setting is a field here and a use where it acts. The plan, the messages
about wrong values, "did you mean" and docs/reference.md are made from these
fields.
"""
import math
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from fractions import Fraction
from typing import Any, Callable, Mapping, NamedTuple

from mtpd.distill.adapters import ADAPTERS, STARTS
from mtpd.distill.hooks.fade import FadeDistillHook
from mtpd.distill.inherit import INHERITABLE
from mtpd.distill.losses.mechanism import RECOMMENDED, mechanism_config
from mtpd.distill.teacher_view.scale import as_fraction
from mtpd.statistics import TWO_ERRORS

from .errors import (did_you_mean, suggest_group, suggest_value,
                     try_keywords)


class Form(NamedTuple):
    """What the value of a setting has to be.

    Attributes:
        words: Completes "it has to be ...".
        check: Whether a value has this form.
        convert: From the value in the config to the value in the plan. May
            raise TypeError or ValueError with what is wrong.
        group: The settings that the value consists of; None for one value.
    """
    words: str
    check: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value
    group: type | None = None


def setting(form: Form, sentence: str, default: Any = MISSING) -> Any:
    """A field of a group of settings.

    Args:
        form: What the value has to be.
        sentence: What the setting does, for docs/reference.md.
        default: The value in the plan where the config has none; without a
            default the setting is required.
    """
    metadata = {'form': form, 'sentence': sentence}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def is_positive_int(value: Any) -> bool:
    """Whether a value is an integer of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) \
        and value >= 1


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) \
        and math.isfinite(value)


def as_list(value: Any) -> list:
    """A list, a tuple's entries, one value as a list, or nothing for None."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def one_of(*choices: Any) -> Form:
    """One of a few values, such as ``'last' or 'best'``."""
    words = list(map(repr, choices))
    return Form(' or '.join([', '.join(words[:-1]), words[-1]]),
                lambda value: value in choices)


def optional(words: str, check: Callable[[Any], bool]) -> Form:
    """A value of this form, or None, which ``words`` explain."""
    return Form(words, lambda value: value is None or check(value))


def group_of(kind: type) -> Form:
    """A dict of the settings of ``kind``."""
    keys = ', '.join(map('{}=...'.format, settings_of(kind)))
    return Form(f'dict({keys})', lambda value: isinstance(value, Mapping),
                group=kind)


def settings_of(kind: type) -> dict[str, Field]:
    """Name -> field of a group of settings."""
    return {entry.name: entry for entry in fields(kind)}


def _is_scale(value: Any) -> bool:
    try:
        return as_fraction(value) > 0
    except ValueError:
        return False


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_strides(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) \
        and all(map(is_positive_int, value))


def _is_stages(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(name, str) for stage in value
        for name in (stage if isinstance(stage, (list, tuple)) else [stage]))


def _checked_fade(value: Any) -> dict[str, Any]:
    try_keywords(FadeDistillHook, value)
    return dict(value)


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """``mtpd.student``."""
    checkpoint: str | None = setting(
        optional('a file or URL of the trained student, or None for its own '
                 'initialisation', _is_path),
        'The weights that the progression starts from.')


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """``mtpd.teachers.NAME``."""
    config: str = setting(
        Form("a config file, or mmdet::family/name.py for one of mmdet's own",
             _is_path), "The teacher's whole mmdet config.")
    checkpoint: str = setting(
        Form('a file or URL of trained weights', _is_path),
        'Its weights, loaded strictly.')
    ap: float | None = setting(
        optional('box AP in percent, from 0 to 100, or None to have it '
                 'measured', lambda v: is_number(v) and 0 <= v <= 100),
        "Its box AP on the student's validation set. Declare it for all "
        'teachers or for none.', default=None)
    scale: Fraction = setting(
        Form("a number above 0, such as 2, 0.75 or '4/3'", _is_scale,
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
        one_of('train', 'val'),
        'The data set that the images are from. The paper takes the '
        'validation set.', default='train')
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
    adapter: str = setting(
        one_of(*ADAPTERS),
        "Where adapters have a 1x1 convolution: where channels differ "
        "('auto'), or at every level ('conv').", default='auto')
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


RETIRED = {
    'mtpd.checkpoint_every':
        "Set mmdet's own default_hooks.checkpoint=dict(type='CheckpointHook', "
        'interval=..., by_epoch=False): the stage saves after this many '
        'iterations, beside whole epochs.',
    'mtpd.costs.precision':
        'Leave it out: products are taken in float32 and summed in float64.',
    'mtpd.costs.stride4_share':
        'Leave it out: a quarter of the positions at strides up to 4 is '
        'taken.',
    **dict.fromkeys(
        ('mtpd.costs.estimator', 'mtpd.costs.epochs', 'mtpd.costs.lr'),
        'Leave it out: costs are solved exactly. Gradient descent as in the '
        'paper is mtpd.order.gradient_descent_costs '
        '(benchmarks/adaptation_cost.py).')}
"""Settings of earlier versions -> what to do instead."""


def read_settings(kind: type, given: Any, where: str
                  ) -> tuple[dict[str, Any], list[str]]:
    """The values of a group of settings, and everything wrong with it.

    Args:
        kind: The dataclass of the group.
        given: What the config has.
        where: The field of the config, such as ``mtpd.costs``.

    Returns:
        Name -> value, for the settings that are given and right; and one
        message for each problem.
    """
    if not isinstance(given, Mapping):
        return {}, [f'{where} is {given!r}; it has to be '
                    f'{group_of(kind).words}{suggest_group(given, kind)}']
    known = settings_of(kind)
    problems = []
    for key in given:
        field_name = f'{where}.{key}'
        if field_name in RETIRED:
            problems.append(f'{field_name} is no longer a setting. '
                            f'{RETIRED[field_name]}')
        elif key not in known:
            problems.append(f'{field_name} is not known' + did_you_mean(
                key, known, prefix=f'{where}.'))
    values = {}
    for name, entry in known.items():
        if name not in given:
            if entry.default is MISSING and entry.default_factory is MISSING:
                problems.append(f'{where}.{name} is not set. Set '
                                f'{entry.metadata["form"].words}.')
            continue
        value, wrong = _read_value(entry, given[name], f'{where}.{name}')
        problems += wrong
        if not wrong:
            values[name] = value
    return values, problems


def _read_value(entry: Field, value: Any, where: str
                ) -> tuple[Any, list[str]]:
    form: Form = entry.metadata['form']
    if form.group is not None:
        if value is None and entry.default_factory is not MISSING:
            return entry.default_factory(), []
        values, problems = read_settings(form.group, value, where)
        keeps_dict = entry.default_factory in (dict, MISSING)
        return (values if keeps_dict or problems
                else form.group(**values)), problems
    problem = f'{where} is {value!r}; it has to be {form.words}'
    try:
        if not form.check(value):
            return None, [problem + suggest_value(value, form)]
        return form.convert(value), []
    except (TypeError, ValueError, OverflowError) as error:
        return None, [f'{problem} ({error}).']
