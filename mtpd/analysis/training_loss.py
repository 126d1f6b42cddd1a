"""A student's own detection loss on fixed training images."""
import copy

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from torch.nn.modules.batchnorm import _BatchNorm

from mtpd.randomness import isolate_rng

MIN_BATCHES = 8
"""Batches are smaller than in training where there would be fewer than these:
errors are estimated from the scatter between batches."""


def as_measured(detector: BaseDetector) -> BaseDetector:
    """Put a detector on the device and in training mode, its batch norms with
    running statistics.

    Training mode, because some detectors compute the inputs of their loss
    only there. Running statistics, because they belong to the network that is
    validated and handed on, because an image's maps then depend on no other
    image, and because Li et al. use them; detectors that train with
    ``norm_eval`` never see others.
    """
    detector.to(get_device()).train()
    for module in detector.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return detector


class TrainingImages:
    """A random part of the training images.

    They pass the training pipeline once, so that every loss is of the same
    crops, flips and boxes.

    Args:
        student: The student's config.
        count: Maximum number of images; a smaller data set is used whole.
        seed: Of the choice, of the pipeline and of random draws within the
            loss (samples of RoIs, dropout).

    Attributes:
        count: Number of images.
    """

    def __init__(self, student: Config, count: int, seed: int) -> None:
        loader = student.train_dataloader
        with isolate_rng(seed):
            dataset = DATASETS.build(loader.dataset)
            dataset.full_init()
            chosen = torch.randperm(len(dataset))[:count].tolist()
            size = max(1, min(loader.batch_size, len(chosen) // MIN_BATCHES))
            # Equal batches, or their mean would not be that of the images.
            chosen = chosen[:len(chosen) // size * size]
            self._batches = []
            for start in range(0, len(chosen), size):
                images = [dataset[i] for i in chosen[start:start + size]]
                self._batches.append(pseudo_collate(images))
        self._seed = seed
        self.count = len(chosen)

    @property
    def batches(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def losses(self, detector: BaseDetector) -> np.ndarray:
        """The sum of all detection losses: (batches,), float64.

        Every call has the same random draws.

        Args:
            detector: From :func:`as_measured`.
        """
        totals = []
        with torch.no_grad():
            for index, batch in enumerate(self._batches):
                # Heads write into the samples that they get.
                batch = {**batch, 'data_samples': copy.deepcopy(
                    batch['data_samples'])}
                with isolate_rng(self._seed + index):
                    losses = detector(
                        **detector.data_preprocessor(batch, True),
                        mode='loss')
                totals.append(detector.parse_losses(losses)[0])
        return torch.stack(totals).double().cpu().numpy()
