"""Box AP, and how much it depends on the choice of validation images."""
import io
import logging
import math
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Iterator

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mtpd.search.measure import mean_ap

FOLDS = 10
"""Every tenth image belongs to one fold."""


@dataclass(frozen=True)
class FoldedAP:
    """Box AP in percent.

    Attributes:
        ap: On all images.
        without: On all but one fold of them: (folds,).
    """
    ap: float
    without: np.ndarray


def folded_ap(detector: BaseDetector, validation: Config) -> FoldedAP:
    """The AP with and without each fold; each image is predicted once, only
    the scoring is repeated.

    CocoMetric rounds to a tenth of a percent. In the error of a difference
    (:func:`mtpd.statistics.jackknifed`) that is 0.12, added to the
    other errors as squares: it matters only where these are as small.

    Args:
        detector: Is left in eval mode.
        validation: From :func:`mtpd.search.measure.validation_config`.
    """
    # With a seed: without one the sampler would ask all processes for it.
    loader = Runner.build_dataloader({
        **validation.loader,
        'sampler': dict(type='DefaultSampler', shuffle=False, seed=0)})
    with _quiet():
        evaluator = Evaluator(validation.evaluator)
        evaluator.dataset_meta = loader.dataset.metainfo
        detector = detector.to(get_device()).eval()
        with torch.no_grad():
            for batch in loader:
                evaluator.process(data_samples=detector.val_step(batch),
                                  data_batch=batch)
        # One result per image, in the order of the images.
        results = [metric.results for metric in evaluator.metrics]
        count = len(results[0])
        folds = min(FOLDS, count)
        # All images first: without an annotation file CocoMetric makes its
        # ground truth of the images that it sees first.
        ap = _ap(evaluator, results, list(range(count)))
        without = []
        for fold in range(folds):
            others = [i for i in range(count) if i % folds != fold]
            without.append(_ap(evaluator, results, others))
        return FoldedAP(ap, np.array(without))


def _ap(evaluator: Evaluator, results: list[list],
        images: list[int]) -> float:
    values = {}
    for metric, all_results in zip(evaluator.metrics, results, strict=True):
        chosen = [all_results[i] for i in images]
        if hasattr(metric, 'img_ids'):
            # CocoMetric: its other images would count as missed.
            metric.img_ids = [result['img_id'] for _, result in chosen]
        for key, value in metric.compute_metrics(chosen).items():
            values[f'{metric.prefix}/{key}'] = value
    ap = mean_ap(values)
    return math.nan if ap is None else 100 * ap


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the table that pycocotools prints and mmdet logs at each
    scoring."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
