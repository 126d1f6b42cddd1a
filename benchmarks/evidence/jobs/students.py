"""The kinds of jobs: teachers, students after some stages, costs, and
explanations."""
import copy
import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mtpd.analysis.comparison import Settings, compare_runs
from mtpd.analysis.runs import read_run
from mtpd.progression import order_teachers, prepare, run_progression
from mtpd.search.exact import moments_folder
from mtpd.search.found_order import reorder
from mtpd.search.moment_store import MomentStore

from ..design import Changes
from .job import Job
from .similarity import similarities
from .training import (config_of, describe_training, digest, made_with,
                       pool_of, train_plain)


@dataclass(frozen=True)
class Teacher(Job):
    """A teacher of the pool, trained by its own config."""
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
                **describe_training(cfg, cfg.work_dir, began)}


@dataclass(frozen=True)
class Stage:
    """What is trained from one node to the next.

    Attributes:
        teachers: Several teach at once; none for training on alone.
        epochs: Its length; the learning rate restarts.
        decay: 'cosine' or 'linear' decay of the learning rate to 0, after a
            warm-up.
        changes: Of ``mtpd``, as pairs (``('distill.loss_weight', 3.)``).
    """
    teachers: tuple[str, ...]
    epochs: int
    decay: str = 'cosine'
    changes: Changes = ()

    @property
    def label(self) -> str:
        """``two_stage-8``."""
        return f'{"+".join(self.teachers) or "alone"}-{self.epochs}'


@dataclass(frozen=True)
class Node(Job):
    """A student after some stages; it starts from the node before.

    Attributes:
        seed: Of everything random, from the first weights on.
        stages: Its stages; none for the student that all others of this seed
            start from.
        student: Its config in the data set's folder.
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
        """Readable, and unique by a hash of all attributes."""
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
        """The teachers of its last stage."""
        return self.stages[-1].teachers if self.stages else ()

    @property
    def needs(self) -> tuple[Job, ...]:
        if not self.stages:
            return ()
        # Also training on alone, at weight 0, has a teacher in its config.
        names = self.teachers or tuple(pool_of(self.dataset))[:1]
        return self.before, *(Teacher(self.dataset, name) for name in names)

    def measure(self) -> dict[str, Any]:
        began = time.monotonic()
        cfg = self.config()
        result = {'node': asdict(self), 'name': self.name}
        if self.stages:
            progression = run_progression(copy.deepcopy(cfg), resume=True,
                                          with_probe=False)
            stage, = progression.stages
            folder = str(Path(stage.checkpoint).parent)
            result |= {
                'start': self.before.read()['AP'],
                'start_weights': digest(self.before.weights),
                'teachers': {
                    name: digest(pool_of(self.dataset)[name].checkpoint)
                    for name in self.teachers}}
        else:
            folder = cfg.work_dir
            train_plain(cfg, self.weights)
        return {**result, 'weights': digest(self.weights),
                **describe_training(cfg, folder, began)}

    def config(self) -> Config:
        """The config that trains this node from the node before."""
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
        if stage.decay == 'cosine':
            decay = dict(type='CosineAnnealingLR', T_max=epochs)
        else:
            decay = dict(type='LinearLR', start_factor=1., end_factor=0.,
                         end=epochs)
        cfg.param_scheduler = [
            warm_up, dict(decay, by_epoch=True, convert_to_iter_based=True)]
        mtpd = cfg.mtpd
        mtpd.student.checkpoint = self.before.weights
        # Without a teacher, weight 0: no teacher runs, all else is the same.
        mtpd.order = [stage.teachers or tuple(mtpd.teachers)[:1]]
        if not stage.teachers:
            mtpd.distill.loss_weight = 0
        for key, value in stage.changes:
            mtpd = cfg.mtpd  # merging replaces it
            if key in ('distill', 'fade'):  # replaced as a whole
                mtpd[key] = written_as_pairs(value)
            elif key == 'distill.loss_weight' and isinstance(value, tuple):
                mtpd.distill.loss_weight = written_as_pairs(value)
            elif value is None:  # merging would refuse it beside a dict
                mtpd[key] = None
            else:
                cfg.merge_from_dict({f'mtpd.{key}': value})
        return cfg


def written_as_pairs(value: Any) -> Any:
    """A dict of pairs of key and value, and a list of several such dicts,
    also within; other values as they are."""
    if not isinstance(value, tuple):
        return value
    if all(isinstance(one[0], tuple) for one in value):
        return [written_as_pairs(one) for one in value]
    return {key: written_as_pairs(inner) for key, inner in value}


@dataclass(frozen=True)
class Costs(Job):
    """Costs, kernel similarities, APs, and the order for every maximum number
    of teachers, from the student of seed 0.

    Attributes:
        student: As for :class:`Node`.
        split: Of the images: 'train', or 'unlabelled'.
    """
    dataset: str
    student: str = 'mtpd'
    split: str = 'train'

    @property
    def name(self) -> str:
        return 'costs' if self.student == 'mtpd' \
            else f'costs_{self.student}_{self.split}'

    @property
    def needs(self) -> tuple[Job, ...]:
        return (self._start, *(
            Teacher(self.dataset, name) for name in pool_of(self.dataset)))

    @property
    def _start(self) -> Node:
        return Node(self.dataset, 0, student=self.student)

    def measure(self) -> dict[str, Any]:
        cfg = config_of(self.dataset, self.student)
        cfg.mtpd.student.checkpoint = self._start.weights
        cfg.mtpd.order = 'bgs'
        cfg.mtpd.costs = dict(split=self.split)
        cfg.work_dir = str(self.folder)
        search = order_teachers(*prepare(cfg, trains=False))
        moments = MomentStore.read(
            moments_folder(cfg.work_dir, search.belongs_to['data']))
        orders = {
            maximum: reorder(search, max_teachers=maximum).order.teachers
            for maximum in range(1, len(search.aps) + 1)}
        return {**search.to_json(), 'orders': orders,
                'similarity': similarities(moments, search.costs,
                                           pool_of(self.dataset))}


@dataclass(frozen=True)
class Explanation(Job):
    """Two finished students compared: training loss, AP and sharpness.

    Attributes:
        arm: Of the first.
        first: A distilled student.
        second: The same student trained on alone.
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
        comparison = compare_runs(
            read_run(str(self.first.folder)),
            read_run(str(self.second.folder)), self.settings, [],
            lambda done, total: None)
        return {'arm': self.arm, 'seed': self.first.seed,
                'nodes': [self.first.name, self.second.name],
                'made_with': made_with(), **comparison.to_json()}
