"""Distillation that ends before its stage."""
import math
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mtpd.processes import unwrapped


@HOOKS.register_module()
class FadeDistillHook(Hook):
    """Full distillation up to ``begin``, then linearly less until ``end``.

    From ``end`` on neither teacher nor mechanism runs. The strength depends
    only on the present epoch or iteration, so a resumed run has the same.

    Args:
        begin: Epoch or iteration from which the strength falls linearly.
        end: Epoch or iteration from which it is 0; equal to ``begin`` for an
            abrupt stop.
        by_epoch: Whether they are epochs, fractions included, or iterations.

    Raises:
        ValueError: ``end`` before ``begin`` or infinite, or ``begin`` below
            0.
    """

    def __init__(self, begin: float, end: float,
                 by_epoch: bool = True) -> None:
        if not 0 <= begin <= end < math.inf:
            raise ValueError(f'mtpd.fade begins at {begin} and ends at {end}; '
                             'it needs 0 <= begin <= end, and a finite end.')
        self.begin = begin
        self.end = end
        self.by_epoch = by_epoch

    def strength(self, position: float) -> float:
        """From 1 before ``begin`` to 0 at ``end``."""
        if position >= self.end:
            return 0.
        if position <= self.begin:
            return 1.
        return (self.end - position) / (self.end - self.begin)

    def iterations(self, per_epoch: int) -> int:
        """Iterations of a stage in which anything is distilled.

        Args:
            per_epoch: Iterations of an epoch.
        """
        return math.ceil(self.end * (per_epoch if self.by_epoch else 1))

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: Any = None) -> None:
        position = runner.iter
        if self.by_epoch:
            position = runner.epoch + batch_idx / len(runner.train_dataloader)
        unwrapped(runner.model).set_strength(self.strength(position))
