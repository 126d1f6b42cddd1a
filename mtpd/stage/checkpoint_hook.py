"""When a stage's checkpoints are written, with what they need to resume."""
import os
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import (all_reduce_params, get_world_size,
                           is_main_process)
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mtpd.compat.atomic_files import remove_partial_files
from mtpd.plan.errors import PlanError
from mtpd.processes import unwrapped

from .resume import position, saved_checkpoints

_PASS = 'batches', 'batch_size', 'processes', 'images'
"""What a pass through the images consists of, in a checkpoint's meta."""


@HOOKS.register_module()
class StageCheckpointHook(CheckpointHook):
    """mmengine's hook, which also saves where no checkpoint is due.

    Beside ``epoch_E.pth``, after E epochs, it writes ``epoch_E_batch_B.pth``,
    after B batches more (``iter_N.pth`` where iterations are counted). These
    are kept while they are among the newest two checkpoints. After a
    validation, the checkpoint before it is written again with what the
    validation has changed (best score, a plateau's counter). All arguments
    are :class:`CheckpointHook`'s.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._saved_at = -1
        # By this process, and the one it resumed: file name -> its meta.
        self._written: dict[str, dict[str, Any]] = {}

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        # A checkpoint names its run's best one by a path. Of a folder that was
        # copied, mmengine would remove the original's.
        own: dict[str, Any] = self.__dict__
        if own.get('best_ckpt_path'):
            own['best_ckpt_path'] = self._here(own['best_ckpt_path'])
        several = own.get('best_ckpt_path_dict', {})
        for key in filter(several.get, several):
            several[key] = self._here(several[key])
        if is_main_process():
            remove_partial_files(self.out_dir)

    def after_load_checkpoint(self, runner: Runner,
                              checkpoint: dict[str, Any]) -> None:
        if not runner._resume:
            return
        keys = {'epoch', 'iter', 'batch', *_PASS} & set(checkpoint['meta'])
        meta = {key: checkpoint['meta'][key] for key in sorted(keys)}
        self._saved_at = meta['iter']
        self._written[os.path.basename(runner._load_from or '')] = meta
        for name, gradient in checkpoint.get('gradients', {}).items():
            parameter = _parameters(runner)[name]
            parameter.grad = gradient.to(parameter.device, copy=True)

    def before_save_checkpoint(self, runner: Runner,
                               checkpoint: dict[str, Any]) -> None:
        if not self.window_is_closed(runner):
            checkpoint['gradients'] = {
                name: parameter.grad.cpu()
                for name, parameter in _parameters(runner).items()
                if parameter.grad is not None}

    def after_val_epoch(self, runner: Runner,
                        metrics: dict[str, float] | None = None) -> None:
        self.last_ckpt = None  # or mmengine would write it again, too
        super().after_val_epoch(runner, metrics)
        for name, meta in self._written.items():
            if meta['iter'] == runner.iter and position(name)[0] >= 0:
                self._save(runner, name, meta)

    @property
    def saved_at(self) -> int:
        """The iteration of the last checkpoint, 0 before the first."""
        return max(self._saved_at, 0)

    def batches_done(self, loader: DataLoader) -> int:
        """Number of batches of the present pass through the images that are
        done already.

        Args:
            loader: Of the training images.

        Raises:
            PlanError: A pass of the run that is resumed had other batches.
        """
        meta = next(iter(self._written.values()), {})
        done = meta.get('batch', 0) if self.by_epoch \
            else meta.get('iter', 0) % meta.get('batches', 1)
        now = pass_of(loader)
        recorded = {key: meta.get(key, value) for key, value in now.items()}
        if done and recorded != now:
            files = 'epoch_*_batch_*.pth' if self.by_epoch else 'iter_*.pth'
            raise PlanError([
                f'The checkpoint to resume was saved after batch {done} of a '
                f'pass through the images, with {_in_words(recorded)}; here '
                f'it has {_in_words(now)}. Resume with the same number of '
                'processes, train_dataloader.batch_size and data set; with '
                f'others, remove the newer {files}, to resume from the end of '
                'a pass.'])
        return done

    def save_now(self, runner: Runner, batch: int) -> None:
        """Save between two iterations, unless this position is saved.

        Args:
            runner: The stage's.
            batch: Number of batches of the present epoch that are done; not
                used where checkpoints are counted by iterations.
        """
        if self._saved_at == runner.iter:
            return
        name = f'epoch_{runner.epoch}_batch_{batch}.pth' if self.by_epoch \
            else f'iter_{runner.iter}.pth'
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        if self.by_epoch:
            meta.update(batch=batch)
        meta.update(pass_of(runner.train_dataloader))
        runner.logger.info(f'Saving checkpoint {name}')
        self._share_open_gradients(runner)
        self._save(runner, name, meta)
        self._note(name, meta)

    def _here(self, path: str) -> str:
        return os.path.join(self.out_dir, os.path.basename(path))

    @staticmethod
    def window_is_closed(runner: Runner) -> bool:
        """Whether no accumulated gradient waits for further iterations."""
        wrapper = runner.optim_wrapper
        return not hasattr(wrapper, 'should_update') or wrapper.should_update()

    def _save_checkpoint_with_step(self, runner: Runner, step: int,
                                   meta: dict[str, Any]) -> None:
        self._share_open_gradients(runner)
        meta = {**meta, **pass_of(runner.train_dataloader)}
        super()._save_checkpoint_with_step(runner, step, dict(meta))
        self._note(self.filename_tmpl.format(step), meta)

    def _save(self, runner: Runner, name: str, meta: dict[str, Any]) -> None:
        runner.save_checkpoint(
            self.out_dir, name, save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler, by_epoch=False,
            meta=dict(meta), backend_args=self.backend_args)

    def _share_open_gradients(self, runner: Runner) -> None:
        """Average unfinished gradients over processes, as their step would;
        then one file can hold what each process has."""
        if not self.window_is_closed(runner):
            all_reduce_params([p.grad for p in _parameters(runner).values()
                               if p.grad is not None], op='mean')

    def _note(self, name: str, meta: dict[str, Any]) -> None:
        """Remember a written checkpoint, and remove those that are older than
        the one before it and not due by ``interval``."""
        self._saved_at = meta['iter']
        earlier = [other for other in self._written if other != name]
        self._written = {other: self._written[other] for other in earlier[-1:]}
        self._written[name] = dict(meta)
        if not earlier or not is_main_process():
            return
        oldest = min(map(position, self._written))
        for path in saved_checkpoints(self.out_dir):
            if position(path) < oldest and not self._is_due(path):
                os.remove(path)

    def _is_due(self, path: str) -> bool:
        """Whether ``interval`` asks for a checkpoint."""
        if self.by_epoch:
            return '_batch_' not in path
        return self.interval > 0 and position(path)[2] % self.interval == 0


def pass_of(loader: DataLoader) -> dict[str, Any]:
    """What a pass through the images consists of.

    Args:
        loader: Of the training images, see :func:`seeded_loader`.
    """
    batches: Any = loader.batch_sampler
    images: Any = loader.dataset
    return dict(zip(_PASS, (len(loader), batches.batch_size,
                            get_world_size(), len(images)), strict=True))


def _in_words(values: dict[str, Any]) -> str:
    return ', '.join(f'{key}={value}' for key, value in values.items())


def _parameters(runner: Runner) -> dict[str, torch.nn.Parameter]:
    return dict(unwrapped(runner.model).named_parameters())
