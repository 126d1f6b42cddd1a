"""One stage of the progression as an ordinary mmengine config."""
import copy
import glob
import logging
import os
import re
from typing import Any

from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mtpd.compat.checkpoints import CorruptCheckpoint, read_checkpoint
from mtpd.data.teacher_view import with_teacher_view
from mtpd.distill.auto_weight import is_off

from .plan import Plan, stage_label
from .student_names import name_students_modules


def stage_dir(plan: Plan, index: int, names: tuple[str, ...]) -> str:
    """Where stage ``index`` (from 1) writes, e.g. ``.../stage1_swin_t``."""
    return os.path.join(plan.work_dir, f'stage{index}_{stage_label(names)}')


def fitted_file(plan: Plan, index: int, names: tuple[str, ...]) -> str:
    """Where the fitted maps lie that a stage's adapters start from."""
    return os.path.join(stage_dir(plan, index, names), 'fitted_adapters.pth')


def stage_config(plan: Plan, index: int, names: tuple[str, ...],
                 student_checkpoint: str | None,
                 provenance: dict[str, Any]) -> Config:
    """The config of one stage; dumped, it can be run alone.

    It is the student's own config with the model wrapped. What else is set:
    names that are each stage's own (mmdet's visualizer is a singleton called
    'visualizer', and logger and message hub would share a time stamp), atomic
    checkpoints, and two of them kept, since mmengine deletes the old one
    before it writes the new one.

    Args:
        plan: The progression.
        index: The stage, from 1.
        names: Its teachers; one, except where several teach at once.
        student_checkpoint: The weights that it starts from.
        provenance: Recorded in its checkpoints.
    """
    cfg = copy.deepcopy(plan.student.config)
    teachers = [plan.teachers[name] for name in names]
    folder = stage_dir(plan, index, names)
    cfg.model = dict(
        type='FeatureDistiller', student=plan.student.model,
        student_checkpoint=student_checkpoint,
        teachers=[dict(name=t.name, model=t.model, checkpoint=t.checkpoint,
                       scale=str(t.scale)) for t in teachers],
        distill=plan.distill, strides=plan.strides, adapter=plan.adapter,
        init_adapters=fitted_file(plan, index, names)
        if plan.init_adapters == 'fitted' else plan.init_adapters,
        fast_teacher=plan.fast_teacher)
    scales = sorted({t.scale for t in teachers} - {1})
    if scales and not is_off(plan.distill):
        cfg.train_dataloader.dataset = with_teacher_view(
            cfg.train_dataloader.dataset, [str(s) for s in scales])
    name_students_modules(cfg)
    cfg.pop('data_preprocessor', None)
    cfg.work_dir = folder
    cfg.experiment_name = folder.strip(os.sep).replace(os.sep, '_')
    cfg.load_from, cfg.resume = None, False
    imports = cfg.get('custom_imports') or dict(imports=[])
    if 'mtpd' not in imports['imports']:
        cfg.custom_imports = dict(imports=[*imports['imports'], 'mtpd'])
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.experiment_name
    hooks = cfg.setdefault('default_hooks', {})
    checkpoint = hooks.setdefault('checkpoint', dict(type='CheckpointHook'))
    checkpoint.backend_args = dict(backend='atomic')
    if checkpoint.get('max_keep_ckpts', -1) > 0:
        checkpoint.max_keep_ckpts = max(2, checkpoint.max_keep_ckpts)
    # The progression finds, resumes and hands on by these.
    for key in ('filename_tmpl', 'out_dir', 'published_keys'):
        checkpoint.pop(key, None)
    checkpoint.update(save_optimizer=True, save_param_scheduler=True,
                      save_last=True)
    if plan.handover == 'best':
        checkpoint.setdefault('save_best', 'auto')
    cfg.custom_hooks = list(cfg.get('custom_hooks') or []) + [
        dict(type='DistillCheckpointHook', provenance=provenance),
        dict(type='RememberMetrics'),
        *([dict(type='FadeDistillHook', **plan.fade)] if plan.fade else [])]
    return cfg


class StageRunner(Runner):
    """A Runner that keeps its long records for the log file.

    mmengine logs environment, config and hooks at every start, some 500 lines
    each; with a Runner per stage they would bury what happens.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(
                    lambda record: record.levelno > logging.INFO
                    or '\n' not in record.getMessage())
        return logger


@HOOKS.register_module()
class RememberMetrics(Hook):
    """Keeps the last validation's metrics and when it was."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.iter = -1

    def after_val_epoch(self, runner: Runner,
                        metrics: dict[str, float] | None = None) -> None:
        self.metrics = dict(metrics or {})
        self.iter = runner.iter


def newest_checkpoint(folder: str) -> str | None:
    """The newest ``epoch_*.pth`` or ``iter_*.pth`` that can be read.

    Found by looking at the files: mmengine's ``last_checkpoint`` is written in
    place, after the checkpoint, and may name one that is torn or gone.
    """
    def number(path: str) -> int:
        return int(re.search(r'(\d+)\.pth$', path)[1])

    found = [p for kind in ('epoch', 'iter')
             for p in glob.glob(os.path.join(folder, f'{kind}_*.pth'))
             if re.fullmatch(kind + r'_\d+\.pth', os.path.basename(p))]
    for path in sorted(found, key=number, reverse=True):
        try:
            read_checkpoint(path)
            return path
        except CorruptCheckpoint:
            continue
    return None


def set_aside_not_finite(folder: str) -> str | None:
    """The newest checkpoint whose weights are all finite.

    A step may spoil the weights that the next checkpoint holds before any loss
    shows it. Newer ones are renamed to ``*.pth.not_finite``, so that a resumed
    run does not go on from them.
    """
    while (path := newest_checkpoint(folder)) is not None:
        weights = read_checkpoint(path)['state_dict'].values()
        if all(w.isfinite().all() for w in weights if w.is_floating_point()):
            return path
        os.replace(path, path + '.not_finite')
    return None


def best_checkpoint(folder: str) -> str | None:
    """The file that mmengine's ``save_best`` keeps, None if there is none."""
    found = glob.glob(os.path.join(folder, 'best_*.pth'))
    return max(found, key=os.path.getmtime) if found else None
