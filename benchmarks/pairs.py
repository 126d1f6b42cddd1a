"""One real training step of full-size pairs from mmdet's own configs.

    OMP_NUM_THREADS=1 python benchmarks/pairs.py --markdown docs/pairs.md

Each pair is built at full size with random weights (nothing is downloaded),
trained for one step on one drawn image of 416x512 pixels, measured and
dropped before the next: 3 GB of memory, some minutes on one CPU core. Without
``--markdown`` the table is printed only.
"""
import argparse
import gc
import sys
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Iterator, Mapping

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

import mtpd  # registers everything
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs

from mtpd.distill.adapters import PyramidAdapter
from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import DetectorSpec, load_config
from mtpd.randomness import isolate_rng

SIZE = (416, 512)

MOBILENET = ('retinanet/retinanet_r50_fpn_1x_coco.py',
             'mobilenetv3_large_100')
"""A config of mmdet and the timm model that takes its backbone's place."""

PAIRS = (
    ('retinanet/retinanet_r50_fpn_1x_coco.py',
     'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'),
    ('retinanet/retinanet_r50_fpn_1x_coco.py',
     'retinanet/retinanet_x101-64x4d_fpn_1x_coco.py'),
    ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
     'detectors/detectors_htc-r50_1x_coco.py'),
    ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
     'htc/htc_r50_fpn_1x_coco.py'),
    ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
     'dcn/cascade-mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py'),
    ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
     'dcn/cascade-mask-rcnn_x101-32x4d-dconv-c3-c5_fpn_1x_coco.py'),
    ('reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco.py',
     'reppoints/reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py'),
    ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
     'fcos/fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco.py'),
    ('atss/atss_r50_fpn_1x_coco.py',
     'swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py'),
    ('gfl/gfl_r50_fpn_1x_coco.py',
     'gfl/gfl_x101-32x4d-dconv-c4-c5_fpn_ms-2x_coco.py'),
    ('rtmdet/rtmdet_s_8xb32-300e_coco.py',
     'rtmdet/rtmdet_l_8xb32-300e_coco.py'),
    ('swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
     'retinanet/retinanet_x101-64x4d_fpn_1x_coco.py'),
    ('rtmdet/rtmdet_s_8xb32-300e_coco.py',
     'retinanet/retinanet_x101-64x4d_fpn_1x_coco.py'),
    ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
     'yolox/yolox_x_8xb8-300e_coco.py'),
    ('retinanet/retinanet_r50_fpn_1x_coco.py',
     'dino/dino-4scale_r50_8xb2-12e_coco.py'),
    (MOBILENET, 'swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py'),
)

COLUMNS = ('student', 'teacher', 'strides', 'adapters', 'M')


@dataclass(frozen=True)
class Step:
    """What one step of a pair has shown.

    Attributes:
        student: Name of its config.
        teacher: Name of its config.
        strides: The paired levels.
        adapters: What stands at which of them.
        sizes: Parameters of student, teacher and what is trained beside the
            student, in millions.
        loss: All of it.
        distillation: The part of the loss that the teacher has made.
    """
    student: str
    teacher: str
    strides: tuple[int, ...]
    adapters: str
    sizes: tuple[float, float, float]
    loss: float
    distillation: float

    @property
    def finite(self) -> bool:
        """Whether both losses are numbers."""
        return isfinite(self.loss) and isfinite(self.distillation)

    def row(self) -> tuple[str, ...]:
        """As ``COLUMNS``."""
        return (self.student, self.teacher, span(self.strides), self.adapters,
                '/'.join(f'{size:.2f}' for size in self.sizes))


def name_of(config: str | tuple[str, str]) -> str:
    """``retinanet_r50_fpn_1x_coco``, and the backbone where it is another."""
    if isinstance(config, tuple):
        return f'{Path(config[0]).stem} on timm {config[1]}'
    return Path(config).stem


def model_of(config: str | tuple[str, str]) -> ConfigDict:
    """The model of mmdet's config, without weights to download."""
    path, timm = config if isinstance(config, tuple) else (config, None)
    cfg = load_config(f'mmdet::{path}')
    if timm:
        cfg.model.backbone = ConfigDict(type='TimmBackbone', model_name=timm)
        mtpd.backbones.fill_in_channels(cfg)
    model = DetectorSpec(name_of(config), cfg, None).model
    for part in _parts(model):
        for key in {'init_cfg', 'pretrained'} & part.keys():
            part[key] = None
    return model


def _parts(value: Any) -> Iterator[Mapping]:
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _parts(inner)


