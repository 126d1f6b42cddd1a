"""What the evidence is made of: a pool, and students taught stage by stage.

Each job leaves a JSON file with all that is published of it. See evidence.py.
"""
import copy
import hashlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, Iterator, Mapping

import torch
from mmengine.config import Config

from mtpd.analysis.comparison import Settings, compare_runs
from mtpd.analysis.runs import read_run
from mtpd.compat.atomic_files import atomic_write
from mtpd.compat.checkpoints import read_checkpoint
from mtpd.data.drawn_shapes import draw_shapes
from mtpd.order.costs import AdaptationCosts
from mtpd.order.moments import FeatureMoments
from mtpd.plan.plan import DetectorSpec, PlanError, load_config, missing_data
from mtpd.progression import (export_student, make_plan, order_teachers,
                              prepare, run_progression)
from mtpd.progression.history import StageHistory, read_log
from mtpd.progression.run import run_stage
from mtpd.provenance import versions
from mtpd.search.exact import moments_folder
from mtpd.search.found_order import reorder
from mtpd.search.moment_store import MomentStore
from mtpd.stage.checkpoints import newest_checkpoint

RESULTS = Path(__file__).with_name('evidence')
WEIGHTS = Path('work_dirs/evidence')


class Job:
    """Something to be measured, once.

    Attributes:
        dataset: A folder below configs/evidence.
        name: Of its JSON in the dataset's folder of :data:`RESULTS`, and of
            its folder in :data:`WEIGHTS`.
        weights: The checkpoint that it leaves, which is not committed; None
            if it leaves none.
        needs: Those whose weights it starts from.
    """
    dataset: str
    name: str
    weights: str | None = None
    needs: 'tuple[Job, ...]' = ()

    @property
    def result(self) -> Path:
        """Its JSON."""
        return RESULTS / self.dataset / f'{self.name}.json'

    @property
    def folder(self) -> Path:
        """Where it works."""
        return WEIGHTS / self.dataset / self.name

    @property
    def done(self) -> bool:
        """Whether its JSON is there."""
        return self.result.exists()

    @property
    def usable(self) -> bool:
        """Whether others can start from it."""
        return self.done and os.path.isfile(self.weights or self.result)

    def steps(self) -> 'Iterator[Job]':
        """What is to be run for it, itself last: also what was measured
        already where its weights are gone, as in a fresh clone."""
        for need in self.needs:
            if not need.usable:
                yield from need.steps()
        yield self

    def read(self) -> dict[str, Any]:
        """Its JSON.

        Raises:
            FileNotFoundError: It was not run.
        """
        return json.loads(self.result.read_text())

    def measure(self) -> dict[str, Any]:
        """Do it; what is published of it."""
        raise NotImplementedError

    def run(self) -> None:
        """Do it and write its JSON; or, where that is there already, make its
        weights once more.

        Raises:
            SystemExit: They came out as others than those of the results.
        """
        facts = self.measure()
        if not self.done:
            atomic_write(self.result, (json.dumps(
                facts, indent=1, default=str) + '\n').encode())
        elif facts['weights'] != self.read()['weights']:
            assert self.weights is not None
            os.remove(self.weights)
            sys.exit(
                f'{self.name} was trained once more, as its weights are not '
                f'here, and came out as {facts["weights"]}; the results in '
                f'{self.result.parent} are of {self.read()["weights"]} (with '
                'other hardware or versions, or another number of threads). '
                'They cannot be gone on with here: move that folder away, and '
                'all is measured anew.')


@dataclass(frozen=True)
class Teacher(Job):
    """One of the pool, trained by its own config."""
    dataset: str
    teacher: str

    @property
    def name(self) -> str:
        return f'pool_{self.teacher}'

    @property
    def weights(self) -> str:
        return pool_of(self.dataset)[self.teacher].checkpoint

    def measure(self) -> dict[str, Any]:
        began = time.monotonic()
        cfg = copy.deepcopy(pool_of(self.dataset)[self.teacher].config)
        cfg.work_dir = str(self.folder)
        train_plain(cfg, self.weights)
        return {'name': self.teacher, 'weights': digest(self.weights),
                **of_training(cfg, cfg.work_dir, began)}


@dataclass(frozen=True)
class Stage:
    """What is trained from one node to the next.

    Attributes:
        teachers: Several teach at once; none for training on alone.
        epochs: Its length; the learning rate starts anew.
        decay: 'cosine' or 'linear' fall of the rate to 0 after a warm-up.
        changes: Of ``mtpd``, as pairs (``('distill.loss_weight', 3.)``).
    """
    teachers: tuple[str, ...]
    epochs: int
    decay: str = 'cosine'
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """``two_stage-8``."""
        return f'{"+".join(self.teachers) or "alone"}-{self.epochs}'


