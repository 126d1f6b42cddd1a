"""Settings that name modules mean the student's, also in the distiller."""
import difflib
from operator import attrgetter
from typing import Any, Mapping

from mmengine.config import Config
from mmengine.model.efficient_conv_bn_eval import \
    turn_on_efficient_conv_bn_eval
from mmengine.runner.activation_checkpointing import \
    turn_on_activation_checkpointing
from torch import nn

from mtpd.distill.auto_weight import split_auto
from mtpd.distill.optim_constructor import PLAIN

from .settings import as_list

TURN_ON = {'activation_checkpointing': turn_on_activation_checkpointing,
           'efficient_conv_bn_eval': turn_on_efficient_conv_bn_eval}
"""mmengine's settings that list modules -> what its Runner does with them."""


def name_students_modules(cfg: Config) -> None:
    """Let a stage's config name the modules of the student in its distiller.

    ``optim_wrapper`` gets the constructor that gives the bare student to the
    user's constructor; lists of modules get the student's prefix.

    Args:
        cfg: The stage's config, with the user's names; changed in place.
    """
    cfg.optim_wrapper.student_constructor = cfg.optim_wrapper.get(
        'constructor', PLAIN)
    cfg.optim_wrapper.constructor = 'DistillOptimWrapperConstructor'
    for setting in TURN_ON:
        if cfg.get(setting) is not None:
            cfg[setting] = [f'student.{n}' for n in as_list(cfg[setting])]


def unknown_modules(cfg: Config, student: nn.Module) -> list[str]:
    """Modules that the config names and the student lacks, one message each.

    Args:
        cfg: The student's own config.
        student: Built from it.
    """
    known = [name for name, _ in student.named_modules() if name]
    problems = []
    for setting in TURN_ON:
        for name in as_list(cfg.get(setting)):
            if _has(student, name):
                continue
            close = difflib.get_close_matches(str(name), known, 3)
            children = [child for child, _ in student.named_children()]
            hint = f'Similar names are {", ".join(map(repr, close))}.' \
                if close else f'It consists of {", ".join(children)}.'
            problems.append(
                f'{setting} names {name!r}, which is no module of the student '
                f'({type(student).__name__}). {hint}')
    return problems


def checkpointed_heads(cfg: Config, distill: Mapping[str, Any]) -> list[str]:
    """That a head is computed again in the backward pass while an automatic
    weight looks at its gradients, which torch refuses.

    Args:
        cfg: The student's own config.
        distill: ``mtpd.distill``.
    """
    names = [name for name in as_list(cfg.get('activation_checkpointing'))
             if str(name).split('.')[0] not in ('backbone', 'neck')]
    if not names or split_auto(distill)[1] is None:
        return []
    return [f'activation_checkpointing names {", ".join(map(repr, names))}, '
            "and loss_weight='auto' compares gradients that come through the "
            'head, which PyTorch cannot give there. Name modules of the '
            'backbone or neck alone, or set a number as '
            'mtpd.distill.loss_weight.']


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
