"""The test of a checkpoint by mmengine's Runner, as mmdet's tools/test.py."""
from typing import Any

from mmdet.evaluation import DumpDetResults
from mmdet.registry import RUNNERS
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mtpd.distill.detector import load_weights

from .inputs import UnusableInput


def evaluate_checkpoint(cfg: Config, checkpoint: str,
                  out: str | None = None) -> dict[str, float]:
    """The metrics of a checkpoint on the config's test set.

    A config without a test set is tested on its validation set. The weights
    load strictly: of a checkpoint of another model, mmengine would load what
    fits and test the rest as drawn at random.

    Args:
        cfg: Of the detector, with ``work_dir``; an ``mtpd`` part is ignored.
            It is changed.
        checkpoint: File or URL.
        out: File for all predictions, ``.pkl`` or ``.pickle``.

    Raises:
        UnusableInput: The config has nothing to test on.
        CheckpointMismatch: The checkpoint is of another model.
    """
    cfg.pop('mtpd', None)
    cfg.setdefault('default_scope', 'mmdet')
    _complete(cfg)
    cfg.load_from, cfg.resume = None, False
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg \
        else Runner.from_cfg(cfg)
    model = runner.model.module if is_model_wrapper(runner.model) \
        else runner.model
    load_weights(model, checkpoint, 'the checkpoint')
    if out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=out))
    metrics: dict[str, Any] = runner.test()
    return {name: float(value) for name, value in metrics.items()}


def _complete(cfg: Config) -> None:
    """The test set, its evaluator and loop, from the validation's where the
    config has none."""
    if not cfg.get('test_dataloader'):
        if not cfg.get('val_dataloader'):
            raise UnusableInput(
                f'{cfg.filename} has no test_dataloader and no '
                'val_dataloader, so there is nothing to test on. Name the '
                'config that the detector was trained with.')
        print_log('The config has no test_dataloader: tested on its '
                  'validation set.', 'current')
        cfg.test_dataloader = cfg.val_dataloader
        cfg.test_evaluator = cfg.get('val_evaluator')
    if not cfg.get('test_evaluator'):
        raise UnusableInput(f'{cfg.filename} has no test_evaluator. Set one, '
                            "such as dict(type='CocoMetric', metric='bbox', "
                            'ann_file=...).')
    if not cfg.get('test_cfg'):
        cfg.test_cfg = dict(type='TestLoop')
