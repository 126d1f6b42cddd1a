"""What a config says of the images that its detector is tested on."""
import copy
from typing import Any, Mapping

import torch
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mtpd.plan.data_check import inner_datasets

from .inputs import UnusableInput


BROKEN = (OSError, ValueError, KeyError, TypeError, AssertionError)
"""What a data set raises for a file that is missing or is another's."""


def use_validation_set(cfg: Config) -> None:
    """Make the validation set the test set of a config that has none.

    Raises:
        UnusableInput: It has neither, or no model.
    """
    if 'model' not in cfg:
        raise UnusableInput(f'{cfg.filename} has no model. Name the config of '
                            'a detector.')
    if not cfg.get('test_dataloader'):
        if not cfg.get('val_dataloader'):
            raise UnusableInput(
                f'{cfg.filename} has no test_dataloader and no '
                'val_dataloader, so nothing says how images are read and '
                'resized. Name the config that the detector was trained with, '
                'such as the student.py of a progression.')
        print_log('The config has no test_dataloader; its val_dataloader is '
                  'used.', 'current')
        cfg.merge_from_dict(dict(test_dataloader=cfg.val_dataloader,
                                 test_evaluator=cfg.get('val_evaluator')))
    if not cfg.get('test_cfg'):
        cfg.merge_from_dict(dict(test_cfg=dict(type='TestLoop')))


def test_dataset(cfg: Config) -> ConfigDict:
    """The data set's config; of several, the first.

    Raises:
        UnusableInput: As :func:`use_validation_set`, whose choice it is.
    """
    use_validation_set(cfg)
    return next(inner_datasets(cfg.test_dataloader.dataset, ''))[1]


def file_pipeline(dataset: ConfigDict) -> tuple[Any, Compose]:
    """What reads a file, and what follows, without annotations.

    Args:
        dataset: From :func:`test_dataset`.

    Raises:
        UnusableInput: Its pipeline reads something else.
    """
    steps, kinds = [], []
    for step in copy.deepcopy(dataset.get('pipeline') or ()):
        kind = step['type']  # a class in a config of Python imports
        kind = (kind if isinstance(kind, str) else kind.__name__
                ).split('.')[-1]
        if 'Annotations' not in kind:
            steps.append(step)
            kinds.append(kind)
    if kinds[:1] != ['LoadImageFromFile']:
        raise UnusableInput(
            'The test pipeline has to begin with LoadImageFromFile; found '
            f'{kinds}. Set test_dataloader.dataset.pipeline.')
    return TRANSFORMS.build(steps[0]), Compose([
        dict(type='mmdet.LoadImageFromNDArray',
             to_float32=steps[0].get('to_float32', False)), *steps[1:]])


def metainfo(dataset: ConfigDict) -> dict[str, Any]:
    """Classes and palette of a data set, of which no file is read."""
    return DATASETS.build({**dataset, 'lazy_init': True,
                           'pipeline': []}).metainfo


def class_names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes of a data set; empty if they are not known.

    Args:
        meta: Its metainfo.

    Raises:
        UnusableInput: They are one text, of which each letter would be one.
    """
    classes = meta.get('classes') or ()
    if isinstance(classes, str):
        raise UnusableInput(
            f'metainfo.classes is the text {classes!r}. Expected a tuple of '
            f'names: classes=({classes!r}, ), with a comma, if it is one.')
    return tuple(classes)


def usable_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        UnusableInput: PyTorch cannot use it here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # The second where torch was built without CUDA.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UnusableInput(f"--device {name}: PyTorch cannot use it ({reason}"
                            "). Use cpu, or a device that 'python "
                            "tools/doctor.py' names.") from error
    return device
