"""Training of detectors of the pool that have no checkpoint yet."""
import copy
import os

from mmengine.logging import print_log

from mtpd.compat.processes import init_processes
from mtpd.plan.detectors import DetectorSpec, is_url
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan
from mtpd.processes import on_main
from mtpd.stage.resume import newest_checkpoint
from mtpd.stage.runner import run_stage

from .export import export_student


def train_if_missing(spec: DetectorSpec, plan: Plan) -> None:
    """Train a detector of the pool with its own config, unless its checkpoint
    exists.

    Args:
        spec: The detector; its checkpoint is written.
        plan: Its progression.

    Raises:
        PlanError: The training left no checkpoint.
    """
    path = spec.checkpoint
    if path is None or is_url(path) or on_main(lambda: os.path.isfile(path)):
        return
    cfg = copy.deepcopy(spec.config)
    cfg.launcher = plan.student.config.get('launcher', 'none')
    init_processes(cfg)
    cfg.work_dir = plan.paths.pool(spec.name)
    cfg.experiment_name = cfg.work_dir.replace(os.sep, '_')
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.work_dir
    if 'checkpoint' in cfg.get('default_hooks', {}):
        checkpoint = cfg.default_hooks.checkpoint
        checkpoint.backend_args = dict(backend='atomic')
        if checkpoint.get('max_keep_ckpts', -1) > 0:
            # mmengine deletes the oldest before it writes the new one.
            checkpoint.max_keep_ckpts = max(2, checkpoint.max_keep_ckpts)
    newest = on_main(lambda: newest_checkpoint(cfg.work_dir))
    if newest is not None:
        cfg.resume, cfg.load_from = True, newest
    print_log(f'Training {spec.name} from random weights', logger='current')
    run_stage(cfg)

    def export() -> None:
        trained = newest_checkpoint(cfg.work_dir)
        if trained is None:
            raise PlanError([
                f'{spec.name} was trained in {cfg.work_dir} and left no '
                'checkpoint there. Set default_hooks.checkpoint=dict('
                "type='CheckpointHook', save_last=True) in its config."])
        export_student(trained, path)

    on_main(export)
