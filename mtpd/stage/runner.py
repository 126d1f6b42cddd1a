"""The Runner of a stage, and one run of it."""
import gc
import logging
import os
from typing import Any, Mapping

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

from mtpd.distill.branch import NotFinite
from mtpd.plan.errors import PlanError
from mtpd.processes import on_main

from .resume import newest_finite_checkpoint


class _FormattedConfig(Config):
    """A config whose text is formatted once; it must not change afterwards."""

    @classmethod
    def of(cls, cfg: Config) -> '_FormattedConfig':
        formatted = cls.__new__(cls)
        formatted.__dict__.update(cfg.__dict__, formatted=cfg.pretty_text)
        return formatted

    @property
    def pretty_text(self) -> str:
        return self.__dict__['formatted']


class StageRunner(Runner):
    """A Runner that keeps messages of several lines off the console.

    mmengine logs environment, config and hooks at every start, some 500 lines
    each. With a Runner per stage they would hide the rest; the log file has
    them. mmengine also formats the config's text for every checkpoint, which
    takes a second or more; here it is formatted once.

    Attributes:
        teachers: Name -> built teacher, for the distiller.
    """

    cfg: Config
    teachers: Mapping[str, BaseDetector] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cfg = _FormattedConfig.of(self.cfg)

    @classmethod
    def with_teachers(cls, teachers: Mapping[str, BaseDetector]
                      ) -> type['StageRunner']:
        """This class with ``teachers``; ``from_cfg`` takes a config alone."""
        return type(cls.__name__, (cls,), {'teachers': teachers})

    def build_model(self, model: Any) -> nn.Module:
        if isinstance(model, Mapping) and \
                model.get('type') == 'FeatureDistiller':
            return MODELS.build(model,
                                default_args=dict(built=self.teachers))
        return super().build_model(model)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(
                    lambda record: record.levelno > logging.INFO
                    or '\n' not in record.getMessage())
        return logger


def run_stage(cfg: Config,
              teachers: Mapping[str, BaseDetector] | None = None) -> None:
    """One mmengine run; its Runner is freed when this returns.

    Args:
        cfg: A stage's config, or any mmdet config.
        teachers: Name -> built teacher; those that are missing are built from
            the config. They are on the CPU when this returns.

    Raises:
        PlanError: Nothing was trained.
        NotFinite: A loss or gradient is not finite; the message names the
            newest checkpoint whose weights are.
    """
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg \
        else StageRunner.with_teachers(teachers or {}).from_cfg(cfg)
    try:
        runner.train()
        if runner.iter == 0:
            raise PlanError([nothing_trained(cfg)])
    except NotFinite as error:
        newest = on_main(lambda: newest_finite_checkpoint(cfg.work_dir))
        raise NotFinite(
            f'{os.path.basename(os.path.normpath(cfg.work_dir))}, iteration '
            f'{runner.iter + 1} (epoch {runner.epoch + 1}): {error} '
            + (f'The last good checkpoint is {newest}.' if newest else
               'There is no checkpoint yet.')) from error
    finally:
        _end_workers(runner)
        move_to_cpu(teachers or {})
    if runner.visualizer is not None:
        runner.visualizer.close()
    del runner
    free_memory()


def nothing_trained(cfg: Config) -> str:
    """That a run had no iteration, in words."""
    loader = cfg.train_dataloader
    grouped = loader.get('batch_sampler') or loader
    return (f'{cfg.work_dir}: the training had no iteration. '
            f'train_dataloader has batch_size={loader.get("batch_size")} and '
            f'drop_last={grouped.get("drop_last", False)}, train_cfg is '
            f'{dict(cfg.train_cfg)}: a batch that is not full is dropped with '
            'drop_last=True. Set a smaller batch_size, drop_last=False or '
            'more epochs, and start in another --work-dir.')


def _end_workers(runner: Runner) -> None:
    """End a Runner's worker processes.

    Runners are freed by the garbage collector, which closes the workers'
    queues first. The workers then never learn that they should end, and the
    shutdown waits five seconds for each (seen with torch 2.11).
    """
    for loop in (runner._train_loop, runner._val_loop):
        loader: Any = getattr(loop, 'dataloader', None)
        if getattr(loader, 'persistent_workers', False):
            loader._iterator = None


def move_to_cpu(detectors: Mapping[str, BaseDetector]) -> None:
    """Move detectors to the CPU, in torch's usual memory format."""
    for detector in detectors.values():
        detector.to('cpu', memory_format=torch.contiguous_format)


def free_memory() -> None:
    """Give back what garbage holds, also on the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
