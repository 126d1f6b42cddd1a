"""timm's weights: those in a file, and those of Hugging Face's hub where
there may be no network."""
from types import ModuleType
from typing import Any, Mapping

import torch
from torch import Tensor

from mtpd.config_types import dict_of
from mtpd.randomness import isolate_rng

from .strides import weights_error
from .weights_files import (differences, differences_in, mismatch,
                            read_weights)

SECONDS = 10
"""How long the hub may take to answer."""

FILES = ('model.safetensors', 'pytorch_model.bin')
"""The files that timm takes from a repository of the hub."""


def file_without_network(model_name: str, model: Any) -> str | None:
    """The file in which an earlier run has left a model's weights, if they
    are the hub's and the hub does not answer; None where timm is to look.

    huggingface_hub 2.4 asks six times for each of two files before it gives
    up, which takes a minute. One question without repetition tells as much.

    Args:
        model_name: For the message.
        model: Made by timm.

    Raises:
        CheckpointUnavailable: There is no such file.
    """
    cfg = model.pretrained_cfg
    repository, _, revision = (cfg.get('hf_hub_id') or '').partition('@')
    if not repository:
        return None
    try:
        import huggingface_hub as hub
    except ImportError:
        return None  # timm takes the weights from another place
    try:
        hub.get_session().head(hub.constants.ENDPOINT, timeout=SECONDS)
        return None
    except Exception as error:  # its clients have no common one
        reason = error
    for name in (cfg.get('hf_hub_filename'), *FILES):
        path = name and hub.try_to_load_from_cache(
            repository, name, revision=revision or None)
        if isinstance(path, str):
            return path
    raise weights_error(model_name, "pretrained='FILE' with a local file",
                        reason) from reason


def compare_with_file(model_name: str, options: dict[str, Any], file: str,
                      features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Load a file into timm's whole model, to see whether it belongs to it;
    its weights.

    timm's feature extractors take whatever they find in a file: they would
    leave out half of a deeper model and say nothing.

    Args:
        model_name: As :func:`timm.create_model` takes it.
        options: As for the feature extractor.
        file: The local file.
        features: The weights of the feature extractor: other parts may be
            missing in the file, and the classifier may have other classes.

    Raises:
        CheckpointMismatch: It does not.
        CorruptCheckpoint, UnsafeCheckpoint: The file cannot be read.
    """
    overlay = dict_of(options, 'pretrained_cfg_overlay')
    options = {key: value for key, value in options.items()
               if key not in ('out_indices', 'feature_cls',
                              'pretrained_cfg_overlay')}
    timm = import_timm()
    with torch.device('meta'):
        whole = timm.create_model(model_name, **options)
    weights = read_weights(file, whole.state_dict())
    try:
        with isolate_rng(0):
            timm.create_model(
                model_name, pretrained=True, pretrained_cfg_overlay={
                    **overlay, 'file': None, 'state_dict': dict(weights)},
                **options)
        return weights
    except RuntimeError as error:
        found = differences_in(str(error))
        cause: Exception = error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # A family's own renaming stumbled over the names.
        found = differences(weights, whole.state_dict())
        cause = error
    classifier = whole.pretrained_cfg.get('classifier') or ()
    found = found.without([classifier] if isinstance(classifier, str)
                          else classifier)
    # The features' children are called stages_0 for stages.0.
    needed = {name.replace('.', '_') for name in features}
    missing = [n for n in found.missing if n.replace('.', '_') in needed]
    found = found._replace(missing=missing)
    if any(found):
        raise mismatch(model_name, file, found, features, weights) from cause
    return weights


def import_timm() -> ModuleType:
    """timm, which only this backbone needs.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            'TimmBackbone needs timm, which cannot be imported '
            f'({error}): pip install timm (the extra mtpd[timm])') from error
    return timm
