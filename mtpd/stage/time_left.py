"""The present stage and the hours left, for log and curves."""
import time
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner


@HOOKS.register_module()
class StageProgressHook(Hook):
    """Logs the stage and the hours that are left of the whole progression.

    mmengine's ``eta`` is what is left of this stage's training. ``hours_left``
    adds its validations, each as long as the last one took, and the later
    stages.

    Args:
        stage: From 1.
        later: How long all later stages will take, in units of this one.
    """

    # After IterTimerHook, which measures, before LoggerHook, which logs.
    priority = 'NORMAL'

    def __init__(self, stage: int, later: float) -> None:
        self.stage = stage
        self.later = later
        self._validation_seconds = 0.  # of the last one
        self._validation_began = 0.

    def before_val(self, runner: Runner) -> None:
        self._validation_began = time.monotonic()

    def after_val(self, runner: Runner) -> None:
        self._validation_seconds = time.monotonic() - self._validation_began

    def after_train_iter(self, runner: Runner, batch_idx: int,
                         data_batch: Any = None, outputs: Any = None) -> None:
        hub = runner.message_hub
        hub.update_scalar('train/stage', self.stage)
        if 'train/time' in hub.log_scalars:
            per_iteration = hub.get_scalar('train/time').mean(100)
            seconds = self._seconds_left(runner, per_iteration)
            hub.update_scalar('train/hours_left', seconds / 3600)

    def _seconds_left(self, runner: Runner, per_iteration: float) -> float:
        loop, iterations = runner.train_loop, runner.iter + 1
        if isinstance(loop, IterBasedTrainLoop):
            position, end = iterations, loop.max_iters
        else:
            position, end = runner.epoch, loop.max_epochs
        interval = getattr(loop, 'val_interval', end)
        validations, validated = 0, 0
        if runner.val_loop:
            validations, validated = -(-end // interval), position // interval
        whole_stage = loop.max_iters * per_iteration \
            + validations * self._validation_seconds
        return (loop.max_iters - iterations) * per_iteration \
            + (validations - validated) * self._validation_seconds \
            + self.later * whole_stage
