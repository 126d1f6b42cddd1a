"""The test of a checkpoint by mmengine's Runner, as mmdet's tools/test.py."""
import os

from mmdet.evaluation import DumpDetResults
from mmdet.models.detectors import BaseDetector
from mmdet.registry import RUNNERS
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mtpd.distill.detector import load_weights
from mtpd.plan.data_check import inner_datasets

from .inputs import UnusableInput
from .onnx_file import first_line
from .test_set import BROKEN, use_validation_set


def evaluate_checkpoint(cfg: Config, checkpoint: str, out: str | None = None,
                        show_dir: str | None = None, tta: bool = False
                        ) -> dict[str, float]:
    """The metrics of a checkpoint on the config's test set.

    A config without a test set is tested on its validation set. The weights
    load strictly: of a checkpoint of another model, mmengine would load what
    fits and test the rest as drawn at random.

    Args:
        cfg: As ``checkpoint``, ``show_dir`` and ``tta``, see
            :func:`test_runner`.
        out: File for all predictions, ``.pkl`` or ``.pickle``.

    Raises:
        UnusableInput: ``out`` is a folder; or see :func:`test_runner`, as for
            CheckpointMismatch.
    """
    if out is not None and os.path.isdir(out):
        raise UnusableInput(f'--out {out} is a folder. Name a file.')
    runner = test_runner(cfg, checkpoint, show_dir, tta)
    if out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=out))
    metrics: dict[str, float] = runner.test()
    return metrics


def test_runner(cfg: Config, checkpoint: str, show_dir: str | None = None,
                tta: bool = False) -> Runner:
    """A runner that is ready to test a checkpoint.

    Args:
        cfg: Of the detector, with ``work_dir``; an ``mtpd`` part is ignored.
            Nothing is trained. It is changed.
        checkpoint: File or URL.
        show_dir: Folder for the images with the boxes drawn.
        tta: Whether several views of each image are merged, as ``tta_model``
            and ``tta_pipeline`` of the config say.

    Raises:
        UnusableInput: The config has nothing to test on, nothing that can be
            read, or no such views; or ``show_dir`` is a file.
        CheckpointMismatch: The checkpoint is of another model.
    """
    cfg.pop('mtpd', None)
    cfg.setdefault('default_scope', 'mmdet')
    # A Runner takes the parts of a training together or not at all.
    for part in ('train_dataloader', 'train_cfg', 'optim_wrapper',
                 'param_scheduler'):
        cfg[part] = None
    use_validation_set(cfg)
    if not cfg.get('test_evaluator'):
        raise UnusableInput(f'{cfg.filename} has no test_evaluator. Set one, '
                            "such as dict(type='CocoMetric', metric='bbox', "
                            'ann_file=...).')
    if tta:
        use_views(cfg)
    if show_dir is not None:
        if os.path.exists(show_dir) and not os.path.isdir(show_dir):
            raise UnusableInput(f'--show-dir {show_dir} is a file. Name a '
                                'folder.')
        draw_boxes(cfg, show_dir)
    cfg.load_from, cfg.resume = None, False
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg \
        else Runner.from_cfg(cfg)
    load_weights(detector_of(runner), checkpoint, 'the checkpoint')
    try:
        _ = runner.test_loop  # which reads the annotations
    except BROKEN as error:
        raise UnusableInput(
            f'The test set of {cfg.filename}, or its evaluator, cannot be '
            f'read ({type(error).__name__}: {first_line(error)}). Correct '
            'test_dataloader and test_evaluator, or, without these, '
            'val_dataloader and val_evaluator.') from error
    return runner


def detector_of(runner: Runner) -> BaseDetector:
    """A runner's detector, without what is wrapped around it."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def use_views(cfg: Config) -> None:
    """Let a config test several views of each image and merge what is
    detected.

    Args:
        cfg: It is changed.

    Raises:
        UnusableInput: It does not say which views.
    """
    missing = [key for key in ('tta_model', 'tta_pipeline')
               if not cfg.get(key)]
    if missing:
        raise UnusableInput(
            f'--tta: {cfg.filename} has no {" and no ".join(missing)}, which '
            'say how the views are made and merged. Add both, as mmdet has '
            'them in configs/retinanet/retinanet_tta.py: a config with '
            "_base_ = ['./student.py', 'mmdet::retinanet/retinanet_tta.py'] "
            'does. Or test without --tta.')
    model = cfg.model
    if not model.get('data_preprocessor') and cfg.get('data_preprocessor'):
        model.data_preprocessor = cfg.data_preprocessor
    cfg.model = ConfigDict(**cfg.tta_model, module=model)
    use_validation_set(cfg)
    for _, dataset in inner_datasets(cfg.test_dataloader.dataset, ''):
        dataset.pipeline = cfg.tta_pipeline


def draw_boxes(cfg: Config, folder: str) -> None:
    """Let a config's test write each image with its boxes.

    Args:
        cfg: It is changed.
        folder: Where the images are written, by their own names.
    """
    # mmengine's setdefault would return a dict that is not the config's.
    hooks = dict(cfg.get('default_hooks') or {})
    hook = {'type': 'DetVisualizationHook',
            **(hooks.get('visualization') or {})}
    # An absolute path; mmdet puts others below a time stamp.
    hook.update(draw=True, test_out_dir=os.path.abspath(folder))
    cfg.default_hooks = {**hooks, 'visualization': hook}
    if not cfg.get('visualizer'):
        cfg.visualizer = dict(type='DetLocalVisualizer', name='visualizer')
