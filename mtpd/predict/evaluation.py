"""The test of a checkpoint by mmengine's Runner, as mmdet's tools/test.py."""
from mmdet.evaluation import DumpDetResults
from mmdet.registry import RUNNERS
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mtpd.distill.detector import load_weights

from .inputs import UnusableInput
from .test_set import use_validation_set


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
    use_validation_set(cfg)
    if not cfg.get('test_evaluator'):
        raise UnusableInput(f'{cfg.filename} has no test_evaluator. Set one, '
                            "such as dict(type='CocoMetric', metric='bbox', "
                            'ann_file=...).')
    cfg.load_from, cfg.resume = None, False
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg \
        else Runner.from_cfg(cfg)
    model = runner.model.module if is_model_wrapper(runner.model) \
        else runner.model
    load_weights(model, checkpoint, 'the checkpoint')
    if out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=out))
    metrics: dict[str, float] = runner.test()
    return metrics
