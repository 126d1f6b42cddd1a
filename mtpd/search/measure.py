"""Box AP and latency of detectors, and what both depend on."""
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
from typing import Any, Callable, Iterator, Mapping

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner

from mtpd.compat.atomic_files import atomic_write
from mtpd.config_types import type_name
from mtpd.plan.data_check import inner_datasets
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan
from mtpd.plan.pool import unmeasurable_aps
from mtpd.processes import on_main

from .images import test_pipeline


def validation_config(student: Config,
                      teacher: Config | None = None) -> Config:
    """Loader and evaluator of a detector's box AP on the student's data.

    The images and annotations are the student's validation set. A teacher
    sees them through its own test pipeline, as it was trained to.

    Args:
        student: The student's config.
        teacher: The teacher's config; None for the student itself.
    """
    loader = copy.deepcopy(student.val_dataloader)
    if teacher is not None and teacher.get('val_dataloader'):
        # Annotations as the student loads them: its data set may lack masks.
        annotations = [step for step in test_pipeline(student)
                       if type_name(step['type']) == 'LoadAnnotations']
        steps = []
        for step in test_pipeline(teacher):
            steps += annotations \
                if type_name(step['type']) == 'LoadAnnotations' else [step]
        for _, dataset in inner_datasets(loader.dataset, ''):
            dataset.pipeline = steps
    evaluator = copy.deepcopy(student.val_evaluator)
    metrics = evaluator if isinstance(evaluator, (list, tuple)) \
        else [evaluator]
    for metric in metrics:
        if type_name(metric.get('type')) == 'CocoMetric':
            # Boxes only, once: a pool may mix detectors with and without
            # masks.
            metric.metric = 'bbox'
            evaluator = metric
            break
    return Config(dict(loader=loader, evaluator=evaluator))


