"""The whole progression: check, order, probe, stage after stage, export."""
import errno
import gc
import glob
import io
import json
import logging
import os
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Iterator

import torch
from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmengine.registry import RUNNERS, DefaultScope
from mmengine.runner import Runner

from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.checkpoints import read_checkpoint
from mtpd.compat.processes import init_processes
from mtpd.distill.auto_weight import is_disabled
from mtpd.distill.branch import NotFinite
from mtpd.distill.detector import build_detector
from mtpd.distill.hooks.checkpoint import ENTRY, OtherTeacher
from mtpd.distill.inherit import inherit
from mtpd.distill.pyramid import pyramid_channels
from mtpd.plan.plan import (Plan, PlanError, make_plan, missing_files,
                            stage_label)
from mtpd.plan.pool import build_pool
from mtpd.processes import on_main
from mtpd.provenance import differences, this_start, versions
from mtpd.randomness import isolate_rng
from mtpd.search.find_order import find_order
from mtpd.search.fitted_adapters import fitted_maps
from mtpd.search.found_order import FoundOrder
from mtpd.search.measure import (box_ap, mean_ap, measured_aps,
                                 validation_config)
from mtpd.show.charts import draw_costs, draw_order
from mtpd.show.progress_bar import progress_bar
from mtpd.show.tables import cost_table, level_table, progression_table
from mtpd.stage.checkpoints import (best_checkpoint, newest_checkpoint,
                                    set_aside_not_finite)
from mtpd.stage.config import StageRunner, stage_config, stage_dir
from mtpd.stage.preemption import preemptible
from mtpd.stage.seeding import with_memory
from mtpd.stage.validations import read_validations

from .export import export_student, plain_config
from .probe import probe


@dataclass(frozen=True)
class StageResult:
    """A finished stage.

    Attributes:
        index: From 1.
        teacher: Its name; several are joined by +.
        start: The student's box AP in percent before it, None if unknown.
        end: The box AP in percent of what it hands on.
        checkpoint: The student that it hands on, a plain mmdet checkpoint.
        seconds: Of training, in the process that finished it.
    """
    index: int
    teacher: str
    start: float | None
    end: float
    checkpoint: str
    seconds: float


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
    def best(self) -> StageResult:
        """The stage whose student has the highest AP."""
        return max(self.stages, key=lambda s: s.end)


class DiskFull(OSError):
    """A checkpoint could not be written; what was written before is whole."""


def prepare(cfg: Config) -> Plan:
    """Set up processes and scope, make the plan and check what it needs.

    Raises:
        PlanError: With everything that is wrong or missing.
    """
    init_processes(cfg)
    _scope(cfg)
    plan = make_plan(cfg)
    missing = missing_files(plan) + (unwritable(plan.work_dir) or unwritable(
        os.path.join(plan.work_dir, 'order')))
    if missing:
        raise PlanError(missing)
    return plan


def unwritable(folder: str, setting: str = 'work_dir: ',
               instead: str = '--work-dir') -> list[str]:
    """Why nothing can be written to a folder that may not be there yet.

    Args:
        folder: The folder; nothing is made, as a mistake that is found later
            shall leave none behind.
        setting: Where it was set, for the message.
        instead: How to set another.
    """
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if os.path.isdir(there) and os.access(there, os.W_OK):
        return []
    return [f'{setting}{folder} cannot be written, because {there} '
            + ('cannot' if os.path.isdir(there) else 'is no folder')
            + f'. Choose another by {instead}.']


def order_teachers(plan: Plan) -> FoundOrder:
    """The order by Backward Greedy Selection, said, saved and drawn."""
    with _full_disks_named(plan.work_dir):
        return _found(plan, build_pool(plan))


