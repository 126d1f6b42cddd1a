"""What a progression will take, from three real steps of every stage."""
import copy
import math
import resource
import statistics
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Mapping, Sequence

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.logging import MessageHub, print_log
from mmengine.optim import build_optim_wrapper

from mtpd.config_types import dict_of, type_name
from mtpd.data.image_files import size_in_header
from mtpd.data.image_sizes import Size, largest_sizes
from mtpd.data.readable import readable_sample
from mtpd.distill.adapters import STARTS
from mtpd.distill.pyramid import evaluation_mode
from mtpd.plan.data_check import batches_of
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan, Stages, stage_label
from mtpd.plan.predictions import predict
from mtpd.plan.settings import as_list
from mtpd.plan.student_names import turn_on_as_the_runner
from mtpd.randomness import isolate_rng
from mtpd.stage.config import stage_config
from mtpd.stage.runner import move_to_cpu
from mtpd.stage.unlabelled import BATCH_KEY

STEPS = 3
HEADERS = 500
"""Files of a folder whose sizes are looked at."""


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
    size: Size
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


def probe(plan: Plan, order: Stages,
          pool: Mapping[str, BaseDetector] | None = None
          ) -> list[StageEstimate]:
    """Three real steps with every stage's teacher, logged; nothing of them is
    kept.

    Args:
        plan: The progression.
        order: Its stages.
        pool: The built teachers by name; those that are missing are built
            from their configs.

    Raises:
        PlanError: A stage does not fit into the GPU's memory.
    """
    estimates = []
    with isolate_rng(0):
        for index, names in enumerate(order, 1):
            cfg = stage_config(plan, index, names, plan.student.checkpoint,
                               {})
            if cfg.model.init_adapters not in (None, *STARTS):
                # Fitted maps are made when a stage starts; time and memory
                # are those of any start.
                cfg.model.init_adapters = 'random'
            dataset = DATASETS.build(cfg.train_dataloader.dataset)
            if hasattr(dataset, 'full_init'):
                dataset.full_init()
            batch, size = largest_batch(plan.student.config, dataset)
            if cfg.train_cfg.get('unlabelled'):
                batch[BATCH_KEY] = unlabelled_batch(cfg.train_cfg.unlabelled,
                                                    size)
            try:
                seconds, peak = _timed_steps(cfg, batch, pool)
            except torch.OutOfMemoryError as error:
                raise PlanError([
                    f'Stage {index} ({stage_label(names)}) does not fit into '
                    f'the memory of {get_device()} at {size[1]}x{size[0]}, '
                    f'batch {cfg.train_dataloader.batch_size}: '
                    f'{str(error).splitlines()[0]} Reduce '
                    'train_dataloader.batch_size (with --auto-scale-lr), or '
                    'train with --amp; --no-probe skips this check.']) \
                    from error
            train = cfg.train_cfg
            steps = train.get('max_iters')
            if steps is None:
                steps = train.max_epochs * batches_of(
                    len(dataset), cfg.train_dataloader)
            estimates.append(StageEstimate(
                stage_label(names), size, seconds, peak, steps))
            print_log(f'Probe of stage {index}, {estimates[-1]}',
                      logger='current')
    hours = sum(estimate.hours for estimate in estimates)
    print_log(f'In all {hours:.2f} h of training (validation and data loading '
              'not counted)', logger='current')
    return estimates


def try_prediction(plan: Plan, student: BaseDetector) -> None:
    """Let the student predict its first validation images, as the first
    validation will after hours.

    Args:
        plan: The progression.
        student: Built; moved to the device.

    Raises:
        PlanError: It cannot.
    """
    loader = plan.student.config.val_dataloader
    dataset = DATASETS.build(copy.deepcopy(loader.dataset))
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    count = min(loader.get('batch_size') or 1, len(dataset))
    with isolate_rng(0), torch.no_grad(), evaluation_mode(student):
        samples = [readable_sample(dataset, i) for i in range(count)]
        predict(student.to(get_device()), pseudo_collate(samples),
                plan.student.field, 'as the validation of every stage does',
                '; --no-probe skips this check')


