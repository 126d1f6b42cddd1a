"""Training of the values that weights share (Deep Compression, section 3.3).

The weights of a layer are looked up in its values, by a parametrization of
torch. So the gradient of a value is the sum of the gradients of its weights,
no weight leaves its group, and what was pruned stays zero.
"""
import copy
import tempfile
from typing import Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mtpd.config_types import dict_of
from mtpd.stage.runner import StageRunner, free_memory

from .codes import Codebook

LR = 1e-4
"""Of Adam, whose steps do not depend on how many weights share a value."""


class SharedValues(nn.Module):
    """A parametrization: from values to weights.

    Args:
        book: The codebook; its codes stay, its values are the start.
    """

    codes: Tensor

    def __init__(self, book: Codebook) -> None:
        super().__init__()
        self.register_buffer('codes', book.codes)
        self._book = book

    def forward(self, values: Tensor) -> Tensor:
        """Values (K,) to weights in the layer's shape."""
        return Codebook(self.codes, values, self._book.pruned).weights()

    def right_inverse(self, weights: Tensor) -> Tensor:
        """The values that training starts from."""
        return self._book.values.to(weights).clone()


def share_values(detector: nn.Module, books: Mapping[str, Codebook]) -> None:
    """Replace weights by looked-up ones, whose values are the parameters.

    Args:
        detector: It is changed.
        books: By the keys of its tensors.
    """
    for key, book in books.items():
        module, name = owner(detector, key)
        if not parametrize.is_parametrized(module, name):
            device = getattr(module, name).device
            parametrize.register_parametrization(
                module, name, SharedValues(book).to(device))


def fix_values(detector: nn.Module, keys: Mapping[str, Codebook]) -> None:
    """Make the looked-up weights plain parameters again, as they are now."""
    for key in keys:
        module, name = owner(detector, key)
        if parametrize.is_parametrized(module, name):
            parametrize.remove_parametrizations(module, name)


def owner(detector: nn.Module, key: str) -> tuple[nn.Module, str]:
    """The module that has a tensor, and the tensor's name there."""
    path, _, name = key.rpartition('.')
    return detector.get_submodule(path), name


def fine_tune(cfg: Config, weights: Mapping[str, Tensor],
              books: Mapping[str, Codebook], epochs: int, lr: float
              ) -> BaseDetector:
    """Train the values, and all that shares none, on the detector's task.

    Data and losses are the config's, the schedule is a plain one: Adam, with
    a rate that falls to zero as half a cosine. Nothing is written.

    Args:
        cfg: Of the detector, with training images.
        weights: All of its tensors.
        books: Of those that share values.
        epochs: Of training.
        lr: Adam's first learning rate.

    Returns:
        The detector with plain weights; they may not be finite if the rate is
        too high.
    """
    with tempfile.TemporaryDirectory() as folder:
        runner = StageRunner.from_cfg(training(cfg, folder, epochs, lr))
        # SyncBN does not run on a CPU; keys and weights are the same.
        detector: BaseDetector = revert_sync_batchnorm(runner.model)
        detector.load_state_dict(weights)
        detector.init_weights = lambda: None  # the weights are there
        share_values(detector, books)
        runner.train()
        fix_values(detector, books)
        del detector.init_weights, runner
    free_memory()
    return detector


def training(cfg: Config, folder: str, epochs: int, lr: float) -> Config:
    """The config of this training.

    Args:
        cfg: As the others, see :func:`fine_tune`; it is not changed.
        folder: For logs.
    """
    loader = copy.deepcopy(cfg.train_dataloader)
    loader.update(sampler=dict(type='DefaultSampler', shuffle=True),
                  persistent_workers=False)
    model = copy.deepcopy(cfg.model)
    if not model.get('data_preprocessor') and cfg.get('data_preprocessor'):
        model.data_preprocessor = cfg.data_preprocessor
    return Config(dict(
        default_scope=cfg.get('default_scope') or 'mmdet', work_dir=folder,
        experiment_name=folder.replace('/', '_'), model=model,
        train_dataloader=loader,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs),
        optim_wrapper=dict(type='OptimWrapper',
                           optimizer=dict(type='Adam', lr=lr)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=epochs,
                             by_epoch=True, end=epochs,
                             convert_to_iter_based=True),
        default_hooks=dict(checkpoint=None, logger=dict(
            type='LoggerHook', interval=dict_of(dict_of(
                cfg, 'default_hooks'), 'logger').get('interval', 50))),
        env_cfg=dict_of(cfg, 'env_cfg'), randomness=dict(seed=0),
        custom_imports=cfg.get('custom_imports')))
