"""Settings that name modules mean the student's, as without the distiller."""
import difflib
from operator import attrgetter
from typing import Any

from mmengine.config import Config
from mmengine.model.efficient_conv_bn_eval import \
    turn_on_efficient_conv_bn_eval
from mmengine.runner.activation_checkpointing import \
    turn_on_activation_checkpointing
from torch import nn

from mtpd.distill.optim_constructor import PLAIN

TURN_ON = {'activation_checkpointing': turn_on_activation_checkpointing,
           'efficient_conv_bn_eval': turn_on_efficient_conv_bn_eval}
"""mmengine's settings that list modules -> what its Runner does with them."""


def name_students_modules(cfg: Config) -> None:
    """Let a stage's config name the modules of the student in its distiller.

    ``optim_wrapper`` gets the constructor that shows the user's one the bare
    student; the lists of modules get the student's prefix.

    Args:
        cfg: The stage's config, with the user's names; changed in place.
    """
    cfg.optim_wrapper.student_constructor = cfg.optim_wrapper.get(
        'constructor', PLAIN)
    cfg.optim_wrapper.constructor = 'DistillOptimWrapperConstructor'
    for setting in TURN_ON:
        if cfg.get(setting) is not None:
            cfg[setting] = [f'student.{n}' for n in _names(cfg[setting])]


def unknown_modules(cfg: Config, student: nn.Module) -> list[str]:
    """What the user names and the student has not, one message each.

    Args:
        cfg: The student's own config.
        student: Built from it.
    """
    known = [name for name, _ in student.named_modules() if name]
    problems = []
    for setting in TURN_ON:
        for name in _names(cfg.get(setting)):
            if _has(student, name):
                continue
            near = difflib.get_close_matches(str(name), known, 3)
            problems.append(
                f'{setting} names {name!r}, which is no module of the student '
                f'({type(student).__name__}). '
                + (f'Near are {", ".join(map(repr, near))}.' if near else
                   'It consists of '
                   + ', '.join(n for n, _ in student.named_children()) + '.'))
    return problems


def _has(student: nn.Module, name: Any) -> bool:
    # As mmengine looks: properties such as ResNet's norm1 count.
    try:
        return isinstance(attrgetter(name)(student), nn.Module)
    except (AttributeError, TypeError):
        return False


def turn_on_as_the_runner(model: nn.Module, cfg: Config) -> None:
    """What the Runner does with the lists of modules before it trains.

    Args:
        model: The model of ``cfg``.
        cfg: A stage's config.
    """
    for setting, turn_on in TURN_ON.items():
        if cfg.get(setting) is not None:
            turn_on(model, cfg[setting])


def _names(setting: Any) -> list[Any]:
    return [] if setting is None else \
        list(setting) if isinstance(setting, (list, tuple)) else [setting]
