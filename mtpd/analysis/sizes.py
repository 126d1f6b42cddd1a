"""Size of a detector and cost of one image; no trained weights needed."""
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Callable, Sequence

import torch
import yaml
from mmdet.models.backbones.csp_darknet import Focus
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.utils import get_installed_path
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mtpd.config_types import type_name
from mtpd.data.image_sizes import largest_sizes
from mtpd.randomness import isolate_rng
from mtpd.search.images import test_pipeline


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiply-adds of a detector for one image.

    Attributes:
        network: Of the whole network.
        backbone: Of the backbone alone.
    """
    network: int
    backbone: int


def parameters(detector: BaseDetector) -> int:
    """Number of parameters, frozen ones included."""
    return sum(p.numel() for p in detector.parameters())


def network_pass(detector: BaseDetector,
                 size: Sequence[int]) -> Callable[[], Any]:
    """A function that runs one image through a detector, to be timed.

    Normalisation and padding, then backbone, neck and heads, without the
    post-processing of detections. A two-stage detector's box head gets the
    proposals of its RPN (1000 boxes with mmdet's usual settings), its mask
    head 100 of these. Pixels are drawn with seed 0.

    Args:
        detector: Is moved to mmengine's device and put into eval mode.
        size: Width and height of the image, in pixels.
    """
    width, height = size
    with isolate_rng(0):
        pixels = torch.randint(0, 256, (_channels(detector), height, width),
                               dtype=torch.uint8)
    sample = DetDataSample(metainfo=dict(
        img_id=0, ori_shape=(height, width), img_shape=(height, width),
        scale_factor=(1., 1.), flip=False))
    batch = dict(inputs=[pixels], data_samples=[sample])
    detector.to(get_device()).eval()

    @torch.no_grad()
    def run() -> Any:
        return detector(**detector.data_preprocessor(batch), mode='tensor')
    return run


def _channels(detector: BaseDetector) -> int:
    """Of the images that a detector takes."""
    mean = getattr(detector.data_preprocessor, 'mean', None)
    if mean is not None and mean.numel() > 1:
        return int(mean.numel())
    # One mean may stand for all channels.
    for module in detector.backbone.modules():
        if isinstance(module, Focus):  # four pixels are one position
            return int(module.conv.conv.in_channels) // 4
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def multiply_adds(detector: BaseDetector,
                  run: Callable[[], Any]) -> MultiplyAdds:
    """Multiply-adds, counted while ``run`` runs the detector once.

    Counted are convolutions (transposed, grouped and deformable ones
    included), matrix products and attention; bilinear sampling,
    normalisations, activations and pooling are left out. One multiplication
    and one addition together count as one. The published GFLOPs of a detector
    are mostly this number.

    Args:
        detector: The detector.
        run: Its :func:`network_pass`.
    """
    counter = FlopCounterMode(display=False, custom_mapping={
        torch.ops.torchvision.deform_conv2d: _deformable})
    # On a CPU, attention is fused into one operator that has no formula.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    flops = counter.get_flop_counts()
    backbone = flops.get(f'{type(detector).__name__}.backbone', {})
    # torch counts a multiplication and an addition as two.
    return MultiplyAdds(sum(flops.get('Global', {}).values()) // 2,
                        sum(backbone.values()) // 2)


def _deformable(_input: Sequence[int], weight: Sequence[int], *_: Any,
                out_shape: Sequence[int], **__: Any) -> int:
    """FLOPs of torchvision's deformable convolution, which replaces mmcv's
    where mmcv has no compiled code: those of a convolution of its shape."""
    return 2 * out_shape[0] * prod(out_shape[2:]) * prod(weight)


def test_size(cfg: Config) -> tuple[int, int] | None:
    """Width and height that a config's test pipeline resizes to at most, and
    then crops or pads to; None if it does not resize to one size."""
    if not cfg.get('val_dataloader'):
        return None
    steps = test_pipeline(cfg)
    for step in steps:
        if type_name(step['type']) == 'Resize' and step.get('scale'):
            scale = step['scale']
            width, height = (scale, scale) if isinstance(scale, int) else scale
            # Of an image as wide and high as the bounds.
            sizes = largest_sizes(dict(pipeline=steps), [(height, width)])
            return (sizes[0][1], sizes[0][0]) if len(sizes) == 1 else None
    return None


vars(test_size)['__test__'] = False  # or pytest would run it, by its name


def zoo_ap(config: str) -> float | None:
    """Box AP on COCO, in percent, from an installed package's model zoo; None
    if the zoo has none.

    Args:
        config: ``mmdet::family/name.py``; a path has no entry in a zoo.
    """
    package, separator, name = config.partition('::')
    if not separator:
        return None
    file = Path(get_installed_path(package), '.mim', 'configs', name
                ).with_name('metafile.yml')
    if not file.is_file():
        return None
    models = yaml.safe_load(file.read_text())
    if isinstance(models, dict):  # some families write the list alone
        models = models['Models']
    for model in models:
        if model.get('Config') == f'configs/{name}':
            for result in model.get('Results') or ():
                if 'box AP' in result.get('Metrics', {}):
                    return float(result['Metrics']['box AP'])
    return None
