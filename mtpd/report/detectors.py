"""Student and teachers beside each other: size, speed, AP."""
from dataclasses import dataclass, replace
from typing import Mapping

import cv2
from mmengine.config import Config

from mtpd.analysis.sizes import parameters
from mtpd.compat.checkpoints import CheckpointUnavailable, CorruptCheckpoint
from mtpd.compat.samples import sample_of
from mtpd.distill.detector import CheckpointMismatch, build_detector
from mtpd.plan.data_check.sources import sources_of
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.errors import PlanError
from mtpd.plan.predictions import unmeasurable_aps
from mtpd.predict.onnx_file import first_line
from mtpd.predict.test_set import BROKEN
from mtpd.progression.history import History
from mtpd.randomness import isolate_rng
from mtpd.search.latency import latency_key
from mtpd.search.measure import (known_measures, measured_aps,
                                 measured_latencies)

NAMED = (FileNotFoundError, CheckpointUnavailable, CorruptCheckpoint,
         CheckpointMismatch, PlanError)
"""Errors whose messages say what is missing or wrong."""
UNUSABLE = (*NAMED, *BROKEN, cv2.error)
"""Errors of weights, images and annotations that no longer exist, or no longer
fit, when the report is written. It names them, and its other parts are whole.
"""


@dataclass(frozen=True)
class DetectorFacts:
    """What is known of a detector; None where it is not.

    Attributes:
        name: As in the plan.
        parameters: How many parameters it has.
        ap: Box AP in percent on the student's validation set.
        declared: Whether the AP is the config's, and was not measured.
        seconds: Of one prediction, a batch of one image.
    """
    name: str
    parameters: int
    ap: float | None
    declared: bool
    seconds: float | None


@dataclass(frozen=True)
class Facts:
    """What is known of all detectors.

    Attributes:
        detectors: The student, then the pool.
        machine: Where all latencies were measured, None where none was.
        left_out: Why something was not measured, one message each.
    """
    detectors: tuple[DetectorFacts, ...]
    machine: str | None
    left_out: tuple[str, ...] = ()

    def aps(self) -> dict[str, float]:
        """Detector -> AP in percent, as far as known."""
        return {d.name: d.ap for d in self.detectors if d.ap is not None}


def detector_facts(history: History, measure: bool) -> Facts:
    """Size, speed and AP of the student and of all teachers.

    ``measured.json`` in the work dir keeps APs and latencies. With
    ``measure``, values that it lacks of the detectors that the plan uses are
    measured and added: APs; and the latencies on this machine, unless one
    machine has those of all detectors.

    Args:
        history: The progression.
        measure: Whether to measure. Other work on the machine makes latencies
            longer meanwhile.
    """
    plan = history.plan
    specs = {'student': plan.student, **plan.teachers}
    found_aps = history.found.aps if history.found else {}
    aps = {**history.record.get('aps', {}), **found_aps}
    for name, spec in specs.items():
        if spec.ap is not None:
            aps[name] = spec.ap
    left_out = _measure_missing(specs, history, aps) if measure else []
    known, machine = _read_measured(specs, history)
    detectors = []
    for name, spec in specs.items():
        with isolate_rng(0):
            detector = build_detector(spec.model)
        ap = aps.get(name)
        if ap is None:
            ap = known[name].get('ap')
        seconds = known[name].get(machine) if machine else None
        detectors.append(DetectorFacts(name, parameters(detector), ap,
                                       spec.ap is not None, seconds))
    if machine is not None:
        machine = machine.removeprefix('seconds on ')
    return Facts(tuple(detectors), machine, tuple(left_out))


def why_unusable(error: Exception, student: Config) -> str:
    """What cannot be used, in words.

    Args:
        error: One of :data:`UNUSABLE`.
        student: The student's config.
    """
    sample = sample_of(error)
    if sample is not None:
        return (f'the image {sample.image} cannot be used (in '
                f'{sample.step}: {first_line(error)})')
    if isinstance(error, NAMED):
        return str(error)
    files = [source.path for source in sources_of(student)
             if not source.trains]
    return (f'the validation set, {" and ".join(files)}, cannot be used '
            f'({type(error).__name__}: {first_line(error)})')


def _measure_missing(specs: Mapping[str, DetectorSpec], history: History,
                     aps: Mapping[str, float | None]) -> list[str]:
    """Measure what :func:`detector_facts` lacks; returns why something could
    not be measured."""
    known, machine = _read_measured(specs, history)
    used = ['student', *history.plan.used]
    seconds = any(machine not in known[name] for name in used)
    left_out = []
    for name in used:
        ap = aps.get(name) is None and 'ap' not in known[name]
        if ap or seconds:
            left_out += _measure(specs[name], history, ap, seconds)
    return left_out


def _read_measured(specs: Mapping[str, DetectorSpec], history: History
                   ) -> tuple[dict[str, dict[str, float]], str | None]:
    """What ``measured.json`` holds of each detector, and its key of the
    latencies on the machine where most were measured; this machine if it has
    as many."""
    known, keys = {}, []
    for name, spec in specs.items():
        try:
            known[name] = known_measures(spec, history.plan.student.config,
                                         history.plan.paths.measured)
        except (FileNotFoundError, CheckpointUnavailable):
            known[name] = {}  # without the weights nothing is known of them
        keys += [key for key in known[name] if key.startswith('seconds')]
    here = latency_key()
    machine = max(keys, key=lambda key: (keys.count(key), key == here),
                  default=None)
    return known, machine


def _measure(spec: DetectorSpec, history: History, ap: bool,
             seconds: bool) -> list[str]:
    """Measure a detector; returns why something could not be measured."""
    if spec.checkpoint is None:
        return ['student was not measured: it has no checkpoint, and with '
                'random weights it detects nothing.']
    problems = []
    specs, student = {spec.name: spec}, history.plan.student.config
    measured = history.plan.paths.measured
    try:
        built = {spec.name: spec.build()}
        if ap and spec.name in history.plan.teachers:
            problems = unmeasurable_aps(
                replace(history.plan, teachers=specs, order=None), built)
        if ap and not problems:
            measured_aps(specs, built, student, measured)
        if seconds:
            measured_latencies(specs, built, student, measured)
    except UNUSABLE as error:
        problems.append(f'{spec.name} was not measured: '
                        f'{why_unusable(error, student)}')
    return problems
