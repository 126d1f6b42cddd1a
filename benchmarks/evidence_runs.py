"""What the evidence is made of: a pool, and students taught stage by stage.

Each job leaves a JSON file with all that is published of it. See evidence.py.
"""
import copy
import hashlib
import json
import os
import platform
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
from mtpd.data.drawn_shapes import draw_shapes
from mtpd.order.adaptation_cost import AdaptationCosts
from mtpd.order.moments import FeatureMoments
from mtpd.progression import (export_student, make_plan, order_teachers,
                              prepare, run_progression)
from mtpd.progression.checkpoints import newest_checkpoint
from mtpd.progression.found_order import reorder
from mtpd.progression.moment_store import MomentStore
from mtpd.progression.plan import (DetectorSpec, PlanError, load_config,
                                   missing_data)
from mtpd.progression.provenance import versions
from mtpd.progression.run import run_stage
from mtpd.report.history import StageHistory, read_log

RESULTS = Path(__file__).with_name('evidence')
WEIGHTS = Path('work_dirs/evidence')


class Job:
    """Something to be measured, once.

    Attributes:
        dataset: A folder below configs/evidence.
        name: Of its JSON in the dataset's folder of :data:`RESULTS`, and of
            its folder in :data:`WEIGHTS`.
    """
    dataset: str
    name: str

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
    def ready(self) -> bool:
        """Whether all that it starts from is there."""
        return True

    def read(self) -> dict[str, Any]:
        """Its JSON.

        Raises:
            FileNotFoundError: It was not run.
        """
        return json.loads(self.result.read_text())

    def run(self) -> None:
        """Do it, and write its JSON at the end."""
        raise NotImplementedError

    def write(self, facts: Mapping[str, Any]) -> None:
        """Its JSON."""
        atomic_write(self.result, (json.dumps(
            facts, indent=1, default=str) + '\n').encode())


@dataclass(frozen=True)
class Teacher(Job):
    """One of the pool, trained by its own config."""
    dataset: str
    teacher: str

    @property
    def name(self) -> str:
        return f'pool_{self.teacher}'

    @property
    def done(self) -> bool:
        return self.result.exists() and os.path.isfile(
            pool_of(self.dataset)[self.teacher].checkpoint)

    def run(self) -> None:
        spec = pool_of(self.dataset)[self.teacher]
        began = time.monotonic()
        cfg = copy.deepcopy(spec.config)
        cfg.work_dir = str(self.folder)
        train_plain(cfg, spec.checkpoint)
        self.write({'name': self.teacher, 'weights': digest(spec.checkpoint),
                    **of_training(cfg, cfg.work_dir, began)})


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
    def ready(self) -> bool:
        return not self.stages or self.before.done and all(
            Teacher(self.dataset, name).done
            for stage in self.stages for name in stage.teachers)

    def run(self) -> None:
        if self.stages and not os.path.isfile(self.before.weights):
            self.before.run()
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
        self.write({**facts, 'weights': digest(self.weights),
                    **of_training(cfg, folder, began)})

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
        mtpd.order = [stage.teachers or (next(iter(mtpd.teachers)),)]
        if not stage.teachers:
            mtpd.distill.loss_weight = 0
        for key, value in stage.changes:
            if key == 'distill':
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
    def ready(self) -> bool:
        return Node(self.dataset, 0).done and all(
            Teacher(self.dataset, name).done for name in pool_of(self.dataset))

    def run(self) -> None:
        student = Node(self.dataset, 0)
        if not os.path.isfile(student.weights):
            student.run()
        cfg = config_of(self.dataset)
        cfg.mtpd.student.checkpoint = student.weights
        cfg.work_dir = str(self.folder)
        found = order_teachers(prepare(cfg))
        folder, = self.folder.glob('order/moments_????????')
        self.write({
            **found.to_json(), 'orders': {
                most: reorder(found, max_teachers=most).order.teachers
                for most in range(1, len(found.aps) + 1)},
            'similarity': similarities(
                MomentStore.read(str(folder)), found.costs,
                pool_of(self.dataset))})


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
    settings = Settings(pictures=128, grid=3, range=.5, radius=.1,
                        directions=10, seed=0)

    @property
    def dataset(self) -> str:
        return self.first.dataset

    @property
    def name(self) -> str:
        return f'why_seed{self.first.seed}_{self.arm}'

    @property
    def ready(self) -> bool:
        return self.first.done and self.second.done

    def run(self) -> None:
        for node in (self.first, self.second):
            if not os.path.isfile(node.weights):
                node.run()
        found = compare_runs(*(read_run(str(node.folder))
                               for node in (self.first, self.second)),
                             self.settings, [], lambda done, total: None)
        self.write({'arm': self.arm, 'seed': self.first.seed,
                    'nodes': [self.first.name, self.second.name],
                    'made_with': made_with(), **found.to_json()})


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
    """A config as its file and what was changed in it, by dotted key."""
    file = os.path.relpath(cfg.filename)
    return {'file': file, 'changed': dict(changes(
        load_config(file).to_dict(), cfg.to_dict()))}


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
    """Of a file's content: SHA-256, the first 8 hexadecimal digits."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()[:8]


def config_of(dataset: str, name: str = 'mtpd') -> Config:
    """One of a dataset's configs."""
    return load_config(f'configs/evidence/{dataset}/{name}.py')


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
