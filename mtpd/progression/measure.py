"""Frozen detectors and pictures -> their AP and their feature moments."""
import copy
import hashlib
import io
import json
import os
import statistics
import time
from contextlib import redirect_stdout
from fractions import Fraction
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import (all_gather_object, get_rank, get_world_size,
                           is_main_process)
from mmengine.evaluator import Evaluator
from mmengine.model.utils import stack_batch
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from mtpd.compat.atomic_files import atomic_write
from mtpd.data.teacher_view import with_teacher_view
from mtpd.distill.adapters import resample
from mtpd.distill.preprocessor import common_divisor
from mtpd.distill.teacher import FrozenTeacher
from mtpd.order.moments import FeatureMoments, fold_of

from .plan import DetectorSpec, PlanError, inner_datasets

FOLDS = 10

FIRST_LOOK = 64
"""Pictures after which a search that may stop early looks first."""


def validation_config(student: Config, own: Config | None = None) -> Config:
    """Loader and evaluator of a detector's box AP on the student's data.

    The pictures and annotations are the student's validation set; a teacher
    sees them through its own test pipeline, as it was trained to.

    Args:
        student: The student's config.
        own: The teacher's config; None for the student itself.
    """
    loader = copy.deepcopy(student.val_dataloader)
    if own is not None and own.get('val_dataloader'):
        # Annotations as the student loads them: its data set may lack masks.
        annotations = [step for step in test_pipeline(student)
                       if step['type'] == 'LoadAnnotations']
        steps = [new for step in test_pipeline(own) for new in (
            annotations if step['type'] == 'LoadAnnotations' else [step])]
        for _, dataset in inner_datasets(loader.dataset, ''):
            dataset.pipeline = steps
    evaluator = copy.deepcopy(student.val_evaluator)
    metrics = evaluator if isinstance(evaluator, (list, tuple)) \
        else [evaluator]
    coco = [m for m in metrics if m.get('type') == 'CocoMetric']
    if coco:
        # Boxes only, once: a pool may mix detectors with and without masks.
        coco[0].metric = 'bbox'
        evaluator = coco[0]
    return Config(dict(loader=loader, evaluator=evaluator))


def test_pipeline(cfg: Config) -> list[dict]:
    """A config's validation pipeline, also where its data set is wrapped."""
    _, dataset = next(inner_datasets(cfg.val_dataloader.dataset, ''))
    return dataset.pipeline


test_pipeline.__test__ = False  # by its name pytest would run it


def box_ap(detector: BaseDetector, validation: Config) -> float:
    """Box AP in percent; every process takes part and gets the same value.

    Raises:
        PlanError: The evaluator reports no mean AP.
    """
    loader = Runner.build_dataloader(validation.loader)
    evaluator = Evaluator(validation.evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    detector = detector.to(get_device()).eval()
    # pycocotools prints its own table; the caller prints one of all.
    with torch.no_grad(), redirect_stdout(io.StringIO()):
        for batch in loader:
            evaluator.process(data_samples=detector.val_step(batch),
                              data_batch=batch)
        metrics = evaluator.evaluate(len(loader.dataset))
    return 100 * mean_ap(metrics)


def latency(detector: BaseDetector, validation: Config) -> float:
    """Median seconds of a prediction, one picture at a time, pre-processing
    and post-processing included; after three that do not count."""
    loader = Runner.build_dataloader({**validation.loader, 'batch_size': 1})
    detector = detector.to(get_device()).eval()
    seconds = []
    with torch.no_grad():
        for _, batch in zip(range(3 + 20), loader):
            start = time.perf_counter()
            detector.val_step(batch)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:] or seconds)


def mean_ap(metrics: Mapping[str, float]) -> float:
    """The box mAP among an evaluator's metrics, in its own units (0 to 1).

    CocoMetric reports nothing at all where nothing was detected: 0.

    Raises:
        PlanError: There are metrics, and none is a mean AP.
    """
    if not metrics:
        return 0.0
    for ending in ('bbox_mAP', '/mAP'):
        for key, value in metrics.items():
            if key.endswith(ending):
                return float(value)
    raise PlanError([f'val_evaluator reports {sorted(metrics)}, none of which '
                     "is a mean AP of boxes. Use mmdet's CocoMetric (with "
                     "metric='bbox' among its metrics) or VOCMetric."])


