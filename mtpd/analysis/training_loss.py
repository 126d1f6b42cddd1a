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

LEAST_BATCHES = 8
"""Batches are made smaller than in training where there would be fewer: the
scatter between them is what errors are made of."""


def as_measured(detector: BaseDetector) -> BaseDetector:
    """On the device, in training mode, batch norms with their running
    statistics.

    Training mode because some detectors make what their loss needs in it
    only. Running statistics because they belong to the network that is
    validated and handed over, because an image's maps then depend on no
    other image, and because Li et al. take them; detectors that train with
    ``norm_eval`` never know others.
    """
    detector.to(get_device()).train()
    for module in detector.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return detector


class TrainingImages:
    """A random part of the training images, through the training pipeline
    once: every loss is of the same crops, flips and boxes.

    Args:
        student: The student's config.
        count: How many, at most; all of a smaller data set.
        seed: Of the choice, of the pipeline's draws and of what is drawn
            within the loss (samples of RoIs, dropout).

    Attributes:
        count: How many there are.
        batches: In how many groups.
    """

    def __init__(self, student: Config, count: int, seed: int) -> None:
        loader = student.train_dataloader
        with isolate_rng(seed):
            dataset = DATASETS.build(loader.dataset)
            dataset.full_init()
            chosen = torch.randperm(len(dataset))[:count].tolist()
            size = max(1, min(loader.batch_size, len(chosen) // LEAST_BATCHES))
            # Equal batches, or their mean would not be that of the images.
            chosen = chosen[:len(chosen) // size * size]
            self._batches = [
                pseudo_collate([dataset[i] for i in chosen[at:at + size]])
                for at in range(0, len(chosen), size)]
        self._seed = seed
        self.count = len(chosen)

    @property
    def batches(self) -> int:
        return len(self._batches)

    def losses(self, detector: BaseDetector) -> np.ndarray:
        """The sum of all detection losses, one value per batch, with the same
        random draws in every call.

        Args:
            detector: As :func:`as_measured` leaves it.
        """
        totals = []
        with torch.no_grad():
            for index, batch in enumerate(self._batches):
                # Heads write into the samples that they are given.
                batch = {**batch, 'data_samples': copy.deepcopy(
                    batch['data_samples'])}
                with isolate_rng(self._seed + index):
                    losses = detector(
                        **detector.data_preprocessor(batch, True),
                        mode='loss')
                totals.append(detector.parse_losses(losses)[0])
        return torch.stack(totals).double().cpu().numpy()