def run_progression(cfg: Config, resume: bool = False,
                    with_probe: bool = True) -> Progression:
    """Everything that ``tools/train.py`` does for a config with ``mtpd``.

    Args:
        cfg: The user's config, with ``work_dir`` set.
        resume: Go on with what ``work_dir`` holds: finished stages are not
            repeated, an unfinished one continues from its newest checkpoint.
        with_probe: Do three steps of every stage first, at the first start.

    Raises:
        PlanError: Something is wrong or missing, or a stage does not fit.
        OtherTeacher: ``resume`` with other teachers, order or student.
        DiskFull: The disk is full or read-only.
        Preempted: A SIGTERM came. Within training the iteration was ended
            and saved.
    """
    with preemptible(), _full_disks_named(cfg.work_dir):
        return _run(prepare(cfg), cfg, resume, with_probe)


def _run(plan: Plan, cfg: Config, resume: bool,
         with_probe: bool) -> Progression:
    start = this_start(resume and _started(plan))
    if not resume and _started(plan):
        raise PlanError([
            f'{plan.work_dir} holds a progression already. Add --resume to go '
            'on with it, or choose another --work-dir.'])
    barrier()
    print_log(plan.describe(), logger='current')
    memory = with_memory(plan.student.config)
    if memory:
        print_log(f'{", ".join(memory)} in the config: after a stop and '
                  '--resume training goes on, but not bit for bit as without '
                  'the stop, since what they remember is not saved.',
                  logger='current', level=logging.WARNING)
    plan = replace(plan, seed=on_main(lambda: _drawn_once(plan)))
    pool = build_pool(plan)
    found = None if plan.order else _found(plan, pool)
    order = tuple((name,) for name in found.order.teachers) if found \
        else plan.order or ()
    identity = _identity(plan, order)
    before = on_main(lambda: _same_progression(plan, identity))
    weights = _starting_weights(plan, order[0][0])
    with isolate_rng(0):
        start_ap = _starting_ap(plan, pool, weights)
    del pool
    _free_memory()
    seconds = before.get('seconds_per_step')
    if seconds is None and with_probe and not _started(plan):
        estimates = probe(plan, order)
        seconds = [e.seconds for e in estimates]
        _say_estimates(estimates)
        _free_memory()
    record = {'identity': identity, 'aps': _aps(plan, found),
              'costs': None if found is None else _cost_record(found),
              'versions': versions(), 'seed': plan.seed,
              'start_ap': start_ap, 'seconds_per_step': seconds,
              'starts': [*before.get('starts', []), start]}
    if is_main_process():
        os.makedirs(plan.work_dir, exist_ok=True)
        for path in glob.glob(os.path.join(glob.escape(plan.work_dir),
                                           '*.partial')):
            os.remove(path)
        atomic_write(os.path.join(plan.work_dir, 'config.py'),
                     cfg.pretty_text.encode())
        atomic_write(_state_file(plan), json.dumps(record, indent=1).encode())
    stages = _run_stages(plan, order, weights, record)
    out = os.path.join(plan.work_dir, 'student.pth')
    if is_main_process():
        export_student(stages[-1].checkpoint, out)
        atomic_write(os.path.join(plan.work_dir, 'student.py'),
                     plain_config(plan.student.config).pretty_text.encode())
    barrier()
    progression = Progression(stages, out, found)
    if is_main_process():
        print(progression_table(progression.stages,
                                taught=not is_disabled(plan.distill)))
        print(f'Student: {out} (best of the stages: stage '
              f'{progression.best.index}, AP {progression.best.end:.1f}, '
              f'{progression.best.checkpoint})')
    return progression


def _drawn_once(plan: Plan) -> int:
    """The config's seed, or one that is drawn for this work folder."""
    if plan.seed is not None:
        return plan.seed
    path = os.path.join(plan.work_dir, 'seed.json')
    if not os.path.isfile(path):
        os.makedirs(plan.work_dir, exist_ok=True)
        # Not by the generators that the seed is for.
        atomic_write(path, json.dumps(
            random.SystemRandom().randrange(2 ** 31)).encode())
    with open(path) as file:
        return json.load(file)