def write_random_weights(config: str | tuple[str, str], path: Path) -> str:
    """A checkpoint of a detector as mmdet initialises it."""
    detector = build_detector(model_of(config))
    detector.init_weights()
    # DetectoRS standardises its weights. Without these keys, gain and offset
    # come from the loaded weights, as with a plain ResNet; as constructed,
    # every layer multiplies by the root of its inputs, up to infinity.
    torch.save({key: value for key, value in detector.state_dict().items()
                if not key.endswith(('weight_gamma', 'weight_beta'))}, path)
    return str(path)


def span(strides: tuple[int, ...]) -> str:
    """``8-64`` for 8, 16, 32 and 64; others one by one."""
    doubled = tuple(strides[0] * 2**i for i in range(len(strides)))
    return f'{strides[0]}-{strides[-1]}' if strides == doubled \
        else ', '.join(map(str, strides))


def condensed(adapter: PyramidAdapter) -> str:
    """``none``, ``128>256``; ``1x1 conv 128 -> 256 at 8, 16; ...`` where the
    levels have different ones."""
    levels = [text.removeprefix('stride ').split(': ')
              for text in adapter.describe().split('; ')]
    runs = [(kind, [stride for stride, _ in run]) for kind, run
            in groupby(levels, key=lambda level: level[1])]
    if len(runs) == 1:
        return runs[0][0].replace('identity', 'none').removeprefix(
            '1x1 conv ').replace(' -> ', '>')
    return '; '.join(f'{kind} at {", ".join(strides)}'
                     for kind, strides in runs)


def millions(module: nn.Module) -> float:
    """Parameters."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def take_step(student: str | tuple[str, str], teacher: str | tuple[str, str],
              seed: int = 0) -> Step:
    """Build a pair at full size and train the student for one step.

    Args:
        student: A config of mmdet, with or without a timm backbone.
        teacher: The same.
        seed: Of all weights.
    """
    if DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance('pairs', scope_name='mmdet')
    with isolate_rng(seed), TemporaryDirectory() as folder:
        files = [write_random_weights(config, Path(folder) / f'{side}.pth')
                 for side, config in (('student', student),
                                      ('teacher', teacher))]
        model = MODELS.build(dict(
            type='FeatureDistiller', student=model_of(student),
            student_checkpoint=files[0],
            teachers=[dict(name='teacher', model=model_of(teacher),
                           checkpoint=files[1])],
            distill=dict(type='FeatureL2Loss'), init_adapters='random'))
        model.init_weights()
        branch, = model.guidances
        optimizer = build_optim_wrapper(model, dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-4)))
        batch = demo_mm_inputs(1, [(3, *SIZE)], num_items=[4], num_classes=80,
                               with_mask=model.student.with_mask)
        logged = model.train().train_step(batch, optimizer)
    return Step(
        name_of(student), name_of(teacher), branch.adapter.strides,
        condensed(branch.adapter),
        (millions(model.student), millions(branch.teacher.detector),
         millions(branch)), logged['loss'].item(),
        sum(value.item() for key, value in logged.items()
            if key.startswith('loss_distill')))


def table(steps: list[Step]) -> str:
    """In Markdown."""
    rows = [COLUMNS, ('---',) * len(COLUMNS), *(s.row() for s in steps)]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def page(steps: list[Step], seed: int) -> str:
    """The table, and the command and versions that made it."""
    versions = ', '.join(f'{name} {version(name)}' for name in (
        'torch', 'torchvision', 'mmdet', 'mmengine', 'timm'))
    size = f'{SIZE[0]}x{SIZE[1]}'
    command = ('python benchmarks/pairs.py '
               f'--seed {seed} --markdown docs/pairs.md')
    return f'''# Pairs at full size

Each pair of mmdet's own configs was built with random weights and trained by
`FeatureL2Loss` for one step on one image of {size}. This shows that it runs,
no more ([not run](not_run.md)). Adapters are 1x1 convolutions, such as
`128>256`, at all levels. M are millions of parameters of
student/teacher/adapters. Levels pair by [stride](method.md#one-step).

{table(steps)}

`{command}`:
{torch.get_num_threads()} CPU thread(s), {versions}.
`tests/distill/test_pairs.py` trains thin versions of these and other families.
'''


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--markdown', type=Path, help='file to write')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    steps = []
    for student, teacher in PAIRS:
        steps.append(take_step(student, teacher, args.seed))
        print('  '.join(steps[-1].row()), flush=True)
        gc.collect()  # mmengine's modules hold each other
    if args.markdown:
        args.markdown.write_text(page(steps, args.seed))
    else:
        print(table(steps))
    return 0 if all(step.finite for step in steps) else 1


if __name__ == '__main__':
    sys.exit(main())
