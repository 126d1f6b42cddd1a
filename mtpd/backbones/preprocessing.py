"""A data preprocessor's numbers, taken from the backbone's weights."""
from typing import Any, Mapping, MutableMapping

from mmengine.config import Config, ConfigDict

from .from_config import backbone_config, normalisation_of

WORD = 'backbone'
"""As ``data_preprocessor.mean`` it asks for the numbers of the weights."""


def fill_in_normalisation(cfg: Config | ConfigDict) -> None:
    """Where ``data_preprocessor.mean`` or ``std`` is ``'backbone'``, set mean,
    std and channel order to those that the backbone's weights were trained
    with.

    timm's ``pretrained_cfg`` and the transforms of torchvision's weights hold
    them. All three are replaced, since two of them are usually inherited from
    another backbone's config. The config then is one that mmdet reads.

    Args:
        cfg: A whole config, or its ``model`` part; changed in place.

    Raises:
        ImportError: The backbone needs timm, which is not installed.
        ValueError: The backbone has no such numbers, or its config is wrong.
    """
    preprocessor = preprocessor_config(cfg)
    if not isinstance(preprocessor, MutableMapping):
        return
    words = [preprocessor[key] for key in ('mean', 'std')
             if isinstance(preprocessor.get(key), str)]
    if not words:
        return
    if set(words) != {WORD}:
        raise ValueError(
            f'data_preprocessor.mean or std is {words[0]!r}; expected numbers '
            f'of 0 to 255, or {WORD!r} for those of the pretrained weights.')
    backbone = backbone_config(cfg)
    if backbone is None:
        raise ValueError(
            'data_preprocessor asks for the numbers of the backbone, and '
            'only those of a TimmBackbone or TorchvisionBackbone are known. '
            'Write mean, std and bgr_to_rgb as numbers.')
    preprocessor.update(normalisation_of(backbone).as_config())


def other_normalisation(cfg: Config | ConfigDict) -> str:
    """That pretrained weights get images which are normalised otherwise than
    those they were trained with, in words; empty if they do not.

    Such a detector trains without an error, and its AP is lower.

    Args:
        cfg: A whole config.

    Raises:
        ImportError, ValueError: As :func:`fill_in_normalisation`.
    """
    backbone = backbone_config(cfg)
    preprocessor = preprocessor_config(cfg)
    if backbone is None or not isinstance(preprocessor, Mapping) \
            or not (backbone.get('pretrained') or backbone.get('weights')) \
            or _normalises_itself(cfg.get('train_dataloader')):
        return ''
    wanted = normalisation_of(backbone)
    if not wanted.differs_from(preprocessor):
        return ''
    present = ', '.join(f'{key}={preprocessor.get(key)}'
                        for key in ('mean', 'std', 'bgr_to_rgb'))
    return (f'data_preprocessor has {present}, and the pretrained weights of '
            f'{backbone["model_name"]} were trained with {wanted}. Set '
            f'model.data_preprocessor.mean={WORD!r}, which sets all three.')


def preprocessor_config(cfg: Config | ConfigDict) -> Any:
    """The data preprocessor of a config: the model's own, else the one that
    the Runner gives to it.

    Args:
        cfg: As in :func:`fill_in_normalisation`.
    """
    model = cfg.get('model', cfg)
    if not isinstance(model, Mapping):
        return None
    return model.get('data_preprocessor') or cfg.get('data_preprocessor')


def _normalises_itself(part: Any) -> bool:
    """Whether a data loader's pipeline has a step that normalises."""
    if isinstance(part, (list, tuple)):
        return any(map(_normalises_itself, part))
    if not isinstance(part, Mapping):
        return False
    return str(part.get('type')).endswith('Normalize') \
        or any(map(_normalises_itself, part.values()))
