"""Everything from scratch: train student and pool, order, distil, compare.

    python tools/from_scratch.py configs/bccd/progression.py

For data sets on which no trained detectors exist yet. Every detector whose
checkpoint file does not exist is trained with its own config. Then the
config's progression runs, then its control: the student trained on alone for
as many stages with the same restarts (the progression with distillation weight
0). One table shows them all. Run again after a stop, it resumes.
"""
import copy
import json
import time
from dataclasses import replace
from functools import partial

from mmengine.dist import is_main_process

from mtpd.analysis.sizes import parameters
from mtpd.command_line import parser, plain_errors, read_config
from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.processes import init_processes
from mtpd.plan.errors import PlanError
from mtpd.plan.pool import unmeasurable_aps
from mtpd.processes import on_main
from mtpd.progression import Plan, Progression, check, run_progression
from mtpd.progression.control import describe_gain, run_control
from mtpd.progression.history import read_history
from mtpd.progression.pool_training import (train_if_missing, untrainable,
                                            untrained_notes)
from mtpd.progression.prepare import log_notes
from mtpd.search.latency import latency
from mtpd.search.measure import measured_aps, validation_config
from mtpd.show.tables import ap_text, number, text_table


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument('--no-probe', action='store_true',
                       help='start without the three trial steps per stage')
    args = flags.parse_args()
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
        for spec in (student, *plan.teachers.values()):
            train_if_missing(spec, plan)
        progression = run_progression(
            copy.deepcopy(cfg), resume=True, with_probe=not args.no_probe,
            data_is_checked=True)
        control = run_control(cfg, read_history(plan), data_is_checked=True)
        compare(plan, progression, control)
        if is_main_process():
            print(f'{(time.time() - began) / 60:.1f} minutes in all')


def compare(plan: Plan, progression: Progression,
            control: Progression) -> None:
    """Print and write the table of all APs, sizes and latencies.

    Args:
        plan: Of the progression.
        progression: With teachers.
        control: Without, trained for as long.
    """
    specs = {'student': plan.student, **plan.teachers}
    detectors = {name: spec.build() for name, spec in specs.items()}
    reasons = unmeasurable_aps(replace(plan, order=None), detectors)
    measurable = {name: detector for name, detector in detectors.items()
                  if not any(reason.startswith(f'{specs[name].field}.ap ')
                             for reason in reasons)}
    if plan.student.checkpoint is None:  # it has learned nothing yet
        measurable.pop('student', None)
    aps = {name: spec.ap for name, spec in specs.items()}
    aps |= measured_aps(specs, measurable, plan.student.config,
                        plan.paths.measured)
    sizes, seconds = {}, {}
    for name, detector in detectors.items():
        validation = validation_config(
            plan.student.config,
            None if name == 'student' else specs[name].config)
        sizes[name] = parameters(detector) / 1e6
        seconds[name] = on_main(partial(latency, detector, validation))
    if not is_main_process():
        return

    rows = []
    if plan.student.checkpoint is not None:
        rows.append(('student alone', aps['student'], 'student'))
    for stage in control.stages:
        rows.append(('student trained on alone, as long as stages 1 to '
                     f'{stage.index}', stage.end_ap, 'student'))
    gains: dict[str, float | None] = {}
    for stage, alone in zip(progression.stages, control.stages, strict=True):
        what = f'stage {stage.index}, taught by {stage.teacher}'
        rows.append((what, stage.end_ap, 'student'))
        gains[what] = None
        if stage.end_ap is not None and alone.end_ap is not None:
            gains[what] = stage.end_ap - alone.end_ap
    for name in plan.teachers:
        rows.append((f'teacher {name}', aps[name], name))
    cells, results = [], []
    for what, ap, name in rows:
        milliseconds = 1000 * seconds[name]
        gain = number(gains.get(what), '+.1f')
        if gain is None and what in gains:
            gain = ap_text(None)
        cells.append([what, ap_text(ap), gain,
                      f'{sizes[name]:.2f} M', f'{milliseconds:.0f} ms'])
        results.append(dict(what=what, box_ap=ap, parameters_m=sizes[name],
                            latency_ms=milliseconds,
                            minus_alone=gains.get(what)))
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


if __name__ == '__main__':
    main()
