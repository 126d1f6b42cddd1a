"""mmengine's training loops, able to resume in the middle of an epoch."""
import math
from typing import Any, Iterator, Mapping

from mmengine.dist import get_rank
from mmengine.registry import LOOPS
from mmengine.runner import (BaseLoop, EpochBasedTrainLoop,
                             IterBasedTrainLoop, Runner)

from mtpd.distill.hooks.fade import FadeDistillHook
from mtpd.processes import unwrapped

from .checkpoint_hook import StageCheckpointHook
from .preemption import (HOW_TO_RESUME, Preempted, Stop, agreed_stop,
                         interruptible, stop_is_requested,
                         stops_between_iterations, workers_may_end)
from .seeding import seed_epoch, seed_iteration, seeded_loader
from .unlabelled import UnlabelledStream
from .validations import is_validated


class _ClosedLoader:
    """Stands for a loader while mmengine makes its loop: the loop by
    iterations would open the loader there, and the batches that workers then
    load would be lost."""

    def __init__(self, loader: Any) -> None:
        self.dataset = loader.dataset
        self._batches = len(loader)

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class _StageLoop(BaseLoop):
    """What both loops share: where they begin, what happens between two
    iterations, and which validation is due."""

    _endless: bool

    def __init__(self, runner: Runner, dataloader: Any, *args: Any,
                 stage: int, checkpoint_every: int | None = None,
                 checkpoint_begin: int = 0,
                 unlabelled: Mapping[str, Any] | None = None,
                 **kwargs: Any) -> None:
        loader = runner.build_dataloader(
            dataloader, seed=runner.seed,
            diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False))
        stream = None
        if unlabelled:
            stream = UnlabelledStream(
                unlabelled['dataset'], unlabelled['batch_size'], runner.seed,
                stage)
            unwrapped(runner.model).unlabelled_norm = unlabelled['batch_norm']
        loader = seeded_loader(loader, runner.seed, stage, self._endless,
                               stream)
        super().__init__(runner, _ClosedLoader(loader), *args, **kwargs)
        self.dataloader: Any = loader
        self.dataloader_iterator = None
        self._stage = stage
        self._checkpoint_every = checkpoint_every
        self._checkpoint_begin = checkpoint_begin

    def run(self) -> Any:
        """As mmengine's, from the position of the checkpoint.

        Raises:
            Preempted: A SIGTERM came; all iterations so far are saved.
        """
        with stops_between_iterations():
            return self._run()

    def _batches(self, epoch: int, first: int) -> Iterator[tuple[int, Any]]:
        """(number in the epoch, batch) from batch ``first`` on.

        Between two of them the state of the run is whole, so that it can be
        saved, and the run can be stopped.
        """
        seed_epoch(self.runner.seed, self._stage, epoch)
        self.dataloader.batch_sampler.start_from(
            epoch, first, self._iter, until=min([math.inf, *(
                hook.iterations(len(self.dataloader))
                for hook in self.runner.hooks
                if isinstance(hook, FadeDistillHook))]))
        batches, number = iter(self.dataloader), first
        with workers_may_end():
            while True:
                batch, lost = self._next_batch(batches)
                self._stop_if_requested(number, now=lost)
                if batch is None:
                    return
                if number > first:
                    self._save_if_due(number)
                # After loading, which may have drawn in this process too.
                seed_iteration(self.runner.seed, self._stage, self._iter,
                               get_rank())
                yield number, batch
                number += 1

    @staticmethod
    def _next_batch(batches: Iterator[Any]) -> tuple[Any, bool]:
        """The next batch, None after the last one; and whether it was lost
        because the signal to stop has ended the workers too."""
        try:
            return next(batches, None), False
        except RuntimeError:
            if stop_is_requested(wait=True):
                return None, True
            raise

    def _stop_if_requested(self, batches: int, now: bool = False) -> None:
        """Save and stop, all processes together, if one of them has to."""
        stop = agreed_stop(now)
        # Within a window of accumulated gradients, a few iterations later.
        if stop is Stop.NOW or (stop and self._window_is_closed):
            self._saver.save_now(self.runner, batches)
            self.runner.logger.info(
                f'SIGTERM: stopping after {self._iter} iterations of this '
                f'stage, which are saved. {HOW_TO_RESUME}')
            raise Preempted(agreed=True)

    def _save_if_due(self, batches: int) -> None:
        every = self._checkpoint_every
        if every and self._iter >= self._checkpoint_begin \
                and self._window_is_closed \
                and self._iter // every > self._saver.saved_at // every:
            self._saver.save_now(self.runner, batches)

    @property
    def _window_is_closed(self) -> bool:
        return self._saver.window_is_closed(self.runner)

    @property
    def _saver(self) -> StageCheckpointHook:
        return next(hook for hook in self.runner.hooks
                    if isinstance(hook, StageCheckpointHook))

    def _validate_if_due(self, position: int, end: int) -> None:
        """Validate after ``position`` of ``end`` epochs or iterations if it
        is time to; all of them are saved before."""
        self._decide_current_val_interval()
        due = position >= self.val_begin and (
            position % self.val_interval == 0 or position == end)
        if due and self.runner.val_loop is not None:
            self._saver.save_now(self.runner, 0)
            with interruptible():
                self.runner.val_loop.run()

    def _rerun_validation(self, position: int, end: int) -> None:
        """Rerun the validation before or within which the run was stopped."""
        if self._iter and not is_validated(self.runner.work_dir, self._iter):
            self._validate_if_due(position, end)


@LOOPS.register_module()
class StageEpochLoop(_StageLoop, EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop`` for a stage of a progression.

    Everything random is a function of (seed, stage, iteration, rank) or of
    (seed, stage, epoch, image). A resumed run begins with the batch at which
    it was stopped. At a SIGTERM the iteration is ended, everything is saved,
    and the run stops.

    Args:
        runner: The stage's.
        dataloader: The config of one.
        stage: From 1.
        checkpoint_every: Iterations between two checkpoints within an epoch;
            None for none. Where gradients are accumulated, the next optimizer
            step is waited for.
        checkpoint_begin: Iterations before the first of these.
        unlabelled: ``dataset`` and ``batch_size`` of images without labels,
            see :class:`UnlabelledStream`, and ``batch_norm``, see
            :class:`FeatureDistiller`; None for none.
    """

    _endless = False

    def _run(self) -> Any:
        self.runner.call_hook('before_train')
        self._first = self._saver.batches_done(self.dataloader)
        if self._first == 0:
            self._rerun_validation(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._save_if_due(0)
            self._stop_if_requested(0)
            self._validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """As mmengine's, from the first batch that is not done."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first, self._first = self._first, 0
        for number, batch in self._batches(self._epoch, first):
            self.run_iter(number, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class StageIterLoop(_StageLoop, IterBasedTrainLoop):
    """mmengine's ``IterBasedTrainLoop`` for a stage, as
    :class:`StageEpochLoop` is; its epochs are the sampler's passes."""

    _endless = True

    def _run(self) -> Any:
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self._saver.batches_done(self.dataloader)
        self._rerun_validation(self._iter, self._max_iters)
        batches = self._batches(0, self._iter)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches)[1])
            self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model
