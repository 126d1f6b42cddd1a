"""Pretrained weights in files, and whether they are those of the model."""
import os
import re
from typing import Iterable, Mapping, NamedTuple

from mmengine.logging import print_log
from torch import Tensor

from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     fetch_checkpoint, read_checkpoint)
from mtpd.compat.state_dicts import AmbiguousWeights, find_weights
from mtpd.distill.detector import CheckpointMismatch

from .imagenet_files import has_flat_blocks

COUNTER = '.num_batches_tracked'
"""Of batch norms; files of torch before 0.4.1 lack it."""


class Differences(NamedTuple):
    """What a file of weights and a model do not share.

    Attributes:
        missing: Names that only the model has.
        unexpected: Names that only the file has.
        reshaped: Names whose tensors have another shape in the file.
    """
    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]

    def without(self, prefixes: Iterable[str]) -> 'Differences':
        """The same without the names of some parts of the model."""
        starts = tuple(f'{prefix}.' for prefix in prefixes)
        lists = []
        for names in self:
            lists.append([n for n in names if not n.startswith(starts)])
        return Differences(*lists)


def is_file(pretrained: object) -> bool:
    """Whether a backbone's ``pretrained`` names a file or URL.

    Raises:
        ValueError: It is neither this nor True, False or None.
    """
    if isinstance(pretrained, (str, os.PathLike)) and str(pretrained):
        return True
    if pretrained is None or isinstance(pretrained, bool):
        return False
    raise ValueError(f'model.backbone.pretrained is {pretrained!r}; it has to '
                     'be True, False or a file.')


def local_file(path: str, name: str) -> str:
    """Where a file of weights lies; a URL is downloaded once.

    Args:
        path: As in the config.
        name: Of the model, for the message.

    Raises:
        CheckpointUnavailable: There is no such file, or no network.
    """
    try:
        return fetch_checkpoint(path)
    except FileNotFoundError as error:
        raise CheckpointUnavailable(
            f'model.backbone: the pretrained weights of {name} in {path} '
            f'could not be read: there is no such file (working folder: '
            f'{os.getcwd()}). Correct the path; tools/get_weights.py makes '
            'files for some models.') from error


def read_weights(path: str, expected: Mapping[str, Tensor]
                 ) -> dict[str, Tensor]:
    """The tensors in a file, by their names in the model.

    Args:
        path: Of a local file, pickled or ``.safetensors``.
        expected: The model's own.

    Raises:
        CheckpointMismatch: It holds several models that fit equally.
        CorruptCheckpoint, UnsafeCheckpoint: It cannot be read.
    """
    if path.endswith('.safetensors'):
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        try:
            return load_file(path)
        except SafetensorError as error:
            raise CorruptCheckpoint(f'{path} is no whole .safetensors file '
                                    f'({error}). Get it once more.') from error
    try:
        weights, notes, _ = find_weights(read_checkpoint(path), expected)
    except AmbiguousWeights as error:
        raise CheckpointMismatch(
            f'model.backbone.pretrained: {path} {error}') from error
    if notes:
        print_log(f'model.backbone.pretrained: {path}: {"; ".join(notes)}',
                  logger='current')
    return weights


def differences(weights: Mapping[str, Tensor],
                expected: Mapping[str, Tensor]) -> Differences:
    """What a file's weights and a model's do not share.

    Args:
        weights: The file's.
        expected: The model's own.
    """
    missing, reshaped = [], []
    for name, value in expected.items():
        if name in weights:
            if weights[name].shape != value.shape:
                reshaped.append(name)
        elif not name.endswith(COUNTER):
            missing.append(name)
    return Differences(missing, [n for n in weights if n not in expected],
                       reshaped)


def differences_in(message: str) -> Differences:
    """The same from torch's error message of a strict load."""
    missing: list[str] = []
    unexpected: list[str] = []
    for line in message.splitlines():
        if 'Missing key(s)' in line:
            missing = re.findall('"([^"]+)"', line)
        elif 'Unexpected key(s)' in line:
            unexpected = re.findall('"([^"]+)"', line)
    return Differences(missing, unexpected,
                       re.findall(r'size mismatch for (\S+): ', message))


def mismatch(name: str, path: str, found: Differences,
             expected: Iterable[str], given: Iterable[str]
             ) -> CheckpointMismatch:
    """The error to raise if a file's weights are those of another model.

    Args:
        name: Of the model.
        path: Of the file.
        found: What does not agree.
        expected: The model's names.
        given: The file's names.
    """
    given = list(given)
    own = [n for n in expected if not n.endswith(COUNTER)]
    matched = len(own) - len(found.reshaped) - sum(
        not n.endswith(COUNTER) for n in found.missing)
    text = ''
    for kind, names in zip(('missing in the file', 'not in the model',
                            'of another shape'), found, strict=True):
        if names:
            more = f', and {len(names) - 4} more' if len(names) > 4 else ''
            text += f'\n  {kind}: {", ".join(names[:4])}{more}'
    if has_flat_blocks(given):
        cure = 'It has the names of EfficientNet-PyTorch: python ' \
            'tools/get_weights.py MODEL --file FILE writes it with those of ' \
            'timm.'
    elif any(n.startswith('backbone.') for n in given):
        cure = 'It is the checkpoint of a detector: set pretrained=False ' \
            "and init_cfg=dict(type='Pretrained', checkpoint=FILE, " \
            "prefix='backbone.')."
    else:
        cure = 'Name the model that the file belongs to in model_name, or ' \
            'another file; pretrained=False starts from random weights.'
    return CheckpointMismatch(
        f'model.backbone: {path} does not hold the weights of {name}: '
        f'{matched} of {len(own)} tensors match.{text}\n{cure}')