def _run_stages(plan: Plan, order: tuple[tuple[str, ...], ...],
                weights: str | None, record: dict[str, Any]
                ) -> tuple[StageResult, ...]:
    """Every stage that is not finished yet, each from the one before."""
    stages: list[StageResult] = []
    start = record['start_ap']
    seconds = record['seconds_per_step'] or [1.] * len(order)
    for index, names in enumerate(order, 1):
        result = _finished(plan, index, names, record['identity'])
        if result is None:
            later = sum(seconds[index:]) / seconds[index - 1]
            result = _train_stage(plan, index, names, weights, start, record,
                                  later)
        else:
            print_log(f'Stage {index} ({stage_label(names)}) is finished: AP '
                      f'{result.end:.1f}', logger='current')
        stages.append(result)
        weights, start = result.checkpoint, result.end
    return tuple(stages)


def run_stage(cfg: Config) -> None:
    """One mmengine run; its Runner is gone when this returns.

    Args:
        cfg: A stage's config, or any mmdet config.
    """
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg \
        else StageRunner.from_cfg(cfg)
    try:
        runner.train()
    except NotFinite as error:
        newest = on_main(lambda: set_aside_not_finite(cfg.work_dir))
        raise NotFinite(
            f'{os.path.basename(os.path.normpath(cfg.work_dir))}, iteration '
            f'{runner.iter + 1} (epoch {runner.epoch + 1}): {error} '
            + (f'The last good checkpoint is {newest}.' if newest else
               'There is no checkpoint yet.')) from error
    finally:
        _let_workers_go(runner)
    if runner.visualizer is not None:
        runner.visualizer.close()
    del runner
    _free_memory()


def _let_workers_go(runner: Runner) -> None:
    """End a Runner's worker processes.

    The garbage collector, which finds Runners in cycles, closes the workers'
    queues before it tells them to end; then each is waited for in vain for
    five seconds (seen with torch 2.11).
    """
    for loop in (runner._train_loop, runner._val_loop):
        loader: Any = getattr(loop, 'dataloader', None)
        if getattr(loader, 'persistent_workers', False):
            loader._iterator = None


@contextmanager
def _full_disks_named(work_dir: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS,
                               errno.EFBIG):
            raise
        raise DiskFull(
            error.errno,
            f'Writing to {work_dir} failed: {error.strerror}. Every '
            'checkpoint written before is whole. Free some space, then run '
            'the same command with --resume') from error


def _train_stage(plan: Plan, index: int, names: tuple[str, ...],
                 weights: str | None, start: float | None,
                 record: dict[str, Any], later: float) -> StageResult:
    name = stage_label(names)
    hashes = record['identity']['teachers']
    provenance = {**{key: record[key] for key in (
        'identity', 'aps', 'costs', 'versions', 'seed')},
        'stage': index, 'teacher': name,
        'teacher_hash': '+'.join(hashes[n] for n in names),
        'start_ap': start}
    cfg = stage_config(plan, index, names, weights, provenance, later)
    folder = cfg.work_dir

    def newest() -> str | None:
        return on_main(lambda: newest_checkpoint(folder, lambda content: (
            _not_of_stage(content, provenance))))

    cfg.load_from = newest()
    cfg.resume = cfg.load_from is not None
    print_log(f'Stage {index}: {name}' + (
        f', going on from {cfg.load_from}' if cfg.resume else
        ', from its beginning'), logger='current')
    if plan.init_adapters == 'fitted' and not is_disabled(plan.distill):
        _fit_adapters(plan, names, weights, cfg.model.init_adapters)
    began = time.time()
    run_stage(cfg)
    seconds = time.time() - began
    barrier()  # the others wait until the first has written
    source = on_main(lambda: best_checkpoint(folder)) \
        if plan.handover == 'best' else None
    source = source or newest()
    if source is None:
        raise RuntimeError(
            f'Stage {index} left no checkpoint in {folder}. Set '
            'default_hooks.checkpoint with save_last=True.')
    end = _end_ap(plan, folder, source)
    out = os.path.join(folder, 'student.pth')
    if is_main_process():
        # Written last: its presence is what makes the stage finished.
        export_student(source, out, {'end_ap': end, 'seconds': seconds})
    barrier()
    return StageResult(index, name, start, end, out, seconds)


