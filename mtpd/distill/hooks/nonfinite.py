"""Losses, maps and gradients that are not finite: find, stop or skip."""
from typing import Any, Mapping, Sequence

import torch
from mmdet.registry import HOOKS
from mmengine.dist import (all_gather_object, all_reduce, get_comm_device,
                           get_world_size)
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mtpd.processes import unwrapped

from ..branch import ImageGroup, NotFinite
from ..pyramid import Features

_CURE = ('Lower the learning rate or mtpd.distill.loss_weight, or clip '
         'gradients (optim_wrapper.clip_grad).')


def check_finite(distiller: Any, total: Tensor, losses: dict[str, Any],
                 groups: Sequence[ImageGroup] = (),
                 targets: Sequence[Sequence[Features]] = ()
                 ) -> dict[str, Any]:
    """A step's losses, if their sum is finite.

    Otherwise a lone process that stops raises here. With ``'skip'``, or among
    several processes, the finding waits in ``distiller.found_not_finite`` for
    :class:`NonFiniteHook`, and a loss of nan is added, through which the other
    processes learn of it: all share one gradient.

    Args:
        distiller: The :class:`FeatureDistiller` of the step.
        total: The sum of the losses, a scalar.
        losses: By name.
        groups: The images, if a teacher has taken part.
        targets: Of each teacher that has taken part, its maps of each group.

    Raises:
        NotFinite: A loss or a map is not finite, and this process may stop by
            itself.
    """
    # The device is waited for only here, once in a step.
    if bool(total.detach().isfinite()):
        return losses
    problem = _describe_not_finite(distiller, losses, groups, targets)
    if distiller.on_nonfinite == 'stop' and get_world_size() == 1:
        raise NotFinite(problem)
    distiller.found_not_finite = problem
    trained = next(p for p in distiller.parameters() if p.requires_grad)
    return {**losses, 'loss_not_finite': trained.sum() * torch.nan}


def _describe_not_finite(distiller: Any, losses: Mapping[str, Any],
                         groups: Sequence[ImageGroup],
                         targets: Sequence[Sequence[Features]]) -> str:
    for branch, of_groups in zip(distiller.guidances, targets, strict=False):
        for group, target in zip(groups, of_groups, strict=True):
            problem = branch.not_finite(group.maps, target)
            if problem:
                return problem
    names = []
    for name, value in losses.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        if 'loss' in name and not torch.stack(list(values)).isfinite().all():
            names.append(name)
    subject = ', '.join(names) or 'the sum of all losses'
    although = ', although all maps are' if groups else ''
    return f'{subject} is not finite{although}. {_CURE}'


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Keeps gradients that are not finite away from the weights.

    It checks the gradients just before the optimizer's step. All processes
    share these, so all of them stop or skip together. Where
    :func:`check_finite` has found a loss or a map that is not finite, the
    message names that.

    In fp16 mixed precision an overflowing gradient is normal: mmengine's
    scaler skips the step and lowers its scale. With a scale below 1 the
    gradients themselves are not finite.

    Args:
        action: 'stop' raises :class:`NotFinite`. 'skip' leaves the iteration
            out, undoes the statistics that its forward pass has changed, and
            logs the number of skipped iterations as ``skipped``.
    """

    # Before RuntimeInfoHook, which would log a skipped iteration.
    priority = 'HIGHEST'

    def __init__(self, action: str) -> None:
        self.action = action
        self.skipped = 0
        self._skipping = False
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        self.skipped = runner.message_hub.runtime_info.get('skipped', 0)
        wrapper = runner.optim_wrapper
        for one in [wrapper] if isinstance(wrapper, OptimWrapper) \
                else wrapper.values():
            one.optimizer.register_step_pre_hook(
                lambda optimizer, *_: self._check(runner, optimizer))

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: Any = None) -> None:
        if self.action == 'skip':
            # Not the automatic weight's: it uses values that all processes
            # share.
            self._buffers = [(buffer, buffer.clone()) for buffer in
                             unwrapped(runner.model).student.buffers()]

    def after_train_iter(self, runner: Runner, batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        problem = unwrapped(runner.model).found_not_finite
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        # A scaler that skips does not call the optimizer, so _check not
        # either.
        if scaler is not None and scaler.is_enabled() and (
                _any_process(problem is not None) or scaler.get_scale() < 1):
            self._act(runner, problem, 'gradients are not finite even '
                      f'without a loss scale. {_CURE}')
        # Also where gradients are accumulated and the step comes later.
        if problem or self._skipping:
            for buffer, before in self._buffers:
                buffer.copy_(before)
            if outputs is not None:
                outputs.clear()
        self._skipping = False

    def _check(self, runner: Runner,
               optimizer: torch.optim.Optimizer) -> None:
        parameters = [p for group in optimizer.param_groups
                      for p in group['params'] if p.grad is not None]
        largest = torch.nn.utils.get_total_norm(
            [p.grad for p in parameters], torch.inf)
        problem = unwrapped(runner.model).found_not_finite
        if problem is not None or not largest.isfinite():
            self._act(runner, problem, self._describe_gradients(runner))
            for parameter in parameters:
                parameter.grad = None  # so no step and no weight decay

    def _act(self, runner: Runner, problem: str | None,
             default: str) -> None:
        # The finding of the first process that has one.
        problem = next(filter(None, all_gather_object(problem)), default)
        if self.action == 'stop':
            raise NotFinite(problem)
        unwrapped(runner.model).found_not_finite = None
        self._skipping = True
        self.skipped += 1
        runner.message_hub.update_info('skipped', self.skipped)
        runner.message_hub.update_scalar('train/skipped', self.skipped)
        runner.logger.warning(
            f'Iteration {runner.iter + 1} is skipped, {self.skipped} so far: '
            f'{problem}')

    @staticmethod
    def _describe_gradients(runner: Runner) -> str:
        names = []
        for name, parameter in unwrapped(runner.model).named_parameters():
            gradient = parameter.grad
            if gradient is not None and not gradient.isfinite().all():
                names.append(name)
        first = names[0] if names else 'a parameter'
        others = f' and {len(names) - 1} more' if len(names) > 1 else ''
        return ('all losses of this process are finite, but not the gradient '
                f'of {first}{others}. {_CURE}')


def _any_process(condition: bool) -> bool:
    if get_world_size() == 1:
        return condition
    flag = torch.tensor(int(condition), device=get_comm_device())
    all_reduce(flag, 'max')
    return bool(flag)
