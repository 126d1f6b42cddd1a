"""What a setting has to be, and reading a group of them from a config."""
import math
from dataclasses import MISSING, Field, field, fields
from typing import Any, Callable, Mapping, NamedTuple

from mtpd.plan.errors import (did_you_mean, suggest_group,
                              suggest_value)


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
    if where.endswith('._delete_'):  # in place of a teacher
        return {}, [left_delete(where)]
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
        elif key == '_delete_':
            problems.append(left_delete(field_name))
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


def left_delete(field_name: str) -> str:
    """That ``_delete_`` has stayed in a dict of a config, and what to do.

    Args:
        field_name: Where it stands.
    """
    where = field_name.removesuffix('._delete_')
    return (f'{field_name}: mmengine takes _delete_ out only where a config '
            'inherits by _base_; with update() it stays. Take it out, and '
            f'assign the whole dict: {where} = dict(...).')


def _read_value(entry: Field, value: Any, where: str
                ) -> tuple[Any, list[str]]:
    form: Form = entry.metadata['form']
    if form.group is not None:
        if value is None and entry.default is None:
            return None, []
        if value is None and entry.default_factory is not MISSING:
            return entry.default_factory(), []
        values, problems = read_settings(form.group, value, where)
        keeps_dict = entry.default_factory is dict or \
            entry.default is entry.default_factory  # both missing: required
        return (values if keeps_dict or problems
                else form.group(**values)), problems
    problem = f'{where} is {value!r}; it has to be {form.words}'
    try:
        if not form.check(value):
            return None, [problem + suggest_value(value, form)]
        return form.convert(value), []
    except (TypeError, ValueError, OverflowError) as error:
        return None, [f'{problem} ({error}).']