def _timed_steps(cfg: Config, batch: Mapping[str, Any],
                 pool: Mapping[str, BaseDetector] | None
                 ) -> tuple[float, int]:
    """Median seconds of a step, and the peak of the memory in bytes."""
    cfg = copy.deepcopy(cfg)
    # The batch has the largest size already.
    dict_of(cfg, 'model.student.data_preprocessor').pop('batch_augments', None)
    model = MODELS.build(cfg.model, default_args=dict(built=pool))
    model.init_weights()
    model = model.to(get_device()).train()
    # A Runner sets them before each step; TOOD's head reads one.
    for key in ('epoch', 'iter'):
        MessageHub.get_current_instance().update_info(key, 0)
    for branch in model.guidances:
        if branch.auto is not None:  # looking for a weight takes memory, too
            branch.auto.fit_into(STEPS)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    turn_on_as_the_runner(model, cfg)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        model.train_step(batch, optimizer)
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if cuda else \
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    move_to_cpu(pool or {})
    del model, optimizer
    if cuda:
        torch.cuda.empty_cache()
    return statistics.median(seconds), peak


def unlabelled_batch(part: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """A batch of images without labels, on the largest canvas that occurs,
    and no smaller one than that of the labelled images.

    Args:
        part: What the stage's loop is given.
        size: (height, width) of the canvas in pixels.
    """
    dataset = DATASETS.build(part['dataset'])
    samples = [readable_sample(dataset, i % len(dataset))
               for i in range(part['batch_size'])]
    sizes = [size, *(tuple(s['inputs'].shape[-2:]) for s in samples),
             *largest_sizes(part['dataset'], _shapes(dataset))]
    return _enlarged(samples, *_canvas(sizes, samples))


def largest_batch(cfg: Config, dataset: Any) -> tuple[dict[str, Any], Size]:
    """A batch of real training images on the largest canvas that occurs.

    Images are enlarged by padding, boxes stay: what counts for time and
    memory is the size.
    """
    count = cfg.train_dataloader.batch_size
    samples = [dataset[i % len(dataset)] for i in range(count)]
    sizes = [tuple(sample['inputs'].shape[-2:]) for sample in samples]
    sizes += largest_sizes(cfg.train_dataloader.dataset, _shapes(dataset))
    size = _resized(cfg, _canvas(sizes, samples))
    return _enlarged(samples, *size), size


def _resized(cfg: Config, size: Size) -> Size:
    """The largest size to which YOLOX's preprocessor resizes a batch; that of
    the batch where none does."""
    for augment in as_list(dict_of(
            cfg, 'model.data_preprocessor').get('batch_augments')):
        if type_name(augment.get('type')) == 'BatchSyncRandomResize':
            divisor = augment.get('size_divisor', 32)
            steps = round(augment.random_size_range[1] / divisor)
            wider = divisor * steps, divisor * int(size[1] / size[0] * steps)
            size = max(size, wider, key=math.prod)
    return size


def _canvas(sizes: Sequence[Size], samples: Sequence[Mapping]) -> Size:
    """The largest one of batches of as many images as there are samples."""
    if len(samples) == 1:
        largest = max(sizes, key=lambda size: size[0] * size[1])
        sizes = [largest, tuple(samples[0]['inputs'].shape[-2:])]
    # A batch is padded to its highest and its widest image.
    height, width = (max(side) for side in zip(*sizes, strict=True))
    return height, width


def _enlarged(samples: list[dict[str, Any]], height: int,
              width: int) -> dict[str, Any]:
    """A batch whose images are padded to one size in pixels."""
    for sample in samples:
        image = sample['inputs']
        sample['inputs'] = F.pad(image, (0, width - image.shape[-1],
                                         0, height - image.shape[-2]))
        for scale, view in sample.get('teacher_inputs', {}).items():
            # May lack a row or a column of what rounding gives.
            right = int(width * Fraction(scale)) - view.shape[-1]
            below = int(height * Fraction(scale)) - view.shape[-2]
            sample['teacher_inputs'][scale] = F.pad(
                view, (0, max(0, right), 0, max(0, below)))
    return pseudo_collate(samples)


def _shapes(dataset: Any) -> set[Size]:
    """(height, width) of the images in their files, where these are known;
    of images in a folder, those of some hundred."""
    while not hasattr(dataset, 'get_data_info'):  # mosaics and the like
        dataset = dataset.dataset
    shapes, unknown = set(), []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        if 'height' in info and 'width' in info:
            shapes.add((info['height'], info['width']))
        else:
            unknown.append(info.get('img_path'))
    for path in unknown[::len(unknown) // HEADERS + 1]:
        size = size_in_header(path) if path else None
        if size is not None:
            shapes.add(size)
    return shapes
