"""Batch norms measured anew, after weights have changed."""
from typing import Iterator

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mtpd.plan.data_check import data_problems
from mtpd.randomness import isolate_rng
from mtpd.search.images import Images

from .errors import CannotSlice

IMAGES = 200
"""Training images that are used unless told otherwise."""
BATCH = 8
"""Images per batch."""


def image_problems(cfg: Config) -> list[str]:
    """Why a config's training images cannot be read, one message each."""
    for key in ('train_dataloader', 'val_dataloader'):
        if not cfg.get(key):
            return [f'{key} is not set, so nothing says which images the '
                    'batch norms are measured on, and how they are read. '
                    'Name the config that the detector was trained with.']
    return data_problems({'': cfg}, to_train=False)


def recalibrate(detector: BaseDetector, cfg: Config, images: int) -> int:
    """Replace the statistics of all batch norms by those of training images.

    The images pass through the validation pipeline, in batches, and every
    batch counts alike.

    Args:
        detector: Ends on mmengine's device, in eval mode.
        cfg: Its config, with a training set and a validation pipeline.
        images: The number of images, evenly spread over the training set.

    Returns:
        The number of images that were used; 0 for a detector without batch
        norms.
    """
    # SyncBN does not run on a CPU; keys and weights are the same.
    detector = revert_sync_batchnorm(detector).to(get_device()).eval()
    by_name = _batch_norms(detector)
    if not by_name:
        return 0
    norms = list(by_name.values())
    of_heads = any(not name.startswith(('backbone.', 'neck.'))
                   for name in by_name)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then averages over all batches
        norm.train()
    used = 0
    with torch.no_grad(), isolate_rng(0):
        for batch in _batches(cfg, images):
            data = detector.data_preprocessor(_as_data(batch))
            try:
                if of_heads:
                    detector(**data, mode='tensor')
                else:  # a RoI head takes longer than all the rest
                    detector.extract_feat(data['inputs'])
            except ValueError as error:
                if len(batch) > 1 or _NO_VARIANCE not in str(error):
                    raise
                raise CannotSlice([
                    'The batch norms cannot be measured on one image: a map '
                    'of one position has no variance then. Take at least 2 '
                    '(--images, and in the training set).']) from error
            used += len(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return used


_NO_VARIANCE = 'more than 1 value per channel'
"""In PyTorch's message of a batch norm of one value."""


def _batch_norms(detector: BaseDetector) -> dict[str, _BatchNorm]:
    """The batch norms that keep statistics, by name."""
    norms = {}
    for name, module in detector.named_modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            norms[name] = module
    return norms


def _batches(cfg: Config, count: int) -> Iterator[list[Tensor]]:
    """Batches of at least two images, as far as there are so many: in a map of
    one position a single one has no variance."""
    images = Images(cfg)
    indices = images.spread(count)
    if not indices:
        raise CannotSlice(['The training set has no images to measure the '
                           'batch norms on.'])
    waiting: list[Tensor] = []
    for loaded in images.load([[index] for index in indices]):
        (view,) = loaded.views.values()
        waiting += view
        if len(waiting) >= BATCH + 2:
            yield waiting[:BATCH]
            del waiting[:BATCH]
    yield waiting


def _as_data(images: list[Tensor]) -> dict:
    samples = []
    for image in images:
        size = tuple(image.shape[-2:])
        samples.append(DetDataSample(metainfo=dict(
            img_id=0, ori_shape=size, img_shape=size, scale_factor=(1., 1.),
            flip=False)))
    return dict(inputs=images, data_samples=samples)
