"""What happens when numbers explode."""
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import (all_gather_object, all_reduce, get_comm_device,
                           get_world_size)
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from ..branch import NotFinite

_CURE = ('Lower the learning rate or mtpd.distill.loss_weight, or clip '
         'gradients (optim_wrapper.clip_grad).')


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Lets no gradient that is not finite reach the weights.

    It looks just before the optimizer's step, at gradients that all processes
    share; so all of them stop or skip together. Where the distiller has found
    a loss or a map that is not finite, the message is its.

    In fp16 mixed precision a gradient that overflows is nothing special:
    mmengine's scaler skips the step and lowers its scale. Below a scale of 1
    it is the gradients themselves that are not finite.

    Args:
        action: 'stop' raises :class:`NotFinite`. 'skip' leaves the iteration
            out, with the statistics that its forward pass has changed, and
            logs how many were left out so far as ``skipped``.
    """

    # Before RuntimeInfoHook, which would log what is left out.
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
                lambda optimizer, *_: self._look(runner, optimizer))

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: Any = None) -> None:
        if self.action == 'skip':
            # Not the automatic weight's, which has looked at what all
            # processes share.
            self._buffers = [(buffer, buffer.clone()) for buffer in
                             _distiller(runner).student.buffers()]

    def after_train_iter(self, runner: Runner, batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        found = _distiller(runner).found_not_finite
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        # It does not call the optimizer, and so not us, where it skips.
        if scaler is not None and scaler.is_enabled() and (
                _any_process(found is not None) or scaler.get_scale() < 1):
            self._act(runner, found, 'gradients are not finite even '
                      f'without a loss scale. {_CURE}')
        # Also where gradients are accumulated and the step is still to come.
        if found or self._skipping:
            for buffer, before in self._buffers:
                buffer.copy_(before)
            if outputs is not None:
                outputs.clear()
        self._skipping = False

    def _look(self, runner: Runner, optimizer: torch.optim.Optimizer) -> None:
        parameters = [p for group in optimizer.param_groups
                      for p in group['params'] if p.grad is not None]
        largest = torch.nn.utils.get_total_norm(
            [p.grad for p in parameters], torch.inf)
        found = _distiller(runner).found_not_finite
        if found is not None or not largest.isfinite():
            self._act(runner, found, self._named(runner))
            for parameter in parameters:
                parameter.grad = None  # nothing to step by, nor to decay

    def _act(self, runner: Runner, found: str | None, else_: str) -> None:
        # Of those that say it, the first process that has found where.
        said = [what for what in all_gather_object(found) if what]
        what = said[0] if said else else_
        if self.action == 'stop':
            raise NotFinite(what)
        _distiller(runner).found_not_finite = None
        self._skipping = True
        self.skipped += 1
        runner.message_hub.update_info('skipped', self.skipped)
        runner.message_hub.update_scalar('train/skipped', self.skipped)
        runner.logger.warning(
            f'Iteration {runner.iter + 1} is skipped, {self.skipped} so far: '
            f'{what}')

    @staticmethod
    def _named(runner: Runner) -> str:
        wrong = [name for name, parameter in _distiller(
            runner).named_parameters() if parameter.grad is not None
            and not parameter.grad.isfinite().all()]
        others = f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''
        return ('all losses of this process are finite, but not the gradient '
                f'of {wrong[0] if wrong else "a parameter"}{others}. {_CURE}')


def _any_process(here: bool) -> bool:
    if get_world_size() == 1:
        return here
    flag = torch.tensor(int(here), device=get_comm_device())
    all_reduce(flag, 'max')
    return bool(flag)


def _distiller(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) \
        else runner.model
