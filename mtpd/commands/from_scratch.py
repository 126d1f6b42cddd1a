"""Trains student and pool, the progression and its control, and compares."""
import argparse
import copy
import json
import time
from dataclasses import replace
from functools import partial
from typing import Iterator, Mapping, NamedTuple, Sequence

from mmdet.models.detectors import BaseDetector
from mmengine.dist import is_main_process

from mtpd.analysis.sizes import parameters
from mtpd.command_line import plain_errors, read_config
from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.processes import init_processes
from mtpd.distill.detector import load_weights
from mtpd.plan.errors import PlanError
from mtpd.plan.predictions import unmeasurable_aps
from mtpd.plan.work_dir import only_run
from mtpd.processes import on_main
from mtpd.progression import Plan, Progression, check, run_progression
from mtpd.progression.control import (describe_gain, other_length,
                                      run_control)
from mtpd.progression.history import read_history
from mtpd.progression.pool_training import (train_if_missing, untrainable,
                                            untrained_notes)
from mtpd.progression.prepare import log_notes
from mtpd.search.latency import latency
from mtpd.search.measure import measured_aps, validation_config
from mtpd.show.tables import ap_text, number, text_table


def from_scratch(args: argparse.Namespace) -> None:
    """Train whatever is missing and print one table; errors have no
    traceback.

    Args:
        args: The tool's.
    """
    began = time.time()
    with plain_errors() as command:
        cfg = command.config = read_config(args)
        if 'mtpd' not in cfg:
            raise PlanError([f'{args.config} has no mtpd part. Name the '
                             'config of a progression.'])
        init_processes(cfg)
        checked = check(cfg, is_pretrained=False)
        plan = checked.plan
        problems = list(dict.fromkeys(checked.problems + untrainable(plan)))
        if problems:
            raise PlanError(problems)
        log_notes(checked.notes + untrained_notes(plan, checked.pool))
        student = plan.student.sliced_from or plan.student
        with only_run(plan.paths):
            for spec in (student, *plan.teachers.values()):
                train_if_missing(spec, plan)
        progression = run_progression(
            copy.deepcopy(cfg), resume=True, with_probe=not args.no_probe,
            data_is_checked=True)
        history = read_history(plan)
        control = None if other_length(history) else run_control(
            cfg, history, data_is_checked=True)
        compare(plan, progression, control)
        if is_main_process():
            print(f'{(time.time() - began) / 60:.1f} minutes in all')


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        what: Its first column.
        ap: Box AP in percent; None if it was not measured.
        detector: The name of what is run, for size and latency.
        has_baseline: Whether it is compared with the student trained on
            alone.
        baseline: Box AP of that student after as many stages.
    """
    what: str
    ap: float | None
    detector: str
    has_baseline: bool = False
    baseline: float | None = None

    @property
    def gain(self) -> float | None:
        """Against the student trained on alone."""
        if self.ap is None or self.baseline is None:
            return None
        return self.ap - self.baseline

    @property
    def gain_text(self) -> str | None:
        """The gain as the table shows it."""
        if not self.has_baseline:
            return None
        return number(self.gain, '+.1f') or ap_text(None)


def compare(plan: Plan, progression: Progression,
            control: Progression | None) -> None:
    """Print and write the table of all APs, sizes and latencies.

    Args:
        plan: Of the progression.
        progression: With teachers.
        control: Without, trained for as long; None where none can be.
    """
    specs = {'student': plan.student, **plan.teachers}
    detectors = {name: spec.build() for name, spec in specs.items()}
    reasons = unmeasurable_aps(replace(plan, order=None), detectors)
    aps = all_aps(plan, detectors, reasons)
    # The weights that come out: random ones find a thousand boxes, and NMS
    # takes longer for these than the network.
    load_weights(detectors['student'], progression.student, 'the student')
    sizes, milliseconds = {}, {}
    for name, detector in detectors.items():
        validation = validation_config(
            plan.student.config,
            None if name == 'student' else specs[name].config)
        sizes[name] = parameters(detector) / 1e6
        milliseconds[name] = 1000 * on_main(
            partial(latency, detector, validation))
    if not is_main_process():
        return

    cells, results = [], []
    for row in all_rows(plan, progression, control, aps):
        size, time_of_one = sizes[row.detector], milliseconds[row.detector]
        cells.append([row.what, ap_text(row.ap), row.gain_text,
                      f'{size:.2f} M', f'{time_of_one:.0f} ms'])
        results.append(dict(what=row.what, box_ap=row.ap, parameters_m=size,
                            latency_ms=time_of_one, minus_alone=row.gain))
    print(text_table('Results (latency: one image, batch of one)',
                     ['', 'box AP', 'minus alone', 'parameters', 'latency'],
                     cells))
    print(describe_gain(read_history(plan)))
    for reason in reasons:
        print(f'Not measured: {reason}')
    if progression.found is not None:
        print(f'Cost graph: {plan.paths.order_chart}')
    print(f'Student: {progression.student}')
    atomic_write(plan.paths.results, json.dumps(results, indent=1).encode())


def all_aps(plan: Plan, detectors: Mapping[str, BaseDetector],
            reasons: Sequence[str]) -> dict[str, float | None]:
    """Box APs in percent, declared or measured.

    Args:
        plan: Of the progression.
        detectors: Student and teachers by name.
        reasons: Why some cannot be measured.
    """
    specs = {'student': plan.student, **plan.teachers}
    measurable = {name: detector for name, detector in detectors.items()
                  if not any(reason.startswith(f'{specs[name].field}.ap ')
                             for reason in reasons)}
    if plan.student.checkpoint is None:  # it has learned nothing yet
        measurable.pop('student', None)
    aps = {name: spec.ap for name, spec in specs.items()}
    aps |= measured_aps(specs, measurable, plan.student.config,
                        plan.paths.measured)
    return aps


def all_rows(plan: Plan, progression: Progression,
             control: Progression | None,
             aps: Mapping[str, float | None]) -> Iterator[Row]:
    """The student alone, as it was trained on, stage by stage, the teachers.

    Args:
        plan: As in :func:`compare`, with ``progression`` and ``control``.
        aps: By detector.
    """
    if plan.student.checkpoint is not None:
        yield Row('student alone', aps['student'], 'student')
    alone = {} if control is None else {
        stage.index: stage.end_ap for stage in control.stages}
    for index, ap in alone.items():
        yield Row('student trained on alone, as long as stages 1 to '
                  f'{index}', ap, 'student')
    for stage in progression.stages:
        yield Row(f'stage {stage.index}, taught by {stage.teacher}',
                  stage.end_ap, 'student', control is not None,
                  alone.get(stage.index))
    for name in plan.teachers:
        yield Row(f'teacher {name}', aps[name], name)