def box_ap(detector: BaseDetector, validation: Config) -> float:
    """Box AP in percent. Every process takes part and gets the same value.

    Args:
        detector: On any device; it is moved and stays in eval mode.
        validation: From :func:`validation_config`.

    Raises:
        PlanError: The evaluator reports no mean AP.
    """
    loader = Runner.build_dataloader(validation.loader)
    evaluator = Evaluator(validation.evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    detector = detector.to(get_device()).eval()
    # pycocotools prints a table; the caller prints one of all detectors.
    with torch.no_grad(), redirect_stdout(io.StringIO()):
        for batch in loader:
            evaluator.process(data_samples=detector.val_step(batch),
                              data_batch=batch)
        metrics = evaluator.evaluate(len(loader.dataset))
    return 100 * mean_ap(metrics)


def latency(detector: BaseDetector, validation: Config,
            images: int = 20) -> float:
    """Median seconds of the prediction for one image, preprocessing and
    postprocessing included.

    Args:
        detector: On any device; it is moved and stays in eval mode.
        validation: From :func:`validation_config`.
        images: The number of timed images; three more come before them.
    """
    # Without a seed the sampler asks all processes for one.
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
    """Seconds of one call, until the device has finished its work."""
    start = clock()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def mean_ap(metrics: Mapping[str, float]) -> float:
    """The box mAP among an evaluator's metrics, in its units (0 to 1).

    It is 0 without metrics: CocoMetric reports none where nothing was
    detected.

    Raises:
        PlanError: There are metrics, and none is a mean AP.
    """
    if not metrics:
        return 0.0
    for ending in ('bbox_mAP', '/mAP'):
        for key, value in metrics.items():
            if key.endswith(ending):
                return float(value)
    raise PlanError([f'val_evaluator reports {sorted(metrics)}, and none of '
                     "them is a mean AP of boxes. Use mmdet's CocoMetric "
                     "(with metric='bbox' among its metrics) or VOCMetric."])


def pool_aps(plan: Plan, pool: Mapping[str, BaseDetector], cache: str
             ) -> tuple[dict[str, float], float | None]:
    """Box AP of each teacher in percent, as declared or else measured; and of
    the student, None where it has no checkpoint.

    Args:
        plan: The progression.
        pool: The built detectors, by name.
        cache: As in :func:`measured_aps`.

    Raises:
        PlanError: A teacher's AP that cannot be measured on the student's
            data, or no teacher with an AP above 0: the best one would be
            arbitrary.
    """
    aps = {name: teacher.ap for name, teacher in plan.teachers.items()
           if teacher.ap is not None}
    detectors = {'student': pool['student']} if aps else dict(pool)
    if not aps:
        problems = unmeasurable_aps(plan, pool['student'])
        if problems:
            raise PlanError(problems)
    if plan.student.checkpoint is None:
        del detectors['student']
    aps = {**measured_aps(plan.specs, detectors, plan.student.config, cache),
           **aps}
    student_ap = aps.pop('student', None)
    if aps and max(aps.values()) <= 0:
        raise PlanError([
            'No teacher detects anything on the validation set (AP 0): '
            'mtpd.teachers hold untrained checkpoints, or val_dataloader '
            'shows other classes.'])
    return aps, student_ap


def measured_aps(specs: Mapping[str, DetectorSpec],
                 detectors: Mapping[str, BaseDetector], student: Config,
                 cache: str) -> dict[str, float]:
    """Box AP of each detector on the student's validation set, in percent.

    Args:
        specs: The detectors as the config names them, by name.
        detectors: The built detectors, by name.
        student: The student's config.
        cache: A JSON file of earlier measurements, by checkpoint hash and
            validation set.
    """
    return _measured(specs, detectors, student, cache, 'ap', box_ap)


def measured_latencies(specs: Mapping[str, DetectorSpec],
                       detectors: Mapping[str, BaseDetector], student: Config,
                       cache: str) -> dict[str, float]:
    """Seconds of each detector's prediction on this machine, by
    :func:`latency` of five images in the first process.

    Args:
        specs: As in :func:`measured_aps`, and so are the others.
    """
    def measure(detector: BaseDetector, validation: Config) -> float:
        return on_main(lambda: latency(detector, validation, 5))

    return _measured(specs, detectors, student, cache, on_main(latency_key),
                     measure)


def known_measures(spec: DetectorSpec, student: Config,
                   cache: str) -> dict[str, float]:
    """Earlier measurements of a detector; nothing is measured.

    Args:
        spec: The detector.
        student: As in :func:`measured_aps`, and so is ``cache``.

    Returns:
        ``ap`` in percent and, for each machine, ``seconds on MACHINE`` of one
        prediction, as far as they are known.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        CheckpointUnavailable: It cannot be downloaded.
    """
    if not spec.checkpoint:
        return {}
    key = _cache_key(spec, validation_of(spec, student))
    return _read_cache(cache).get(key, {})


def validation_of(spec: DetectorSpec, student: Config) -> Config:
    """:func:`validation_config` of the student itself or of a teacher."""
    return validation_config(
        student, None if spec.name == 'student' else spec.config)


def latency_key() -> str:
    """The key of this machine's latencies in the cache."""
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() \
        else f'{platform.machine()}, {torch.get_num_threads()} threads'
    return f'seconds on {machine}'


def _measured(specs: Mapping[str, DetectorSpec],
              detectors: Mapping[str, BaseDetector], student: Config,
              cache: str, quantity: str,
              measure: Callable[[BaseDetector, Config], float]
              ) -> dict[str, float]:
    """Name -> a quantity, from the cache or else measured and cached."""
    known = on_main(lambda: _read_cache(cache))
    values = {}
    for name, detector in detectors.items():
        validation = validation_of(specs[name], student)
        checkpoint = specs[name].hash()
        entry = known.setdefault(_cache_key(specs[name], validation), {})
        if checkpoint is None or quantity not in entry:
            entry[quantity] = measure(detector, validation)
            detector.cpu()  # all of them need not fit on the device
            if is_main_process() and checkpoint is not None:
                kept = {key: known[key] for key in known
                        if not key.startswith('None:')}
                atomic_write(cache, json.dumps(kept, indent=1).encode())
        values[name] = entry[quantity]
    return values


def _read_cache(cache: str) -> dict[str, dict[str, float]]:
    if not os.path.isfile(cache):
        return {}
    with open(cache) as file:
        return json.load(file)


def _cache_key(spec: DetectorSpec, validation: Config) -> str:
    return (f'{spec.hash()}:{fingerprint(validation)}:'
            f'{fingerprint(spec.model)}')


def weights_hash(detector: BaseDetector) -> str:
    """A hash of the weights of a detector without a checkpoint."""
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
    for path in _annotation_files(plain):
        with open(path, 'rb') as file:
            digest.update(file.read())
    return digest.hexdigest()[:16]


def _annotation_files(part: Any) -> Iterator[str]:
    """Those that exist, at any depth of a config."""
    if isinstance(part, Mapping):
        path = os.path.join(part.get('data_root') or '',
                            str(part.get('ann_file') or ''))
        if part.get('ann_file') and os.path.isfile(path):
            yield path
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for inner in part:
            yield from _annotation_files(inner)
