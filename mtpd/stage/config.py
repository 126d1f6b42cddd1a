"""One stage of the progression as an ordinary mmengine config."""
import copy
import logging
import os
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mtpd.distill.auto_weight import is_disabled
from mtpd.distill.teacher_view.transform import with_teacher_view
from mtpd.plan.plan import Plan, stage_label
from mtpd.plan.student_names import name_students_modules

from .seeding import training_parts_seed


def stage_dir(plan: Plan, index: int, names: tuple[str, ...]) -> str:
    """Where stage ``index`` (from 1) writes, e.g. ``.../stage1_swin_t``."""
    return os.path.join(plan.work_dir, f'stage{index}_{stage_label(names)}')


def fitted_file(plan: Plan, index: int, names: tuple[str, ...]) -> str:
    """Where the fitted maps lie that a stage's adapters start from."""
    return os.path.join(stage_dir(plan, index, names), 'fitted_adapters.pth')


def stage_config(plan: Plan, index: int, names: tuple[str, ...],
                 student_checkpoint: str | None,
                 provenance: dict[str, Any], later: float = 0) -> Config:
    """The config of one stage; dumped, it can be run alone.

    It is the student's own config with the model wrapped. What else is set:
    names that are each stage's own (mmdet's visualizer is a singleton called
    'visualizer', and logger and message hub would share a time stamp), loops
    that go on where they were, and atomic checkpoints.

    Args:
        plan: The progression.
        index: The stage, from 1.
        names: Its teachers; one, except where several teach at once.
        student_checkpoint: The weights that it starts from.
        provenance: Recorded in its checkpoints.
        later: How long all stages after it will take, in units of this one.
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
        fast_teacher=plan.fast_teacher, on_nonfinite=plan.on_nonfinite,
        seed=training_parts_seed(plan.seed, index))
    scales = sorted({t.scale for t in teachers} - {1})
    if scales and not is_disabled(plan.distill):
        cfg.train_dataloader.dataset = with_teacher_view(
            cfg.train_dataloader.dataset, scales)
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
    cfg.randomness = {**cfg.get('randomness', {}), 'seed': plan.seed}
    # The mean over the same iterations as the losses that stand beside it.
    log = cfg.get('log_processor') or {}
    cfg.log_processor = {**log, 'mean_pattern': log.get(
        'mean_pattern', 'loss|time|grad_norm') + '|distill_ratio'}
    every = _set_checkpoints(cfg, plan)
    train = cfg.train_cfg
    by_epoch = train.pop('by_epoch', 'max_epochs' in train)
    train.type = 'StageEpochLoop' if by_epoch else 'StageIterLoop'
    train.update(stage=index, checkpoint_every=every)
    cfg.custom_hooks = list(cfg.get('custom_hooks') or []) + [
        dict(type='DistillCheckpointHook', provenance=provenance),
        dict(type='NonFiniteHook', action=plan.on_nonfinite),
        dict(type='RecordValidationsHook'),
        dict(type='StageProgressHook', stage=index, later=later),
        *([dict(type='FadeDistillHook', **plan.fade)] if plan.fade else [])]
    return cfg


def _set_checkpoints(cfg: Config, plan: Plan) -> int | None:
    """mmengine's checkpoint hook, as a stage needs it.

    Returns:
        Iterations between two checkpoints within an epoch, None for none.
    """
    every = plan.checkpoint_every
    hooks = cfg.setdefault('default_hooks', {})
    checkpoint = hooks.setdefault('checkpoint', dict(type='CheckpointHook'))
    checkpoint.type = 'StageCheckpointHook'
    checkpoint.backend_args = dict(backend='atomic')
    if checkpoint.get('max_keep_ckpts', -1) > 0:
        # mmengine deletes the oldest before it writes the new one, and two
        # shall be there at any moment.
        checkpoint.max_keep_ckpts = max(3, checkpoint.max_keep_ckpts)
    # The progression finds, resumes and hands on by these.
    for key in ('filename_tmpl', 'out_dir', 'published_keys'):
        checkpoint.pop(key, None)
    checkpoint.update(save_optimizer=True, save_param_scheduler=True,
                      save_last=True)
    if plan.handover == 'best':
        checkpoint.setdefault('save_best', 'auto')
    epochs = 'max_epochs' in cfg.train_cfg
    if epochs and not checkpoint.get('by_epoch', True):
        # What it asks for in iterations is done beside whole epochs.
        every = every or checkpoint.pop('interval', None)
        checkpoint.interval = 1
    elif not epochs and checkpoint.get('by_epoch', True):
        checkpoint.pop('interval', None)  # of epochs, which there are none of
    checkpoint.by_epoch = epochs
    return every


class _FormattedConfig(Config):
    """A config that does not change any more."""

    @classmethod
    def of(cls, cfg: Config) -> '_FormattedConfig':
        made = cls.__new__(cls)
        made.__dict__.update(cfg.__dict__, formatted=cfg.pretty_text)
        return made

    @property
    def pretty_text(self) -> str:
        return self.__dict__['formatted']


class StageRunner(Runner):
    """A Runner that keeps its long records for the log file.

    mmengine logs environment, config and hooks at every start, some 500 lines
    each; with a Runner per stage they would bury what happens. It also formats
    the config's text anew for every checkpoint, which takes a second or more;
    here once.
    """

    cfg: Config

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cfg = _FormattedConfig.of(self.cfg)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(
                    lambda record: record.levelno > logging.INFO
                    or '\n' not in record.getMessage())
        return logger