def measured_aps(specs: Mapping[str, DetectorSpec],
                 detectors: Mapping[str, BaseDetector], student: Config,
                 cache: str) -> dict[str, float]:
    """Box AP of each detector on the student's validation set, in percent.

    Args:
        specs: What each is, by name.
        detectors: The built detectors, by name.
        student: The student's config.
        cache: A JSON file of what was measured before, by checkpoint hash and
            validation set.
    """
    known = json.load(open(cache)) if os.path.isfile(cache) else {}
    aps = {}
    for name, detector in detectors.items():
        validation = validation_config(
            student, None if name == 'student' else specs[name].config)
        checkpoint = specs[name].hash()
        key = f'{checkpoint}:{fingerprint(validation)}'
        if checkpoint is None or key not in known:
            known[key] = box_ap(detector, validation)
            if is_main_process() and checkpoint is not None:
                atomic_write(cache, json.dumps(known, indent=1).encode())
        aps[name] = known[key]
    return aps


def fingerprint(config: Mapping | list) -> str:
    """A hash of a config and of every annotation file that it names."""
    plain = config.to_dict() if hasattr(config, 'to_dict') else config
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True,
                                       default=str).encode())

    def walk(part: Any) -> None:
        if isinstance(part, (list, tuple)):
            for inner in part:
                walk(inner)
        elif isinstance(part, Mapping):
            path = os.path.join(part.get('data_root') or '',
                                str(part.get('ann_file') or ''))
            if part.get('ann_file') and os.path.isfile(path):
                with open(path, 'rb') as file:
                    digest.update(file.read())
            for inner in part.values():
                walk(inner)

    walk(plain)
    return digest.hexdigest()[:16]


