"""Where a stage is in the whole progression, for log and curves."""
import time
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner


@HOOKS.register_module()
class StageProgressHook(Hook):
    """Logs the stage and the hours that are left of the whole progression.

    mmengine's ``eta`` is what is left of this stage's training. ``hours_left``
    adds its validations, as long as the last one took, and the later stages.

    Args:
        stage: From 1.
        later: How long all later stages will take, in units of this one.
    """

    # After IterTimerHook, which measures, before LoggerHook, which logs.
    priority = 'NORMAL'

    def __init__(self, stage: int, later: float) -> None:
        self.stage = stage
        self.later = later
        self._validation = 0.  # seconds of the last one
        self._began = 0.

    def before_val(self, runner: Runner) -> None:
        self._began = time.monotonic()

    def after_val(self, runner: Runner) -> None:
        self._validation = time.monotonic() - self._began

    def after_train_iter(self, runner: Runner, batch_idx: int,
                         data_batch: Any = None, outputs: Any = None) -> None:
        hub = runner.message_hub
        hub.update_scalar('train/stage', self.stage)
        if 'train/time' in hub.log_scalars:
            hub.update_scalar('train/hours_left', self._seconds_left(
                runner, hub.get_scalar('train/time').mean(100)) / 3600)

    def _seconds_left(self, runner: Runner, per_iteration: float) -> float:
        loop, done = runner.train_loop, runner.iter + 1
        position, end = (done, loop.max_iters) \
            if isinstance(loop, IterBasedTrainLoop) \
            else (runner.epoch, loop.max_epochs)
        each = getattr(loop, 'val_interval', end)
        validations = -(-end // each) if runner.val_loop else 0
        over = position // each if runner.val_loop else 0
        whole = loop.max_iters * per_iteration \
            + validations * self._validation
        return (loop.max_iters - done) * per_iteration \
            + (validations - over) * self._validation + self.later * whole
