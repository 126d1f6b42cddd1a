"""Frozen detectors and images -> their AP and how fast they are."""
import copy
import hashlib
import io
import json
import os
import platform
import statistics
import time
from contextlib import redirect_stdout
from itertools import islice
from typing import Any, Callable, Mapping

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner

from mtpd.compat.atomic_files import atomic_write
from mtpd.plan.data_check import inner_datasets
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.errors import PlanError
from mtpd.processes import on_main

from .images import test_pipeline


def validation_config(student: Config, own: Config | None = None) -> Config:
    """Loader and evaluator of a detector's box AP on the student's data.

    The images and annotations are the student's validation set; a teacher
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


def latency(detector: BaseDetector, validation: Config,
            images: int = 20) -> float:
    """Median seconds of a prediction, one image at a time, pre-processing
    and post-processing included; after three that do not count."""
    # With a seed, or the sampler asks all processes for one.
    loader = Runner.build_dataloader({
        **validation.loader, 'batch_size': 1,
        'sampler': dict(type='DefaultSampler', shuffle=False, seed=0)})
    detector = detector.to(get_device()).eval()
    seconds = []
    with torch.no_grad():
        for batch in islice(loader, 3 + images):
            seconds.append(timed(lambda: detector.val_step(batch)))
    return statistics.median(seconds[3:] or seconds)


def timed(step: Callable[[], Any],
          clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, until the device has done what it started."""
    start = clock()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


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
    return {name: of['ap'] for name, of in _remembered(
        specs, detectors, student, cache, 'ap', box_ap).items()}


def measured_latencies(specs: Mapping[str, DetectorSpec],
                       detectors: Mapping[str, BaseDetector], student: Config,
                       cache: str) -> dict[str, float]:
    """Seconds that each detector takes for one prediction on this machine, by
    :func:`latency` of five images in the first process.

    Args:
        specs: As in :func:`measured_aps`, and so are the others.
    """
    where = on_main(seconds_here)
    return {name: of[where] for name, of in _remembered(
        specs, detectors, student, cache, where,
        lambda detector, validation: on_main(
            lambda: latency(detector, validation, 5))).items()}


def known_measures(spec: DetectorSpec, student: Config,
                   cache: str) -> dict[str, float]:
    """What was measured of a detector before; nothing is measured.

    Args:
        spec: The detector.
        student: As in :func:`measured_aps`, and so is ``cache``.

    Returns:
        ``ap`` in percent and, for each machine, ``seconds on MACHINE`` of one
        prediction, as far as they are known.

    Raises:
        FileNotFoundError: Its checkpoint is not there.
        CheckpointUnavailable: It cannot be downloaded.
    """
    return _read_cache(cache).get(
        _cache_key(spec, validation_of(spec, student)), {}) \
        if spec.checkpoint else {}


def validation_of(spec: DetectorSpec, student: Config) -> Config:
    """:func:`validation_config` of the student itself or of a teacher."""
    return validation_config(
        student, None if spec.name == 'student' else spec.config)


def _remembered(specs: Mapping[str, DetectorSpec],
                detectors: Mapping[str, BaseDetector], student: Config,
                cache: str, what: str,
                measure: Callable[[BaseDetector, Config], float]
                ) -> dict[str, dict[str, float]]:
    known = on_main(lambda: _read_cache(cache))
    found = {}
    for name, detector in detectors.items():
        validation = validation_of(specs[name], student)
        checkpoint = specs[name].hash()
        entry = known.setdefault(_cache_key(specs[name], validation), {})
        if checkpoint is None or what not in entry:
            entry[what] = measure(detector, validation)
            detector.cpu()  # all of them need not fit on the device
            if is_main_process() and checkpoint is not None:
                atomic_write(cache, json.dumps(
                    {key: of for key, of in known.items()
                     if not key.startswith('None:')}, indent=1).encode())
        found[name] = dict(entry)
    return found


def _read_cache(cache: str) -> dict[str, dict[str, float]]:
    if not os.path.isfile(cache):
        return {}
    with open(cache) as file:
        return json.load(file)


def _cache_key(spec: DetectorSpec, validation: Config) -> str:
    return (f'{spec.hash()}:{fingerprint(validation)}:'
            f'{fingerprint(spec.model)}')


def seconds_here() -> str:
    """Under which name this machine's latencies are remembered."""
    return f'seconds on {_machine()}'


def _machine() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else \
        f'{platform.machine()}, {torch.get_num_threads()} threads'


def weights_hash(detector: BaseDetector) -> str:
    """Of a detector without a checkpoint."""
    digest = hashlib.sha256()
    for key, value in detector.state_dict().items():
        digest.update(key.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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


def check_aps(aps: Mapping[str, float]) -> None:
    """Refuse a pool in which nothing was detected: its best is arbitrary."""
    if aps and max(aps.values()) <= 0:
        raise PlanError([
            'No teacher detects anything on the validation set (AP 0): '
            'mtpd.teachers hold untrained checkpoints, or val_dataloader '
            'shows other classes.'])
