"""What a progression will take, from three real steps of every stage."""
import resource
import statistics
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Mapping

import torch
import torch.nn.functional as F
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.optim import build_optim_wrapper

from mtpd.distill.adapters import STARTS
from mtpd.plan.plan import Plan, PlanError, inner_datasets, stage_label
from mtpd.plan.student_names import turn_on_as_the_runner
from mtpd.randomness import isolate_rng
from mtpd.stage.config import stage_config

STEPS = 3


@dataclass(frozen=True)
class StageEstimate:
    """Measured on three steps at the largest training size.

    Attributes:
        teacher: The stage's teacher.
        size: (height, width) of the batch in pixels.
        seconds: Median seconds of a step.
        peak: Peak memory in bytes, of the GPU or of the whole process.
        steps: Steps of the stage.
    """
    teacher: str
    size: tuple[int, int]
    seconds: float
    peak: int
    steps: int

    @property
    def hours(self) -> float:
        """Hours of training, without validation and data loading."""
        return self.seconds * self.steps / 3600

    def __str__(self) -> str:
        return (f'{self.teacher}: {self.size[1]}x{self.size[0]}, '
                f'{self.seconds:.3g} s per step, peak '
                f'{self.peak / 2 ** 30:.2f} GiB, {self.steps} steps, '
                f'{self.hours:.2f} h')


def probe(plan: Plan, order: tuple[tuple[str, ...], ...]
          ) -> list[StageEstimate]:
    """Three real steps with every stage's teacher; nothing of them is kept.

    Raises:
        PlanError: A stage does not fit into the GPU's memory.
    """
    estimates = []
    cfg = plan.student.config
    with isolate_rng(0):
        for index, names in enumerate(order, 1):
            stage = _without_fitting(stage_config(
                plan, index, names, plan.student.checkpoint, {}))
            dataset = DATASETS.build(stage.train_dataloader.dataset)
            if hasattr(dataset, 'full_init'):
                dataset.full_init()
            batch, size = _largest_batch(cfg, dataset)
            estimates.append(_one_stage(stage, index, stage_label(names),
                                        batch, size, len(dataset)))
    return estimates


def _without_fitting(cfg: Config) -> Config:
    """Fitted maps are made when a stage starts; time and memory are those of
    any start."""
    if cfg.model.init_adapters not in (None, *STARTS):
        cfg.model.init_adapters = 'random'
    return cfg


def _one_stage(cfg: Config, index: int, name: str, batch: Mapping[str, Any],
               size: tuple[int, int], images: int) -> StageEstimate:
    cuda = torch.cuda.is_available()
    device = get_device()
    try:
        model = MODELS.build(cfg.model)
        model.init_weights()
        model = model.to(device).train()
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
        turn_on_as_the_runner(model, cfg)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(STEPS):
            start = time.perf_counter()
            model.train_step(batch, optimizer)
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    except torch.OutOfMemoryError as error:
        raise PlanError([
            f'Stage {index} ({name}) does not fit into the memory of {device} '
            f'at {size[1]}x{size[0]}, batch '
            f'{cfg.train_dataloader.batch_size}: '
            f'{str(error).splitlines()[0]} Reduce '
            'train_dataloader.batch_size (with --auto-scale-lr), or train '
            'with --amp; --no-probe skips this check.']) from error
    peak = torch.cuda.max_memory_allocated() if cuda else \
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    train = cfg.train_cfg
    per_epoch = -(-images // (cfg.train_dataloader.batch_size
                              * get_world_size()))
    steps = train.max_iters if 'max_iters' in train \
        else train.max_epochs * per_epoch
    del model, optimizer
    if cuda:
        torch.cuda.empty_cache()
    return StageEstimate(name, size, statistics.median(seconds), peak, steps)


def _largest_batch(cfg: Config, dataset: Any
                   ) -> tuple[dict[str, Any], tuple[int, int]]:
    """A batch of real training images on the largest canvas that occurs.

    Images are enlarged by padding, boxes stay: what counts for time and
    memory is the size.
    """
    count = cfg.train_dataloader.batch_size
    samples = [dataset[i % len(dataset)] for i in range(count)]
    sizes = [tuple(s['inputs'].shape[-2:]) for s in samples]
    sizes += _resized(cfg, dataset)
    if count > 1:  # a batch is padded to its highest and its widest image
        height, width = (max(side) for side in zip(*sizes, strict=True))
    else:
        height, width = max(sizes, key=lambda size: size[0] * size[1])
        height = max(height, samples[0]['inputs'].shape[-2])
        width = max(width, samples[0]['inputs'].shape[-1])
    for sample in samples:
        image = sample['inputs']
        sample['inputs'] = F.pad(image, (0, width - image.shape[-1],
                                         0, height - image.shape[-2]))
        for scale, view in sample.get('teacher_inputs', {}).items():
            # May lack a row or a column of what rounding gives.
            sample['teacher_inputs'][scale] = F.pad(view, (
                0, max(0, int(width * Fraction(scale)) - view.shape[-1]),
                0, max(0, int(height * Fraction(scale)) - view.shape[-2])))
    return pseudo_collate(samples), (height, width)


def _resized(cfg: Config, dataset: Any) -> list[tuple[int, int]]:
    """(height, width) that each image's sides come to at each scale.

    With ``keep_ratio`` a scale bounds both edges, and a bound that no image
    reaches (4200 in DETR's pipelines) costs nothing.
    """
    while not hasattr(dataset, 'get_data_info'):  # mosaics and the like
        dataset = dataset.dataset
    scales = _scales(cfg)
    shapes = set()
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        if 'height' in info and 'width' in info:
            shapes.add((info['height'], info['width']))
    found = []
    for height, width in shapes:
        for scale, keep_ratio in scales:
            factor = min(max(scale) / max(height, width),
                         min(scale) / min(height, width))
            found.append((round(height * factor), round(width * factor))
                         if keep_ratio else scale[::-1])
    return found


def _scales(cfg: Config) -> list[tuple[tuple[int, int], bool]]:
    """All (width, height) that the training pipelines resize to, and whether
    the aspect ratio is kept."""
    found: list[tuple[tuple[int, int], bool]] = []

    def walk(step: Any) -> None:
        if isinstance(step, (list, tuple)):
            for inner in step:
                walk(inner)
        elif isinstance(step, Mapping):
            scales = step.get('scales') or (
                [step['scale']] if step.get('scale') else [])
            if scales and not isinstance(scales[0], (list, tuple)):
                scales = [scales]
            if 'Resize' in str(step.get('type')):
                found.extend(((s[0], s[1]), step.get('keep_ratio', False))
                             for s in scales
                             if isinstance(s, (list, tuple)) and len(s) == 2)
            walk(step.get('transforms', []))

    for _, inner in inner_datasets(cfg.train_dataloader.dataset, ''):
        walk(inner.get('pipeline', []))
    return found