def _not_of_stage(content: dict[str, Any],
                  provenance: dict[str, Any]) -> str | None:
    """Why a checkpoint is not of this stage, None if it is."""
    saved = content.get(ENTRY)
    if saved is None:
        return 'it was not written by this progression (no "mtpd" entry).'
    other = differences({'stage': saved.get('stage'),
                         **saved.get('identity', {})},
                        {'stage': provenance['stage'],
                         **provenance['identity']})
    return 'it belongs to another stage or progression: ' + '; '.join(other) \
        if other else None


def _end_ap(plan: Plan, folder: str, checkpoint: str) -> float:
    """Of what a stage hands on, as its validation said, or measured."""
    metrics = on_main(lambda: read_validations(folder).get(
        read_checkpoint(checkpoint)['meta'].get('iter')))
    if metrics is not None and (
            not metrics or any(k.endswith('bbox_mAP') for k in metrics)):
        return 100 * mean_ap(metrics)
    with isolate_rng(0):
        return box_ap(build_detector(plan.student.model, checkpoint,
                                     checkpoint),
                      validation_config(plan.student.config))


def _fit_adapters(plan: Plan, names: tuple[str, ...], weights: str | None,
                  out: str) -> None:
    """Write the linear maps from the present student to the stage's teachers,
    unless they are there."""
    if on_main(lambda: os.path.isfile(out)):
        return
    with isolate_rng(0):
        maps = fitted_maps(plan, build_detector(
            plan.student.model, weights, 'mtpd.student.checkpoint'), names)
    if is_main_process():
        buffer = io.BytesIO()
        torch.save(maps, buffer)
        os.makedirs(os.path.dirname(out), exist_ok=True)
        atomic_write(out, buffer.getvalue())
    barrier()


