"""The student's optimizer settings, and a group for the trained parts."""
from typing import Any, Mapping

from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mtpd.processes import unwrapped

PLAIN = 'DefaultOptimWrapperConstructor'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DistillOptimWrapperConstructor:
    """Optimises the student as plain mmdet does, and the training parts.

    The user's constructor and ``paramwise_cfg`` see the bare student, so names
    begin with ``backbone.``, as they do without the distiller, and each
    parameter of the student has exactly plain mmdet's group. Adapters and
    mechanism follow as the last group, with the optimizer's own learning rate,
    weight decay and so on. The first group, whose learning rate mmengine logs,
    is the student's.

    Args:
        optim_wrapper_cfg: The ``optim_wrapper`` part of a config without
            ``constructor`` and ``paramwise_cfg``; its ``student_constructor``
            names the user's constructor.
        paramwise_cfg: The user's, given to it.
    """

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any],
                 paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        self.cfg = dict(optim_wrapper_cfg, paramwise_cfg=paramwise_cfg)
        self.cfg['constructor'] = self.cfg.pop('student_constructor', PLAIN)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The optimizer of a distiller, or of one in DDP's wrapper."""
        distiller = unwrapped(model)
        wrapper = build_optim_wrapper(distiller.student, self.cfg)
        parts = list(distiller.training_parts().named_parameters())
        if parts:
            # torch wants names in all groups or in none, and mmdet's
            # LearningRateDecayOptimizerConstructor writes them.
            named = 'param_names' in wrapper.optimizer.param_groups[0]
            wrapper.optimizer.add_param_group(
                dict(params=parts if named else [p for _, p in parts]))
        return wrapper
