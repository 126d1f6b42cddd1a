"""Everything from scratch: train student and pool, order, distil, compare.

    python tools/from_scratch.py configs/bccd/mtpd.py

For data sets on which no trained detectors exist yet. Every detector whose
checkpoint file does not exist is trained with its own config. Then the
config's progression runs, then its baseline: the student trained on alone for
as many stages with the same restarts (the progression with distillation weight
0). One table shows them all. Run again after a stop, it resumes.
"""
import copy
import json
import time
from functools import partial

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mtpd.analysis.sizes import parameters
from mtpd.command_line import parser, plain_errors, read_config
from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.processes import init_processes
from mtpd.plan.errors import PlanError
from mtpd.processes import on_main
from mtpd.progression import Plan, Progression, check, run_progression
from mtpd.progression.pool_training import train_if_missing
from mtpd.search.measure import latency, measured_aps, validation_config
from mtpd.show.tables import text_table


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument('--no-probe', action='store_true',
                       help='start without the three trial steps per stage')
    args = flags.parse_args()
    began = time.time()
    with plain_errors():
        cfg = read_config(args)
        if 'mtpd' not in cfg:
            raise PlanError([f'{args.config} has no mtpd part. Name the '
                             'config of a progression.'])
        init_processes(cfg)
        checked = check(cfg, is_pretrained=False)
        if checked.problems:
            raise PlanError(checked.problems)
        plan = checked.plan
        for spec in (plan.student, *plan.teachers.values()):
            train_if_missing(spec, plan)
        progression = run_progression(
            copy.deepcopy(cfg), resume=True, with_probe=not args.no_probe,
            data_is_checked=True)
        baseline = train_baseline(cfg, plan, progression)
        compare(plan, progression, baseline)
        if is_main_process():
            print(f'{(time.time() - began) / 60:.1f} minutes in all')


def train_baseline(cfg: Config, plan: Plan,
                   progression: Progression) -> Progression:
    """The same stages, schedule and restarts, without a teacher."""
    cfg = copy.deepcopy(cfg)
    found = progression.found
    cfg.mtpd.order = list(found.order.teachers if found else plan.order or ())
    cfg.mtpd.max_teachers = None
    cfg.mtpd.distill = {**plan.distill, 'loss_weight': 0}
    cfg.work_dir = plan.paths.baseline
    print_log('Baseline: the student trained on alone, in the same stages '
              'with distillation weight 0.', logger='current')
    return run_progression(cfg, resume=True, with_probe=False,
                           data_is_checked=True)


def compare(plan: Plan, progression: Progression,
            baseline: Progression) -> None:
    """Print and write the table of all APs, sizes and latencies.

    Args:
        plan: Of the progression.
        progression: With teachers.
        baseline: Without, trained for as long.
    """
    specs = {'student': plan.student, **plan.teachers}
    detectors = {name: spec.build() for name, spec in specs.items()}
    aps = measured_aps(specs, detectors, plan.student.config,
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

    rows = [('student alone', aps['student'], 'student')]
    for stage in baseline.stages:
        rows.append(('student trained on alone, as long as stages 1 to '
                     f'{stage.index}', stage.end_ap, 'student'))
    for stage in progression.stages:
        rows.append((f'stage {stage.index}, taught by {stage.teacher}',
                     stage.end_ap, 'student'))
    for name in plan.teachers:
        rows.append((f'teacher {name}', aps[name], name))
    cells, results = [], []
    for what, ap, name in rows:
        milliseconds = 1000 * seconds[name]
        cells.append([what, f'{ap:.1f}', f'{sizes[name]:.2f} M',
                      f'{milliseconds:.0f} ms'])
        results.append(dict(what=what, box_ap=ap, parameters_m=sizes[name],
                            latency_ms=milliseconds))
    print(text_table('Results (latency: one image, batch of one)',
                     ['', 'box AP', 'parameters', 'latency'], cells))
    gain = progression.stages[-1].end_ap - baseline.stages[-1].end_ap
    verdict = 'Distillation helped' if gain > 0 else \
        'Distillation did not help'
    print(f'{verdict}: the progression ends {gain:+.1f} AP from the student '
          'trained on alone for as long (one seed each).')
    if progression.found is not None:
        print(f'Cost graph: {plan.paths.order_chart}')
    print(f'Student: {progression.student}')
    atomic_write(plan.paths.results, json.dumps(results, indent=1).encode())


if __name__ == '__main__':
    main()