def _starting_weights(plan: Plan, teacher: str) -> str | None:
    """What the first stage starts from; None for its own initialisation.

    Where the student's checkpoint alone does not say it (weights taken over
    from a teacher, adapters fitted to a student without a checkpoint), a file
    is written once and used again by a resumed run.

    Raises:
        PlanError: Nothing can be taken over.
    """
    fitted = plan.init_adapters == 'fitted' and not is_disabled(plan.distill)
    if not plan.inherit and (plan.student.checkpoint or not fitted):
        return plan.student.checkpoint
    out = os.path.join(plan.work_dir, 'start.pth')
    barrier()
    # Of a start that did not come to a stage it may be another config's.
    if is_main_process() and not (os.path.isfile(out) and _started(plan)):
        with isolate_rng(plan.seed or 0):
            student = build_detector(
                plan.student.model, plan.student.checkpoint,
                'mtpd.student.checkpoint')
            if plan.student.checkpoint is None:
                student.init_weights()
        weights = student.state_dict()
        if plan.inherit:
            weights = _inherited(plan, weights, teacher)
        os.makedirs(plan.work_dir, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(dict(state_dict=weights), buffer)
        atomic_write(out, buffer.getvalue())
    barrier()
    return out


def _inherited(plan: Plan, weights: dict[str, Any],
               teacher: str) -> dict[str, Any]:
    spec = plan.teachers[teacher]
    with isolate_rng(0):
        source = build_detector(spec.model, spec.checkpoint,
                                f'{spec.field}.checkpoint')
        own, theirs = (tuple(pyramid_channels(detector)) for detector in (
            build_detector(plan.student.model), source))
    if 'neck' in plan.inherit and own != theirs:
        # A Mask R-CNN's fpn_convs.0 makes stride 4, a RetinaNet's stride 8,
        # and both have the same name and shape.
        raise PlanError([
            f'mtpd.inherit: the neck of {teacher} makes maps of strides '
            f'{theirs}, the student\'s of {own}, so layers of one name are '
            "not of one level. Leave 'neck' out, or take a first teacher of "
            'the same strides.'])
    try:
        taken = inherit(weights, source.state_dict(), plan.inherit)
    except ValueError as error:
        raise PlanError([str(error)]) from error
    print_log(f'From {teacher}:\n{taken.describe()}', logger='current')
    return taken.weights


def _finished(plan: Plan, index: int, names: tuple[str, ...],
              identity: dict[str, Any]) -> StageResult | None:
    path = os.path.join(stage_dir(plan, index, names), 'student.pth')
    if not os.path.isfile(path):
        return None
    said = read_checkpoint(path)['meta'][ENTRY]
    other = differences(said['identity'], identity)
    if other:
        raise OtherTeacher(f'{path} belongs to another progression:\n  '
                           + '\n  '.join(other))
    return StageResult(index, stage_label(names), said['start_ap'],
                       said['end_ap'], path, said['seconds'])


def _found(plan: Plan, pool: dict) -> FoundOrder:
    with progress_bar('Adaptation costs') as progress:
        found = find_order(plan, pool, progress)
    if is_main_process():
        show_order(found, os.path.join(plan.work_dir, 'order'))
    return found


def show_order(found: FoundOrder, folder: str) -> None:
    """Print costs, reasons and margins, and draw both images.

    Args:
        found: The order.
        folder: Where the images are written.
    """
    draw_costs(found.costs, os.path.join(folder, 'adaptation_cost.png'))
    draw_order(found.costs, found.aps, found.order,
               os.path.join(folder, 'teacher_order.png'), found.latencies,
               found.student_ap)
    print(level_table(found.costs))
    print(cost_table(found.costs))
    for step, decision in zip(found.order.steps, found.decisions(),
                              strict=True):
        print(f'  {step.reason}')
        if decision.compared:
            print(f'      {decision.describe()}')
    print('Order: ' + ' > '.join(found.order.teachers))


def _starting_ap(plan: Plan, pool: dict,
                 weights: str | None) -> float | None:
    if weights is None:
        return None
    student, detector = plan.student, pool['student']
    if weights != student.checkpoint:
        student = replace(student, checkpoint=weights)
        detector = build_detector(student.model, weights)
    memory = os.path.join(plan.work_dir, 'measured.json')
    return measured_aps({'student': student}, {'student': detector},
                        student.config, memory)['student']


def _say_estimates(estimates: list) -> None:
    for index, estimate in enumerate(estimates, 1):
        print_log(f'Probe of stage {index}, {estimate}', logger='current')
    print_log(f'In all {sum(e.hours for e in estimates):.2f} h of training '
              '(validation and data loading not counted)', logger='current')


def _identity(plan: Plan,
              order: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    names = [name for stage in order for name in stage]
    return json.loads(json.dumps({
        'student': plan.student.hash(),
        'teachers': {n: plan.teachers[n].hash() for n in names},
        'scales': {n: plan.teachers[n].scale for n in names},
        'order': [stage_label(stage) for stage in order],
        'distill': plan.distill, 'strides': plan.strides,
        'handover': plan.handover, 'adapter': plan.adapter,
        'init_adapters': plan.init_adapters, 'inherit': plan.inherit,
        'fade': plan.fade, 'seed': plan.seed}, default=str))


def _same_progression(plan: Plan, identity: dict[str, Any]) -> dict[str, Any]:
    """What was recorded when the progression began; empty if it has not."""
    path = _state_file(plan)
    if not os.path.isfile(path):
        return {}
    with open(path) as file:
        record = json.load(file)
    other = differences(record['identity'], identity)
    if other:
        raise OtherTeacher(
            f'{plan.work_dir} holds another progression:\n  '
            + '\n  '.join(other) + '\nRestore the config, or start without '
            '--resume in another --work-dir.')
    return record


def _started(plan: Plan) -> bool:
    return os.path.isfile(_state_file(plan))


def _state_file(plan: Plan) -> str:
    return os.path.join(plan.work_dir, 'progression.json')


def _aps(plan: Plan, found: FoundOrder | None) -> dict[str, float | None]:
    return dict(found.aps) if found else {n: t.ap
                                          for n, t in plan.teachers.items()}


def _cost_record(found: FoundOrder) -> dict[str, float]:
    names = found.costs.names
    return {f'{a}>{b}': found.costs.cost(a, b) for a in names for b in names
            if a != b}


def _scope(cfg: Config) -> None:
    """mmdet's registries find their parts, also before there is a Runner."""
    scope = cfg.get('default_scope') or 'mmdet'
    if DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance('mtpd', scope_name=scope)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
