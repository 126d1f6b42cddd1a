"""One stage of the progression as an ordinary mmengine config."""
import copy
import os
from typing import Any

from mmengine.config import Config, ConfigDict

from mtpd.config_types import dict_of, imported_modules
from mtpd.distill.auto_weight import split_auto, with_share
from mtpd.distill.teacher_view.transform import with_teacher_view
from mtpd.plan.identity import identity_defaults
from mtpd.plan.plan import Plan, stage_label
from mtpd.plan.settings import UnlabelledSettings
from mtpd.plan.student_names import name_students_modules
from mtpd.plan.unlabelled import training_part

from .seeding import training_parts_seed


def stage_config(plan: Plan, index: int, names: tuple[str, ...],
                 student_checkpoint: str | None,
                 provenance: dict[str, Any], later: float = 0) -> Config:
    """The config of one stage; dumped, it can be run alone.

    It is the student's own config with the model wrapped. What else is set:
    names that are each stage's own (mmdet's visualizer is a singleton called
    'visualizer', and logger and message hub would share a time stamp), loops
    that resume where they were, and atomic checkpoints.

    Args:
        plan: The progression.
        index: The stage, from 1.
        names: Its teachers; one, except where several teach at once.
        student_checkpoint: The weights that it starts from.
        provenance: Recorded in its checkpoints.
        later: How long all stages after it will take, in units of this one.
    """
    cfg = copy.deepcopy(plan.student.config)
    _wrap_model(cfg, plan, index, names, student_checkpoint)
    cfg.work_dir = plan.paths.stage(index, stage_label(names),
                                    plan.distils).folder
    cfg.experiment_name = cfg.work_dir.strip(os.sep).replace(os.sep, '_')
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.experiment_name
    cfg.load_from, cfg.resume = None, False
    imports = imported_modules(cfg)
    if 'mtpd' not in imports:
        cfg.custom_imports = {**dict_of(cfg, 'custom_imports'),
                              'imports': [*imports, 'mtpd']}
    cfg.randomness = {**cfg.get('randomness', {}), 'seed': plan.seed}
    # The mean over the same iterations as the losses that stand beside it.
    log = dict_of(cfg, 'log_processor')
    pattern = log.get('mean_pattern', 'loss|time|grad_norm')
    cfg.log_processor = {**log, 'mean_pattern': f'{pattern}|distill_ratio'}
    train = cfg.train_cfg
    within_epochs = _set_checkpoints(cfg, plan.handover)
    by_epoch = train.pop('by_epoch', 'max_epochs' in train)
    train.type = 'StageEpochLoop' if by_epoch else 'StageIterLoop'
    train.update(stage=index, **within_epochs)
    if plan.unlabelled is not None and plan.distils:
        _add_unlabelled(cfg, plan, plan.unlabelled, names)
    hooks = [
        dict(type='DistillCheckpointHook', provenance=provenance,
             identity_defaults=identity_defaults()),
        dict(type='NonFiniteHook', action=plan.on_nonfinite),
        dict(type='RecordValidationsHook'),
        dict(type='StageProgressHook', stage=index, later=later)]
    if plan.distils and split_auto(plan.distill)[1] is not None:
        hooks.append(dict(type='CalibrationHook'))
    if plan.fade:
        hooks.append(dict(type='FadeDistillHook', **plan.fade))
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *hooks]
    return cfg


def _wrap_model(cfg: Config, plan: Plan, index: int, names: tuple[str, ...],
                student_checkpoint: str | None) -> None:
    """The student in its distiller, and what follows for the config."""
    teachers = [plan.teachers[name] for name in names]
    stage = plan.paths.stage(index, stage_label(names), plan.distils)
    cfg.model = dict(
        type='FeatureDistiller', student=plan.student.model,
        student_checkpoint=student_checkpoint,
        teachers=[dict(name=t.name, model=t.model, checkpoint=t.checkpoint,
                       scale=str(t.scale)) for t in teachers],
        distill=with_share(plan.distill, plan.share),
        strides=plan.strides, adapter=plan.adapter,
        init_adapters=stage.fitted_adapters
        if plan.init_adapters == 'fitted' else plan.init_adapters,
        fast_teacher=plan.fast_teacher, on_nonfinite=plan.on_nonfinite,
        seed=training_parts_seed(plan.seed, index))
    cfg.pop('data_preprocessor', None)
    name_students_modules(cfg)
    scales = sorted({teacher.scale for teacher in teachers} - {1})
    if scales and plan.distils:
        cfg.train_dataloader.dataset = with_teacher_view(
            cfg.train_dataloader.dataset, scales)


def _add_unlabelled(cfg: Config, plan: Plan, settings: UnlabelledSettings,
                    names: tuple[str, ...]) -> None:
    """The images without labels, for the loop and the distiller."""
    part = training_part(settings, plan.student.config)
    scales = sorted({plan.teachers[name].scale for name in names} - {1})
    if scales:
        part['dataset'] = with_teacher_view(part['dataset'], scales)
    cfg.train_cfg.unlabelled = part


def _set_checkpoints(cfg: Config, handover: str) -> dict[str, int]:
    """mmengine's checkpoint hook, as a stage needs it.

    Returns:
        What the loop is told of checkpoints within an epoch.
    """
    # Either may be missing, or None.
    if not cfg.get('default_hooks'):
        cfg.default_hooks = ConfigDict()
    if not cfg.default_hooks.get('checkpoint'):
        cfg.default_hooks.checkpoint = ConfigDict(type='CheckpointHook')
    checkpoint = cfg.default_hooks.checkpoint
    checkpoint.type = 'StageCheckpointHook'
    checkpoint.backend_args = dict(backend='atomic')
    if checkpoint.get('max_keep_ckpts', -1) > 0:
        # mmengine deletes the oldest before it writes the new one, and two
        # shall exist at any moment.
        checkpoint.max_keep_ckpts = max(3, checkpoint.max_keep_ckpts)
    # The progression finds, resumes and hands on by these.
    for key in ('filename_tmpl', 'out_dir', 'published_keys'):
        checkpoint.pop(key, None)
    checkpoint.update(save_optimizer=True, save_param_scheduler=True,
                      save_last=True)
    if handover == 'best':
        checkpoint.setdefault('save_best', 'auto')
    epochs = 'max_epochs' in cfg.train_cfg
    within_epochs = {}
    if epochs and not checkpoint.get('by_epoch', True):
        # What it asks for in iterations is done beside whole epochs.
        every, begin = checkpoint.pop('interval', -1), \
            checkpoint.pop('save_begin', 0)
        if every > 0:
            within_epochs = dict(checkpoint_every=every,
                                 checkpoint_begin=begin)
        checkpoint.interval = 1
    elif not epochs and checkpoint.get('by_epoch', True):
        checkpoint.pop('interval', None)  # of epochs, which do not exist here
    checkpoint.by_epoch = epochs
    return within_epochs
