"""Student and teachers beside each other: size, speed, AP."""
import os
from dataclasses import dataclass
from typing import Iterable

from mtpd.compat.checkpoints import CheckpointUnavailable, CorruptCheckpoint
from mtpd.distill.detector import CheckpointMismatch, build_detector
from mtpd.plan.plan import DetectorSpec
from mtpd.plan.pool import unmeasurable_aps
from mtpd.progression.history import History
from mtpd.randomness import isolate_rng
from mtpd.search.measure import (known_measures, latency_key, measured_aps,
                                 measured_latencies)

UNUSABLE = (FileNotFoundError, CheckpointUnavailable, CorruptCheckpoint,
            CheckpointMismatch)
"""What a detector's weights or images may be by the time of the report. It
then says so, and the rest of it stands."""


@dataclass(frozen=True)
class DetectorFacts:
    """What can be said of a detector; None where it is not known.

    Attributes:
        name: As in the plan.
        parameters: How many numbers it learns.
        ap: Box AP in percent on the student's validation set.
        declared: Whether the config says so, and nobody measured.
        seconds: Of one prediction, a batch of one image.
    """
    name: str
    parameters: int
    ap: float | None
    declared: bool
    seconds: float | None


@dataclass(frozen=True)
class Facts:
    """Of all detectors.

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

    The progression remembers APs and latencies in ``measured.json``. With
    ``measure``, what is missing there of the detectors that the plan uses is
    measured and remembered as well: APs, and, unless all latencies are known
    of one machine, those of this one.

    Args:
        history: The progression.
        measure: Whether to measure. What else runs on the machine meanwhile
            makes latencies longer.
    """
    plan = history.plan
    specs = {'student': plan.student, **plan.teachers}
    stated = {'student': None, **{t.name: t.ap for t in
                                  plan.teachers.values()}}
    declared = {name for name, ap in stated.items() if ap is not None}
    for name, ap in {**history.record.get('aps', {}),
                     **(history.found.aps if history.found else {})}.items():
        if stated.get(name) is None:
            stated[name] = ap
    known = {name: _known(spec, history) for name, spec in specs.items()}
    machine = _machine(known.values())
    left_out = []
    if measure:
        used = ['student', *plan.used]
        wanted = [n for n in used
                  if stated[n] is None and 'ap' not in known[n]]
        slow = not all(machine in known[n] for n in used)
        for name in used:
            if name in wanted or slow:
                left_out += _measure(specs[name], history, name in wanted,
                                     slow)
        known = {name: _known(spec, history) for name, spec in specs.items()}
        machine = _machine(known.values())
    rows = []
    for name, spec in specs.items():
        with isolate_rng(0):
            detector = build_detector(spec.model)
        rows.append(DetectorFacts(
            name, sum(p.numel() for p in detector.parameters()),
            known[name].get('ap') if stated[name] is None else stated[name],
            name in declared, known[name].get(machine) if machine else None))
    return Facts(tuple(rows), machine and machine.removeprefix('seconds on '),
                 tuple(left_out))


def _known(spec: DetectorSpec, history: History) -> dict[str, float]:
    try:
        return known_measures(spec, history.plan.student.config,
                              _memory(history))
    except (FileNotFoundError, CheckpointUnavailable):
        return {}  # of other weights nothing is known


def _measure(spec: DetectorSpec, history: History, ap: bool,
             seconds: bool) -> list[str]:
    """Why something could not be measured, if so."""
    if spec.checkpoint is None:
        return ['student was not measured: it has no checkpoint, and its own '
                'initialisation detects nothing.']
    problems = [p for p in unmeasurable_aps(history.plan)
                if ap and p.startswith(f'{spec.field}.ap ')]
    of = ({spec.name: spec}, {spec.name: None},
          history.plan.student.config, _memory(history))
    try:
        of[1][spec.name] = build_detector(spec.model, spec.checkpoint,
                                          f'{spec.field}.checkpoint')
        if ap and not problems:
            measured_aps(*of)
        if seconds:
            measured_latencies(*of)
    except UNUSABLE as error:
        problems.append(f'{spec.name} was not measured: {error}')
    return problems


def _memory(history: History) -> str:
    return os.path.join(history.plan.work_dir, 'measured.json')


def _machine(known: Iterable[dict[str, float]]) -> str | None:
    """Where most latencies were measured; this machine if it has as many."""
    where = [key for of in known for key in of if key.startswith('seconds')]
    return max(where, key=lambda name: (where.count(name),
                                        name == latency_key()), default=None)
