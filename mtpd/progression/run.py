"""The whole progression: check, order, probe, stage after stage, export."""
import logging
import os
from dataclasses import dataclass, replace
from typing import Any, Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log

from mtpd.compat.atomic_files import atomic_write, remove_partial_files
from mtpd.compat.config_text import pretty_text
from mtpd.plan.describe import describe_plan
from mtpd.plan.identity import identity_of
from mtpd.plan.plan import Plan, Stages, with_found_files
from mtpd.plan.work_dir import only_run
from mtpd.processes import on_main
from mtpd.provenance import this_start, versions
from mtpd.randomness import isolate_rng
from mtpd.search.found_order import FoundOrder
from mtpd.show.detector_aps import ap_table, weaker_teachers
from mtpd.show.tables import ap_text, best_stage, progression_table
from mtpd.stage.preemption import preemptible
from mtpd.stage.runner import free_memory, move_to_cpu
from mtpd.stage.seeding import stateful_components

from .export import export_student, plain_config
from .pool_training import retraining
from .prepare import full_disks_named, prepare
from .probe import probe, try_prediction
from .record import is_started, read_record, seed_of, write_record
from .stage_sequence import (StageResult, check_stages, run_stages,
                             warn_of_other_lengths)
from .start import starting_ap, starting_weights, teacher_aps
from .show_order import search_and_show_order


@dataclass(frozen=True)
class Progression:
    """A finished progression.

    Attributes:
        stages: In order.
        student: The last stage's student, a plain mmdet checkpoint.
        found: The order with costs, None where the config gave the order.
    """
    stages: tuple[StageResult, ...]
    student: str
    found: FoundOrder | None

    @property
    def best(self) -> StageResult | None:
        """The stage whose student has the highest AP; None where none was
        measured."""
        return best_stage(self.stages)


def run_progression(cfg: Config, resume: bool = False,
                    with_probe: bool = True,
                    data_is_checked: bool = False) -> Progression:
    """Everything that ``tools/train.py`` does for a config with ``mtpd``.

    Args:
        cfg: The user's config, with ``work_dir`` set.
        resume: Continue with what ``work_dir`` holds: finished stages are not
            repeated, an unfinished one resumes from its newest checkpoint.
        with_probe: Do three steps of every stage first, at the first start.
        data_is_checked: See ``prepare``.

    Raises:
        OtherTeacher: ``resume`` with other teachers, order or student.
        DiskFull: The disk is full or read-only.
        PlanError: Something is wrong or missing, a stage does not fit, or
            another run trains in ``work_dir``.
        Preempted: A SIGTERM came. Within training the iteration was ended
            and saved.
    """
    with preemptible(), full_disks_named(cfg.work_dir):
        plan, pool = prepare(cfg, data_is_checked, resume)
        with only_run(plan.paths):
            return _run(cfg, plan, pool, resume, with_probe)


def _run(cfg: Config, plan: Plan, pool: dict[str, BaseDetector], resume: bool,
         with_probe: bool) -> Progression:
    """Everything after the checks."""
    start = this_start(resume and is_started(plan))
    barrier()
    print_log(describe_plan(plan), logger='current')
    components = stateful_components(
        plan.student.config, plan.unlabelled.pipeline or ()
        if plan.unlabelled else ())
    if components:
        print_log(f'{", ".join(components)} in the config: no checkpoint '
                  'stores their state, so a resumed run is not bit for '
                  'bit the run without the stop.', logger='current',
                  level=logging.WARNING)
    plan = replace(plan, seed=on_main(lambda: seed_of(plan)))
    if with_probe and not is_started(plan):
        try_prediction(plan, pool['student'])
    found = None if plan.order else search_and_show_order(plan, pool)
    order = plan.order or ()
    if found is not None:
        order = tuple((name,) for name in found.order.teachers)
    on_main(lambda: check_stages(plan, order, resume))
    weights, record = _begin(plan, order, found, pool, start, with_probe)

    if is_main_process():
        warn_of_other_lengths(plan, order)
        os.makedirs(plan.work_dir, exist_ok=True)
        remove_partial_files(plan.work_dir)
        text = pretty_text(with_found_files(cfg, plan)._cfg_dict)
        atomic_write(plan.paths.config, text.encode())
        write_record(plan, record)
    stages = run_stages(plan, order, weights, record, pool)
    return _end(plan, stages, found)


def _begin(plan: Plan, order: Stages, found: FoundOrder | None,
           pool: dict[str, BaseDetector], start: Mapping[str, Any],
           with_probe: bool) -> tuple[str | None, dict[str, Any]]:
    """The weights of the first stage, and what progression.json is to hold.

    Afterwards the pool has the teachers of the order alone, on the CPU.
    """
    identity = identity_of(plan, order)
    before = on_main(lambda: read_record(plan, identity))
    weights = starting_weights(plan, pool, order[0][0])
    with isolate_rng(0):
        start_ap = starting_ap(plan, pool, weights)
        aps = dict(found.aps) if found else teacher_aps(plan, pool)
    names = {name for stage in order for name in stage}
    for name in set(pool) - names:
        del pool[name]
    move_to_cpu(pool)
    free_memory()
    seconds = before.get('seconds_per_step')
    if seconds is None and with_probe and not is_started(plan):
        estimates = probe(plan, order, pool)
        seconds = [estimate.seconds for estimate in estimates]
        free_memory()
    if plan.distils:
        _show_aps(plan, start_ap, aps, found)
    costs = None
    if found is not None:
        costs = {}
        for source, target in found.costs.pairs:
            costs[f'{source}>{target}'] = found.costs.cost(source, target)
    return weights, {
        'identity': identity, 'aps': aps, 'costs': costs,
        'versions': versions(), 'seed': plan.seed, 'start_ap': start_ap,
        'seconds_per_step': seconds, 'share': plan.share,
        'starts': [*before.get('starts', []), start]}


def _show_aps(plan: Plan, start_ap: float | None,
              aps: Mapping[str, float | None],
              found: FoundOrder | None) -> None:
    """Everybody's AP, unless the search has just shown it, and a warning for
    each teacher below the student's."""
    if found is None or found.student_ap != start_ap:
        table = ap_table(start_ap, aps, plan.declares_aps)
        print_log(f'\n{table}', logger='current')
    for warning in weaker_teachers(start_ap, aps, retraining(plan)):
        print_log(warning, logger='current', level=logging.WARNING)


def _end(plan: Plan, stages: tuple[StageResult, ...],
         found: FoundOrder | None) -> Progression:
    """Export the student and print what came of it."""
    progression = Progression(stages, plan.paths.student, found)
    if is_main_process():
        export_student(stages[-1].checkpoint, progression.student)
        config = plain_config(plan.student.config)
        text = pretty_text(config._cfg_dict)
        atomic_write(plan.paths.student_config, text.encode())
    barrier()
    if is_main_process():
        best = progression.best
        print(progression_table(stages, taught=plan.distils))
        choice = 'no AP could be measured: see the validations above' \
            if best is None else f'best of the stages: stage {best.index}, ' \
            f'AP {ap_text(best.end_ap)}, {best.checkpoint}'
        print(f'Student: {progression.student} ({choice})')
    return progression
