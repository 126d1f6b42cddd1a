"""The main job from nothing: train student and pool, order, distil, compare.

    python tools/from_scratch.py configs/bccd/mtpd.py

For data sets on which no trained detectors exist yet. Every detector whose
checkpoint file is not there is trained with its own config; then the config's
progression runs, then the student is trained on alone for as many stages with
the same restarts (the progression with distillation weight 0), and one table
shows them all. Run again, it goes on where it was stopped.
"""
import copy
import json
import os
import time

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mtpd.command_line import parser, plain_errors, read_config
from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.processes import init_processes
from mtpd.distill.detector import build_detector
from mtpd.plan.data_check import missing_data
from mtpd.plan.errors import PlanError
from mtpd.processes import on_main
from mtpd.progression import (Plan, Progression, make_plan, prepare,
                              run_progression)
from mtpd.progression.pool_training import train_if_missing
from mtpd.search.measure import latency, measured_aps, validation_config
from mtpd.show.tables import text_table


def main() -> None:
    made = parser(__doc__)
    made.add_argument('--no-probe', action='store_true',
                      help='start without the three trial steps per stage')
    args = made.parse_args()
    began = time.time()
    with plain_errors():
        cfg = read_config(args)
        if 'mtpd' not in cfg:
            raise PlanError([f'{args.config} has no mtpd part.'])
        init_processes(cfg)
        plan = make_plan(cfg)
        missing = missing_data(plan)
        if missing:
            raise PlanError(missing)
        for spec in (plan.student, *plan.teachers.values()):
            train_if_missing(spec, plan)
        progression = run_progression(copy.deepcopy(cfg), resume=True,
                                      with_probe=not args.no_probe)
        alone = train_on_alone(cfg, plan, progression)
        compare(prepare(cfg), progression, alone)
        if is_main_process():
            print(f'{(time.time() - began) / 60:.1f} minutes in all')


def train_on_alone(cfg: Config, plan: Plan,
                   progression: Progression) -> Progression:
    """The same stages, schedule and restarts, without a teacher."""
    cfg = copy.deepcopy(cfg)
    found = progression.found
    cfg.mtpd.order = list(found.order.teachers if found else plan.order or ())
    cfg.mtpd.max_teachers = None
    cfg.mtpd.distill = {**plan.distill, 'loss_weight': 0}
    cfg.work_dir = os.path.join(cfg.work_dir, 'alone')
    print_log('The comparison: the student trained on alone, the same stages '
              'with distillation weight 0.', logger='current')
    return run_progression(cfg, resume=True, with_probe=False)


def compare(plan: Plan, progression: Progression, alone: Progression) -> None:
    """Print and write the table of everybody's AP, size and speed."""
    specs = {'student': plan.student, **plan.teachers}
    built = {name: build_detector(spec.model, spec.checkpoint, spec.field)
             for name, spec in specs.items()}
    aps = measured_aps(specs, built, plan.student.config,
                       os.path.join(plan.work_dir, 'measured.json'))
    cost = {}
    for name, detector in built.items():
        validation = validation_config(
            plan.student.config,
            None if name == 'student' else specs[name].config)
        cost[name] = (sum(p.numel() for p in detector.parameters()) / 1e6,
                      1000 * on_main(lambda: latency(detector, validation)))
    if not is_main_process():
        return

    rows = [('student alone', aps['student'], 'student')]
    rows += [(f'student trained on alone, as long as stages 1 to {s.index}',
              s.end, 'student') for s in alone.stages]
    rows += [(f'stage {s.index}, taught by {s.teacher}', s.end, 'student')
             for s in progression.stages]
    rows += [(f'teacher {name}', aps[name], name) for name in plan.teachers]
    print(text_table('Results (latency: one image, batch of one)',
                     ['', 'box AP', 'parameters', 'latency'],
                     [[what, f'{ap:.1f}', f'{cost[model][0]:.2f} M',
                       f'{cost[model][1]:.0f} ms']
                      for what, ap, model in rows]))
    gain = progression.stages[-1].end - alone.stages[-1].end
    verdict = 'Distillation helped' if gain > 0 else \
        'Distillation did not help'
    print(f'{verdict}: the progression ends {gain:+.1f} AP from the student '
          'trained on alone for as long (one seed each).')
    found = progression.found
    if found is not None:
        print('Cost graph: ' + os.path.join(plan.work_dir, 'order',
                                            'teacher_order.png'))
    print(f'Student: {progression.student}')
    results = [dict(what=what, box_ap=ap, parameters_m=cost[model][0],
                    latency_ms=cost[model][1]) for what, ap, model in rows]
    atomic_write(os.path.join(plan.work_dir, 'results.json'),
                 json.dumps(results, indent=1).encode())


if __name__ == '__main__':
    main()