@dataclass(frozen=True)
class Node(Job):
    """A student after some stages; it starts from the node before.

    Attributes:
        seed: Of everything random, from its first weight on.
        stages: What it went through; none for the student that all others of
            this seed start from.
        student: Its config in the dataset's folder.
    """
    dataset: str
    seed: int
    stages: tuple[Stage, ...] = ()
    student: str = 'mtpd'

    @property
    def before(self) -> 'Node':
        """The node that it starts from."""
        return replace(self, stages=self.stages[:-1])

    @cached_property
    def name(self) -> str:
        """Readable, and unique by a hash of all that it is."""
        text = json.dumps(asdict(self), sort_keys=True)
        path = '_'.join(s.label for s in self.stages) or 'student'
        return (f'seed{self.seed}_{path}_'
                + hashlib.sha256(text.encode()).hexdigest()[:8])

    @property
    def weights(self) -> str:
        """Its plain checkpoint, not committed."""
        return str(self.folder / 'student.pth')

    @property
    def teachers(self) -> tuple[str, ...]:
        """Of its last stage."""
        return self.stages[-1].teachers if self.stages else ()

    @property
    def needs(self) -> tuple[Job, ...]:
        if not self.stages:
            return ()
        # Also where it is trained on alone, at weight 0, one is in the config.
        named = self.teachers or tuple(pool_of(self.dataset))[:1]
        return self.before, *(Teacher(self.dataset, n) for n in named)

    def measure(self) -> dict[str, Any]:
        began = time.monotonic()
        cfg = self.config()
        facts = {'node': asdict(self), 'name': self.name}
        if self.stages:
            progression = run_progression(copy.deepcopy(cfg), resume=True,
                                          with_probe=False)
            stage, = progression.stages
            folder = str(Path(stage.checkpoint).parent)
            facts |= {
                'start': self.before.read()['AP'],
                'start_weights': digest(self.before.weights),
                'teachers': {
                    name: digest(pool_of(self.dataset)[name].checkpoint)
                    for name in self.teachers}}
        else:
            folder = cfg.work_dir
            train_plain(cfg, self.weights)
        return {**facts, 'weights': digest(self.weights),
                **of_training(cfg, folder, began)}

    def config(self) -> Config:
        """What is trained from the node before to this one."""
        cfg = config_of(self.dataset, self.student)
        cfg.randomness = dict(seed=self.seed)
        cfg.work_dir = str(self.folder)
        if not self.stages:
            return cfg
        stage = self.stages[-1]
        epochs = stage.epochs
        cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        cfg.default_hooks.checkpoint.interval = epochs
        warm_up = cfg.param_scheduler[0]
        fall = dict(type='CosineAnnealingLR', T_max=epochs) \
            if stage.decay == 'cosine' else \
            dict(type='LinearLR', start_factor=1., end_factor=0., end=epochs)
        cfg.param_scheduler = [
            warm_up, dict(fall, by_epoch=True, convert_to_iter_based=True)]
        mtpd = cfg.mtpd
        mtpd.student.checkpoint = self.before.weights
        # Without a teacher, weight 0: no teacher is run, all else is alike.
        mtpd.order = [stage.teachers or tuple(mtpd.teachers)[:1]]
        if not stage.teachers:
            mtpd.distill.loss_weight = 0
        for key, value in stage.changes:
            if key == 'distill':  # as a whole, so pairs
                mtpd.distill = dict(value)
            else:
                cfg.merge_from_dict({f'mtpd.{key}': value})
        return cfg


@dataclass(frozen=True)
class Costs(Job):
    """Costs, kernel similarities, APs, and the order for every number of
    teachers, from the student of seed 0."""
    dataset: str
    name: str = 'costs'

    @property
    def needs(self) -> tuple[Job, ...]:
        return (Node(self.dataset, 0), *(
            Teacher(self.dataset, name) for name in pool_of(self.dataset)))

    def measure(self) -> dict[str, Any]:
        student = Node(self.dataset, 0)
        cfg = config_of(self.dataset)
        cfg.mtpd.student.checkpoint = student.weights
        cfg.work_dir = str(self.folder)
        found = order_teachers(prepare(cfg))
        folder = moments_folder(cfg.work_dir, found.belongs_to['data'])
        return {
            **found.to_json(), 'orders': {
                most: reorder(found, max_teachers=most).order.teachers
                for most in range(1, len(found.aps) + 1)},
            'similarity': similarities(
                MomentStore.read(folder), found.costs,
                pool_of(self.dataset))}


@dataclass(frozen=True)
class Explanation(Job):
    """Two students at their ends: training loss, AP and sharpness.

    Attributes:
        arm: What the first is called.
        first: A taught student.
        second: The same, trained on alone.
    """
    arm: str
    first: Node
    second: Node
    settings = Settings(images=128, grid=3, range=.5, radius=.1,
                        directions=10, seed=0)

    @property
    def dataset(self) -> str:
        return self.first.dataset

    @property
    def name(self) -> str:
        return f'why_{self.arm}_{self.first.name}'

    @property
    def needs(self) -> tuple[Job, ...]:
        return self.first, self.second

    def measure(self) -> dict[str, Any]:
        found = compare_runs(*(read_run(str(node.folder))
                               for node in (self.first, self.second)),
                             self.settings, [], lambda done, total: None)
        return {'arm': self.arm, 'seed': self.first.seed,
                'nodes': [self.first.name, self.second.name],
                'made_with': made_with(), **found.to_json()}


