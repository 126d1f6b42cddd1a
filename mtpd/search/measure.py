"""Box AP and latency of detectors, and what both depend on."""
import copy
import functools
import io
import json
import logging
from contextlib import redirect_stdout, suppress
from typing import Callable, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.runner import Runner

from mtpd.compat.atomic_files import atomic_write
from mtpd.config_types import type_name
from mtpd.plan.class_names import label_map
from mtpd.plan.data_check import inner_datasets
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.errors import NoMeanAP, PlanError
from mtpd.plan.plan import Plan
from mtpd.plan.predictions import predict, unmeasurable_aps
from mtpd.plan.work_dir import UnreadableHistory, read_json
from mtpd.processes import on_main

from .fingerprints import fingerprint
from .images import test_pipeline
from .latency import latency, latency_key


def validation_config(student: Config, teacher: Config | None = None,
                      labels: Sequence[int] | None = None) -> Config:
    """Loader and evaluator of a detector's box AP on the student's data.

    The images and annotations are the student's validation set. A teacher
    sees them through its own test pipeline, as it was trained to.

    Args:
        student: The student's config.
        teacher: The teacher's config; None for the student itself.
        labels: From :func:`mtpd.plan.class_names.label_map`.
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
    validation = dict(loader=loader, evaluator=evaluator)
    if labels is not None:
        validation['labels'] = list(labels)
    return Config(validation)


def box_ap(detector: BaseDetector, validation: Config,
           field: str = 'mtpd.student') -> float | None:
    """Box AP in percent; None where nothing could be measured. Every process
    takes part and gets the same value.

    Args:
        detector: On any device; it is moved and stays in eval mode.
        validation: From :func:`validation_config`.
        field: The detector's, for messages.

    Raises:
        PlanError: The evaluator reports no mean AP, or the detector cannot
            predict the images.
    """
    loader = Runner.build_dataloader(validation.loader)
    evaluator = Evaluator(validation.evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    detector = detector.to(get_device()).eval()
    labels = validation.get('labels')
    # pycocotools prints a table; the caller prints one of all detectors.
    with torch.no_grad(), redirect_stdout(io.StringIO()):
        for batch in loader:
            samples = predict(
                detector, batch, field, 'by which its AP is measured',
                ', or declare ap' * field.startswith('mtpd.teachers.'))
            if labels is not None:
                samples = with_labels(samples, labels)
            evaluator.process(data_samples=samples, data_batch=batch)
        metrics = evaluator.evaluate(len(loader.dataset))
    return in_percent(mean_ap(metrics))


def with_labels(samples: list[DetDataSample],
                labels: Sequence[int]) -> list[DetDataSample]:
    """Detections with other numbers for their classes, in place.

    Args:
        samples: What a detector has predicted.
        labels: The new number of each class; detections of classes with -1
            are left out.
    """
    for sample in samples:
        found = sample.pred_instances
        numbers = found.labels.new_tensor(labels)[found.labels]
        found.labels = numbers
        sample.pred_instances = found[numbers >= 0]
    return samples


def mean_ap(metrics: Mapping[str, float]) -> float | None:
    """The box mAP among an evaluator's metrics, in its units (0 to 1).

    It is 0 without metrics: CocoMetric reports none where nothing was
    detected. It is None where there was nothing to detect: pycocotools says
    -1 then.

    Raises:
        NoMeanAP: There are metrics, and none is a mean AP.
    """
    if not metrics:
        return 0.0
    for ending in ('bbox_mAP', '/mAP'):
        for key, value in metrics.items():
            if key.endswith(ending):
                return float(value) if value >= 0 else None
    raise NoMeanAP([f'val_evaluator reports {sorted(metrics)}, and none of '
                     "them is a mean AP of boxes. Use mmdet's CocoMetric "
                     "(with metric='bbox' among its metrics) or VOCMetric."])


def in_percent(share: float | None) -> float | None:
    """A share in percent; None stays."""
    return None if share is None else 100 * share


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
        problems = unmeasurable_aps(plan, pool)
        if problems:
            raise PlanError(problems)
    if plan.student.checkpoint is None:
        del detectors['student']
    measured = measured_aps(plan.specs, detectors, plan.student.config, cache)
    student_ap = measured.pop('student', None)
    aps = {**all_known(measured), **aps}
    if aps and max(aps.values()) <= 0:
        raise PlanError([
            'No teacher detects anything on the validation set (AP 0): '
            'mtpd.teachers hold untrained checkpoints, or val_dataloader '
            'shows other classes.'])
    return aps, student_ap


def all_known(aps: Mapping[str, float | None]) -> dict[str, float]:
    """The teachers' APs, none of which may be unknown.

    Raises:
        PlanError: One is.
    """
    known = {name: ap for name, ap in aps.items() if ap is not None}
    if len(known) < len(aps):
        unknown = ', '.join(name for name in aps if name not in known)
        raise PlanError([
            f'The AP of {unknown} could not be measured: val_dataloader has '
            'no usable box of the classes. Correct its annotations, or '
            'declare ap for every teacher.'])
    return known


def measured_aps(specs: Mapping[str, DetectorSpec],
                 detectors: Mapping[str, BaseDetector], student: Config,
                 cache: str) -> dict[str, float | None]:
    """Box AP of each detector on the student's validation set, in percent;
    None where it could not be measured. Classes are compared by name.

    Args:
        specs: The detectors as the config names them, by name.
        detectors: The built detectors, by name.
        student: The student's config.
        cache: A JSON file of earlier measurements, by checkpoint hash and
            validation set.
    """
    def measure(spec: DetectorSpec, detector: BaseDetector) -> float | None:
        labels = class_labels(spec, student, detector)
        return box_ap(detector, validation_of(spec, student, labels),
                      spec.field)

    keys = {name: ap_key(class_labels(specs[name], student, detector))
            for name, detector in detectors.items()}
    return _measured(specs, detectors, student, cache, keys, measure)


def measured_latencies(specs: Mapping[str, DetectorSpec],
                       detectors: Mapping[str, BaseDetector], student: Config,
                       cache: str) -> dict[str, float]:
    """Seconds of each detector's prediction on this machine, by
    :func:`latency` of five images in the first process.

    Args:
        specs: As in :func:`measured_aps`, and so are the others.
    """
    def measure(spec: DetectorSpec, detector: BaseDetector) -> float:
        validation = validation_of(spec, student)
        return on_main(lambda: latency(detector, validation, 5))

    key = on_main(latency_key)
    measured = _measured(specs, detectors, student, cache,
                         dict.fromkeys(detectors, key), measure)
    return {name: value for name, value in measured.items()
            if value is not None}


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
    measures = dict(_read_cache(cache).get(
        _cache_key(spec, validation_of(spec, student)), {}))
    ap = None
    if any(key.startswith('ap') for key in measures):
        # Its classes may not be the student's: an AP of then is not of now.
        with suppress(PlanError):
            ap = measures.get(ap_key(class_labels(spec, student)))
    return {quantity: value for quantity, value in {
        **measures, 'ap': ap}.items() if value is not None}


def validation_of(spec: DetectorSpec, student: Config,
                  labels: Sequence[int] | None = None) -> Config:
    """:func:`validation_config` of the student itself or of a teacher."""
    return validation_config(
        student, None if spec.name == 'student' else spec.config, labels)


def class_labels(spec: DetectorSpec, student: Config,
                 detector: BaseDetector | None = None
                 ) -> tuple[int, ...] | None:
    """:func:`mtpd.plan.class_names.label_map` of a teacher; None of the
    student itself.

    Args:
        spec: The detector.
        student: The student's config.
        detector: Built from ``spec``, if it is.
    """
    if spec.name == 'student':
        return None
    return label_map(DetectorSpec('student', student, None), spec, detector)


def ap_key(labels: Sequence[int] | None) -> str:
    """The key of an AP in the cache. One that was measured before classes
    were compared by name has another."""
    return 'ap' if labels is None else f'ap of classes {list(labels)}'


def _measured(specs: Mapping[str, DetectorSpec],
              detectors: Mapping[str, BaseDetector], student: Config,
              cache: str, keys: Mapping[str, str],
              measure: Callable[[DetectorSpec, BaseDetector], float | None]
              ) -> dict[str, float | None]:
    """Name -> a quantity, from the cache or else measured and cached."""
    known = on_main(lambda: _read_cache(cache))
    values = {}
    for name, detector in detectors.items():
        spec, key = specs[name], keys[name]
        checkpoint = spec.hash()
        entry = known.setdefault(
            _cache_key(spec, validation_of(spec, student)), {})
        if checkpoint is None or key not in entry:
            entry[key] = measure(spec, detector)
            detector.cpu()  # all of them need not fit on the device
            if is_main_process() and checkpoint is not None:
                kept = {key: known[key] for key in known
                        if not key.startswith('None:')}
                atomic_write(cache, json.dumps(kept, indent=1).encode())
        values[name] = entry[key]
    return values


def _read_cache(cache: str) -> dict[str, dict[str, float | None]]:
    """What was measured, nothing if the file is damaged; a negative AP of an
    earlier version is none."""
    try:
        known: dict[str, dict[str, float | None]] = read_json(
            cache, {...: {...: float | int | None}},
            'What it held is measured again where it is needed.') or {}
    except UnreadableHistory as error:
        _warn_of_damage(str(error))
        return {}
    for entry in known.values():
        entry |= {'ap': None} if (entry.get('ap') or 0) < 0 else {}
    return known


@functools.cache
def _warn_of_damage(message: str) -> None:
    """Once, however many detectors are looked up."""
    print_log(message, 'current', logging.WARNING)


def _cache_key(spec: DetectorSpec, validation: Config) -> str:
    return (f'{spec.hash()}:{fingerprint(validation)}:'
            f'{fingerprint(spec.model)}')
