"""A trained student cut to a share of its width, trained, and shipped."""
import copy
import importlib.metadata
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mtpd.compress.compress import Request, compress
from mtpd.compress.files import ORIGINAL, Files, files_of
from mtpd.deploy import NotExportable, export_onnx
from mtpd.plan.detectors import load_config
from mtpd.predict.evaluation import evaluate_checkpoint
from mtpd.progression import run_progression

from ..store import results_file
from .job import WEIGHTS, Job
from .students import Node, Teacher
from .training import (describe_training, digest, made_with, pool_of,
                       train_plain)

WIDTHS = (.5, .75, .25)
"""Shares of the channels, in the order of the runs."""
SLICE_EPOCHS = 16
"""Of each arm, all its stages together."""
STRONGER = 'two_stage'
"""The teacher of the pool that comes after the original."""
SLICE_ARMS: dict[str, tuple[str, ...]] = {
    'scratch': (), 'alone': (), 'distilled': (ORIGINAL,),
    'twice': (ORIGINAL, ORIGINAL), 'progression': (ORIGINAL, STRONGER)}
"""Arm -> the teacher of each stage."""
PACKAGES = ('torch-pruning', 'onnx', 'onnxruntime')


class _OfSlices(Job):
    """Has its results and weights apart from the students'."""

    @property
    def results(self) -> Path:
        return results_file(f'{self.dataset}_slices')

    @property
    def folder(self) -> Path:
        return WEIGHTS / f'{self.dataset}_slices' / self.name


@dataclass(frozen=True)
class Slice(_OfSlices):
    """A student after it was cut, before it is trained.

    Attributes:
        seed: Of the original.
        width: Share of the channels that stays.
    """
    dataset: str
    seed: int
    width: float

    @property
    def name(self) -> str:
        return f'seed{self.seed}_w{100 * self.width:g}_sliced'

    @property
    def original(self) -> Node:
        """What is cut: a student of the other comparisons."""
        return Node(self.dataset, self.seed)

    @property
    def needs(self) -> tuple[Job, ...]:
        return (self.original,)

    @property
    def config(self) -> str:
        """Of the original, without a progression."""
        return f'configs/evidence/{self.dataset}/student.py'

    @property
    def files(self) -> Files:
        """What tools/compress.py writes."""
        return files_of(self.config, str(self.folder), self.width)

    @property
    def weights(self) -> str:
        return self.files.weights

    def measure(self) -> dict[str, Any]:
        began = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Nothing is timed: the width is given.
        made = compress(Request(
            config=self.config, checkpoint=self.original.weights,
            folder=str(self.folder), width=self.width, overwrite=True),
            lambda detector: 0.)
        cfg = load_config(self.files.config)
        cfg.work_dir = str(self.folder / 'test')
        metrics = evaluate_checkpoint(cfg, self.weights)
        return {'arm': 'sliced', 'seed': self.seed, 'width': self.width,
                'AP': 100 * metrics['coco/bbox_mAP'],
                'parameters': {'original': made.original[0],
                               'slice': made.smaller[0]},
                'weights': digest(self.weights),
                'start_weights': digest(self.original.weights),
                **ended(began)}


@dataclass(frozen=True)
class SliceTraining(_OfSlices):
    """A slice after :data:`SLICE_EPOCHS` epochs.

    Attributes:
        start: Its config and first weights; 'scratch' has random ones.
        arm: One of :data:`SLICE_ARMS`.
    """
    start: Slice
    arm: str

    @property
    def dataset(self) -> str:
        return self.start.dataset

    @property
    def seed(self) -> int:
        """Of the original, and of the training."""
        return self.start.seed

    @property
    def name(self) -> str:
        return self.start.name.replace('sliced', self.arm)

    @property
    def weights(self) -> str:
        return str(self.folder / 'student.pth')

    @property
    def needs(self) -> tuple[Job, ...]:
        pool = {*SLICE_ARMS[self.arm]} - {ORIGINAL}
        return (self.start.original, self.start,
                *(Teacher(self.dataset, name) for name in pool))

    def measure(self) -> dict[str, Any]:
        began = time.monotonic()
        cfg = self.config()
        if 'mtpd' in cfg:
            stages = run_progression(copy.deepcopy(cfg), resume=True,
                                     with_probe=False).stages
            folder = str(Path(stages[-1].checkpoint).parent)
        else:
            folder = cfg.work_dir
            train_plain(cfg, self.weights)
        return {'arm': self.arm, 'seed': self.seed, 'width': self.start.width,
                'teachers': SLICE_ARMS[self.arm],
                'start_weights': digest(self.start.weights),
                'weights': digest(self.weights),
                **describe_training(cfg, folder, began), **ended(began)}

    def config(self) -> Config:
        """What tools/compress.py wrote, with the length, and in an arm of
        several stages their teachers; nothing else is set."""
        teachers = SLICE_ARMS[self.arm]
        files = self.start.files
        cfg = load_config(files.progression if teachers else files.config)
        epochs = SLICE_EPOCHS // max(1, len(teachers))
        cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        cfg.param_scheduler[1].T_max = epochs
        cfg.default_hooks.checkpoint.interval = epochs
        cfg.randomness = dict(seed=self.seed)
        cfg.work_dir = str(self.folder)
        if not teachers:
            cfg.load_from = None if self.arm == 'scratch' else files.weights
        elif len(teachers) > 1:
            cfg.mtpd.order = [[name] for name in teachers]
            for name in {*teachers} - {ORIGINAL}:
                teacher = pool_of(self.dataset)[name]
                cfg.mtpd.teachers[name] = dict(
                    config=teacher.config.filename, scale=teacher.scale,
                    checkpoint=teacher.checkpoint)
        return cfg


@dataclass(frozen=True)
class Shipped(_OfSlices):
    """A distilled slice as a file for onnxruntime.

    Attributes:
        student: The slice.
        bits: 32 for floats, or 8.
    """
    student: SliceTraining
    bits: int

    @property
    def dataset(self) -> str:
        return self.student.dataset

    @property
    def seed(self) -> int:
        """Of the student."""
        return self.student.seed

    @property
    def name(self) -> str:
        return f'{self.student.name}_onnx{self.bits}'

    @property
    def needs(self) -> tuple[Job, ...]:
        # The student's config lies beside the slice, based on the original's.
        return self.student.start, self.student

    def measure(self) -> dict[str, Any]:
        began = time.monotonic()
        result = {'arm': f'onnx{self.bits}', 'seed': self.seed,
                  'width': self.student.start.width,
                  'bytes': {'student.pth':
                            Path(self.student.weights).stat().st_size}}
        self.folder.mkdir(parents=True, exist_ok=True)
        out = self.folder / 'student.onnx'
        try:
            exported = export_onnx(
                self.student.start.files.config, self.student.weights,
                str(out), calibrate=64 if self.bits == 8 else None,
                validate=True)
        except NotExportable as error:  # also a file of another AP: a result
            return {**result, 'refused': str(error), **ended(began)}
        of_detector, of_file = exported.metrics['coco/bbox_mAP']
        result['bytes']['student.onnx'] = exported.size
        return {**result, 'AP': 100 * of_file,
                'AP_of_detector': 100 * of_detector, **ended(began)}


def ended(began: float) -> dict[str, Any]:
    """What every result has.

    Args:
        began: Value of :func:`time.monotonic` at the start of its job.
    """
    return {'seconds': time.monotonic() - began,
            'made_with': {**made_with(), **{
                name: importlib.metadata.version(name) for name in PACKAGES}}}