def similarities(store: MomentStore, costs: AdaptationCosts,
                 teachers: Mapping[str, DetectorSpec]) -> dict[str, float]:
    """Linear centred kernel alignment of each detector's maps with each
    teacher's, the mean over levels.

    Args:
        store: The sums that the costs were fitted to.
        costs: Their names and levels are taken.
        teachers: Each on its own grid, as costs are.

    Returns:
        ``source>target`` -> 0 to 1.

    Source:
        Kornblith et al. 2019 (arXiv 1905.00414).
    """
    values = {}
    for target, spec in teachers.items():
        sums = store.moments(spec.scale)
        for source in costs.names:
            if source != target:
                values[f'{source}>{target}'] = fmean(
                    alignment(sums, stride, source, target)
                    for stride in costs.strides)
    return values


def alignment(sums: FeatureMoments, stride: int, source: str,
              target: str) -> float:
    """Linear CKA of two detectors' maps of one stride, over positions."""
    both = sums.over(stride, sums.filled_folds(stride), (source, target))
    c = sums.channels[stride][source]
    mean = both.total / both.count
    covariance = both.outer / both.count - torch.outer(mean, mean)
    return float(covariance[:c, c:].square().sum() / (
        covariance[:c, :c].norm() * covariance[c:, c:].norm()))


def train_plain(cfg: Config, weights: str) -> None:
    """A detector from its first weights, by its own schedule."""
    cfg = copy.deepcopy(cfg)
    cfg.pop('mtpd', None)
    cfg.experiment_name = cfg.work_dir.replace(os.sep, '_')
    cfg.visualizer.name = cfg.work_dir
    cfg.custom_hooks = [dict(type='RecordValidationsHook')]
    cfg.default_hooks.checkpoint.interval = cfg.train_cfg.max_epochs
    run_stage(cfg)
    export_student(newest_checkpoint(cfg.work_dir), weights)


def of_training(cfg: Config, folder: str, began: float) -> dict[str, Any]:
    """What a finished training says of itself."""
    read = read_log(folder, StageHistory(1, ''))
    lines = [line for line in read.lines
             if line['epoch'] == read.lines[-1]['epoch']]
    return {**read.validations[-1].aps,
            'last_epoch': {
                key: fmean(line[key] for line in lines) for key in lines[-1]
                if 'loss' in key or key == 'distill_ratio'},
            'iterations': read.lines[-1]['step'], 'seed': cfg.randomness.seed,
            'minutes': (time.monotonic() - began) / 60,
            'made_with': made_with(), 'config': said_config(cfg)}


def said_config(cfg: Config) -> dict[str, Any]:
    """A config as its file, what was changed in it, by dotted key, and a hash
    of all that it comes to (without folders)."""
    file = os.path.relpath(cfg.filename)
    whole = cfg.to_dict()
    changed = dict(changes(loaded(file).to_dict(), whole))
    whole.pop('work_dir', None)
    if 'mtpd' in whole:
        del whole['mtpd']['student']
    text = json.dumps(whole, sort_keys=True, default=str)
    return {'file': file, 'changed': changed,
            'sha256': hashlib.sha256(text.encode()).hexdigest()[:8]}


def changes(before: Mapping[str, Any], after: Mapping[str, Any],
            prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted key -> value of all that differs; None for what is gone."""
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from changes(old, new, f'{prefix}{key}.')
        elif old != new:
            yield f'{prefix}{key}', new


def made_with() -> dict[str, Any]:
    """Versions, and what it ran on."""
    return {**versions(), 'threads': torch.get_num_threads(),
            'hardware': torch.cuda.get_device_name()
            if torch.cuda.is_available() else f'{platform.machine()} CPU'}


def digest(path: str) -> str:
    """Of a checkpoint's tensors: SHA-256, the first 8 hexadecimal digits."""
    found = hashlib.sha256()
    for key, value in sorted(read_checkpoint(path)['state_dict'].items()):
        found.update(f'{key} {value.dtype} {tuple(value.shape)}'.encode())
        found.update(value.contiguous().numpy().tobytes())
    return found.hexdigest()[:8]


def config_of(dataset: str, name: str = 'mtpd') -> Config:
    """One of a dataset's configs."""
    return copy.deepcopy(loaded(f'configs/evidence/{dataset}/{name}.py'))


@lru_cache
def loaded(file: str) -> Config:
    """A config, to be read only."""
    return load_config(file)


def prepare_data(dataset: str) -> None:
    """Draw the pictures that are drawn.

    Raises:
        PlanError: Those that are not drawn are not there.
    """
    cfg = config_of(dataset)
    if 'drawn_shapes' in cfg:
        draw_shapes(**cfg.drawn_shapes)
    missing = missing_data(make_plan(cfg))
    if missing:
        raise PlanError(missing)


@lru_cache
def pool_of(dataset: str) -> dict[str, DetectorSpec]:
    """The teachers, whose checkpoints may not be there yet."""
    return make_plan(config_of(dataset)).teachers
