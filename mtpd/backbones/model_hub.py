"""Weights of Hugging Face's hub, where there may be no network.

huggingface_hub 2.4 asks six times for each of two files before it gives up,
which takes a minute. One question without repetition tells as much.
"""
from typing import Any

from .strides import weights_error

SECONDS = 10
"""How long the hub may take to answer."""

FILES = ('model.safetensors', 'pytorch_model.bin')
"""The files that timm takes from a repository of the hub."""


def file_without_network(model_name: str, model: Any) -> str | None:
    """The file in which an earlier run has left a model's weights, if they
    are the hub's and the hub does not answer; None where timm is to look.

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
        from huggingface_hub.utils import get_session
    except ImportError:
        return None  # timm takes the weights from another place
    try:
        get_session().head(hub.constants.ENDPOINT, timeout=SECONDS)
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
