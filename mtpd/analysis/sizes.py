"""How large a detector is and what an image costs it; no weights needed."""
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Callable, Sequence

import torch
import yaml
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.utils import get_installed_path
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mtpd.randomness import isolate_rng
from mtpd.search.images import test_pipeline


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiply-adds of one image's way through a network.

    Attributes:
        network: All of them.
        backbone: Those of the backbone.
    """
    network: int
    backbone: int


def parameters(detector: BaseDetector) -> int:
    """How many numbers it learns, frozen ones included."""
    return sum(p.numel() for p in detector.parameters())


def network_pass(detector: BaseDetector,
                 size: Sequence[int]) -> Callable[[], Any]:
    """What one image costs, as a function to be called and timed.

    Normalisation and padding, then backbone, neck and heads, without the
    post-processing of what was detected. A two-stage detector's box head gets
    what its RPN proposes (1000 boxes with mmdet's usual settings), its mask
    head 100 of these. Pixels are drawn with seed 0.

    Args:
        detector: Its device is taken; it is put into eval.
        size: Width and height of the image, in pixels.
    """
    width, height = size
    with isolate_rng(0):
        pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    sample = DetDataSample(metainfo=dict(
        img_id=0, ori_shape=(height, width), img_shape=(height, width),
        scale_factor=(1., 1.), flip=False))
    batch = dict(inputs=[pixels], data_samples=[sample])
    detector.to(get_device()).eval()

    @torch.no_grad()
    def run() -> Any:
        return detector(**detector.data_preprocessor(batch), mode='tensor')
    return run


def multiply_adds(detector: BaseDetector,
                  run: Callable[[], Any]) -> MultiplyAdds:
    """Counted while ``run`` runs the detector once.

    Of convolutions (transposed, grouped and deformable ones included), matrix
    products and attention; bilinear sampling, normalisations, activations and
    pooling are left out. What is called GFLOPs of a detector is mostly this:
    one multiplication and one addition together count as one.

    Args:
        detector: Whose modules are told apart.
        run: Its :func:`network_pass`.
    """
    counter = FlopCounterMode(display=False, custom_mapping={
        torch.ops.torchvision.deform_conv2d: _deformable})
    # Fused for speed on a CPU, attention is one operator without a formula.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    of = counter.get_flop_counts()
    # torch counts a multiplication and an addition as two.
    return MultiplyAdds(*(sum(of.get(key, {}).values()) // 2 for key in (
        'Global', f'{type(detector).__name__}.backbone')))


def _deformable(_input: Sequence[int], weight: Sequence[int], *_: Any,
                out_shape: Sequence[int], **__: Any) -> int:
    """FLOPs of torchvision's deformable convolution, which mmcv's become
    without compiled code: those of the convolution of its shape."""
    return 2 * out_shape[0] * prod(out_shape[2:]) * prod(weight)


def test_size(cfg: Config) -> tuple[int, int] | None:
    """Width and height of the largest image that a config tests on; None
    where its pipeline does not resize to one size."""
    if not cfg.get('val_dataloader'):
        return None
    for step in test_pipeline(cfg):
        if step['type'] == 'Resize' and 'scale' in step:
            return tuple(step['scale'])
    return None


vars(test_size)['__test__'] = False  # by its name pytest would run it


def zoo_ap(config: str) -> float | None:
    """Box AP on COCO that an installed package's model zoo states.

    Args:
        config: ``mmdet::family/name.py``; of a file nothing is stated.
    """
    package, separator, name = config.partition('::')
    if not separator:
        return None
    file = Path(get_installed_path(package), '.mim', 'configs', name
                ).with_name('metafile.yml')
    if not file.is_file():
        return None
    listed = yaml.safe_load(file.read_text())
    # Most families write {Models: [...]}, some the list alone.
    for model in listed['Models'] if isinstance(listed, dict) else listed:
        if model.get('Config') == f'configs/{name}':
            for result in model.get('Results') or ():
                if 'box AP' in result.get('Metrics', {}):
                    return float(result['Metrics']['box AP'])
    return None