def gather_moments(detectors: Mapping[str, BaseDetector], student: Config,
                   strides: tuple[int, ...],
                   progress: Callable[[int, int], None] = lambda *_: None,
                   scales: Mapping[str, Fraction] | None = None,
                   limit: int | None = None,
                   grids: Iterable[Fraction] | None = None,
                   enough: Callable[[dict[Fraction, FeatureMoments]], bool]
                   | None = None
                   ) -> dict[Fraction, FeatureMoments]:
    """Second moments of all detectors' maps over the training pictures.

    Each picture goes once through each detector. Pictures come from the
    training split through the student's test pipeline: nothing is random, no
    label is read. A batch holds pictures of one size, because a picture's maps
    change by a tenth when it is padded beside a larger one; what remains
    beyond a picture's edge is left out. A detector of another scale sees the
    same picture at its own, and all maps are taken to each grid as in training
    (``resample``). Several processes share the pictures and all of them return
    the whole sum.

    Args:
        detectors: Name -> detector, all with maps at ``strides``.
        student: The student's config.
        strides: Levels to gather.
        progress: Called with pictures done and pictures in all.
        scales: Name -> size of a detector's pictures over the student's; 1
            where a name is absent.
        limit: Take so many pictures, evenly spread over the split; None
            takes all.
        grids: The scales on whose grids moments are wanted; None for those of
            all detectors.
        enough: Asked with the sums of all processes whenever their pictures
            have doubled, from :data:`FIRST_LOOK` on; True ends the pass.
            Pictures then come in a random order, the same in every run.

    Returns:
        Scale -> moments on the grids of the detectors of this scale.
    """
    device = torch.device(get_device())
    views = {name: FrozenTeacher(d.to(device))
             for name, d in detectors.items()}
    scale = {name: (scales or {}).get(name, Fraction(1)) for name in views}
    # The padding of training (DistillDataPreprocessor), for the whole pool.
    divisor = common_divisor(1, [
        (d.data_preprocessor.pad_size_divisor, scale[name])
        for name, d in detectors.items()])
    moments = {grid: FeatureMoments(
        {s: {name: view.channels[s] for name, view in views.items()}
         for s in strides}, folds=FOLDS) for grid in grids
        or set(scale.values())}
    dataset = _pictures(student, [s for s in set(scale.values()) if s != 1])
    chosen = range(len(dataset)) if limit is None or limit >= len(dataset) \
        else [len(dataset) * i // limit for i in range(limit)]
    if enough is not None:
        chosen = torch.tensor(chosen)[torch.randperm(
            len(chosen), generator=torch.Generator().manual_seed(0))].tolist()
    done = 0

    def look_at(indices: Sequence[int]) -> dict[Fraction, FeatureMoments]:
        nonlocal done
        mine = indices[get_rank()::get_world_size()]
        for pictures, folds in _batches(Subset(dataset, mine), student):
            maps = {name: view(_normalised(
                detectors[name], pictures[str(scale[name])],
                int(divisor * scale[name]), device), strides)
                for name, view in views.items()}
            for grid, sums in moments.items():
                sizes = next({s: m.shape[-2:] for s, m in maps[name].items()}
                             for name in maps if scale[name] == grid)
                sums.add(
                    {name: {s: resample(m, sizes[s]) for s, m in own.items()}
                     for name, own in maps.items()}, folds,
                    _valid_positions(pictures[str(grid)][0].shape[-2:], sizes,
                                     len(folds), device))
            done += len(folds)
            progress(min(done * get_world_size(), len(chosen)), len(chosen))
        return {grid: _of_all_processes(sums)
                for grid, sums in moments.items()}

    start, end = 0, len(chosen) if enough is None else FIRST_LOOK
    while True:
        total = look_at(chosen[start:end])
        if end >= len(chosen) or enough(total):
            return total
        start, end = end, 2 * end


def _of_all_processes(moments: FeatureMoments) -> FeatureMoments:
    parts = all_gather_object(moments.state_dict())
    total = FeatureMoments.from_state_dict(parts[0])
    for part in parts[1:]:
        total.merge(FeatureMoments.from_state_dict(part))
    return total


def _pictures(student: Config, scales: list[Fraction]) -> Any:
    """The training split's pictures through the student's test pipeline, and
    beside them the same at other scales."""
    steps = [step for step in test_pipeline(student)
             if step['type'] != 'LoadAnnotations']

    def of(dataset: ConfigDict) -> ConfigDict:
        dataset = dataset.copy()
        if 'datasets' in dataset:
            dataset.datasets = [of(d) for d in dataset.datasets]
            dataset.pop('pipeline', None)
        elif 'dataset' in dataset:
            # A repeated or mixed data set has no other pictures than its own.
            return of(dataset.dataset)
        else:
            dataset.pipeline = steps
            dataset.test_mode = True  # keeps pictures without boxes
        return dataset

    config = of(student.train_dataloader.dataset)
    built = DATASETS.build(with_teacher_view(config, [str(s) for s in scales])
                           if scales else config)
    built.full_init()
    return built


def _batches(dataset: Subset, student: Config
             ) -> Iterator[tuple[dict[str, list[Tensor]], list[int]]]:
    """Scale -> raw pictures (3, H, W) of one size, and the fold of each."""
    size = student.train_dataloader.batch_size
    loader = DataLoader(dataset, batch_size=None,
                        num_workers=student.val_dataloader.num_workers,
                        collate_fn=_as_it_is)
    waiting: dict[tuple[int, int], list[tuple[dict, int]]] = {}

    def batch(group: list[tuple[dict, int]]
              ) -> tuple[dict[str, list[Tensor]], list[int]]:
        return ({scale: [views[scale] for views, _ in group]
                 for scale in group[0][0]}, [fold for _, fold in group])

    for sample in loader:
        views = {'1': sample['inputs'], **sample.get('teacher_inputs', {})}
        fold = fold_of(str(sample['data_samples'].img_id), FOLDS)
        group = waiting.setdefault(tuple(views['1'].shape[-2:]), [])
        group.append((views, fold))
        if len(group) == size:
            yield batch(group)
            group.clear()
    for group in waiting.values():
        if group:
            yield batch(group)


def _as_it_is(sample: dict) -> dict:
    return sample


def _normalised(detector: BaseDetector, pictures: list[Tensor], divisor: int,
                device: torch.device) -> Tensor:
    """(N, 3, H, W) as the detector's own preprocessor would make it, padded
    to the divisor that all detectors share."""
    batch = detector.data_preprocessor(
        {'inputs': [p.to(device) for p in pictures], 'data_samples': None})
    return stack_batch(list(batch['inputs']), divisor,
                       detector.data_preprocessor.pad_value)


def _valid_positions(size: tuple[int, int],
                     grids: Mapping[int, tuple[int, int]], count: int,
                     device: torch.device) -> dict[int, Tensor]:
    """stride -> bool (count, H, W): cells whose centre lies in a picture of
    ``size``."""
    valid = {}
    for s, (height, width) in grids.items():
        rows = torch.arange(height, device=device)
        columns = torch.arange(width, device=device)
        inside = ((rows + 0.5) * s < size[0])[:, None] \
            & ((columns + 0.5) * s < size[1])[None]
        valid[s] = inside.expand(count, *inside.shape)
    return valid


def check_aps(aps: Mapping[str, float]) -> None:
    """Refuse a pool in which nothing was detected: its best is arbitrary."""
    if aps and max(aps.values()) <= 0:
        raise PlanError([
            'No teacher detects anything on the validation set (AP 0): '
            'mtpd.teachers hold untrained checkpoints, or val_dataloader '
            'shows other classes.'])
