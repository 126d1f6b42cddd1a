"""A trained student made smaller, trained again, and shipped."""
import copy
import importlib.metadata
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mmengine.config import Config

from mtpd.compress.compress import compress
from mtpd.compress.files import ORIGINAL, Files, files_of
from mtpd.compress.layers.command import (LayerRequest, files_with,
                                          replace_layers)
from mtpd.deploy import NotExportable, export_onnx
from mtpd.pack import packing
from mtpd.plan.detectors import load_config
from mtpd.predict.evaluation import evaluate_checkpoint
from mtpd.progression import run_progression

from ..store import results_file
from .job import WEIGHTS, Job
from .students import Node, Teacher
from .training import (describe_training, digest, made_with, pool_of,
                       train_plain)

WIDTHS = {'bccd': (.5, .75, .25), 'txl': (.5, .75, .25)}
"""Data set -> shares of the channels, in the order of the runs."""
ORIGINALS = {'bccd': ('mtpd', 'student'), 'txl': ('original', 'original')}
"""Data set -> the config that trains the student that is made smaller, as
:class:`Node` names it, and the file of its model and data alone."""
SLICE_EPOCHS = {'bccd': 16, 'txl': 8}
"""Of each arm, all its stages together."""
LAYERED: dict[str, dict[str, Any]] = {
    'lowrank': dict(type='LowRankConv2d', rank=.5),
    'binary': dict(type='BinaryWeightConv2d'),
    'xnor': dict(type='XNORConv2d')}
"""Students of the whole width with other convolutions."""
STRONGER = 'two_stage'
"""The teacher of the pool that comes after the original."""
AGAIN = 'again'
"""The original under a second name: no teacher comes twice in an order."""
SLICE_ARMS: dict[str, tuple[str, ...]] = {
    'scratch': (), 'alone': (), 'distilled': (ORIGINAL,),
    'share2': (ORIGINAL,), 'share1': (ORIGINAL,),
    'alone_longer': (), 'share1_longer': (ORIGINAL,),
    'scores': (ORIGINAL,), 'scores_and_maps': (ORIGINAL,),
    'fading': (ORIGINAL,), 'share1_fading': (ORIGINAL,),
    'twice': (ORIGINAL, AGAIN),
    'progression': (ORIGINAL, STRONGER), 'gentle': (ORIGINAL, STRONGER)}
"""Arm -> the teacher of each stage. In "fading", distillation falls to none in
the last third."""
LONGER = 3
"""Times as many epochs have the arms that are called so."""
SHARE_OF = {
    **dict.fromkeys(('distilled', 'fading', 'twice', 'progression'), 4.),
    'share2': 2., **dict.fromkeys((
        'share1', 'share1_longer', 'share1_fading', 'gentle', 'scores',
        'scores_and_maps'), 1.)}
"""Arm -> the share of distillation's gradient (the default was 4 once): see
:class:`mtpd.distill.AutoWeight`."""
_MAPS = dict(type='FeatureL2Loss', normalise=True)
_SCORES = dict(type='LogitLoss')
MECHANISMS: dict[str, dict[str, Any]] = {
    'scores': _SCORES, 'scores_and_maps': dict(type='WeightedSum', losses=[
        _MAPS, {**_SCORES, 'loss_weight': 10.}])}
"""Arm -> its mechanism, where that is not the default's."""
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
    """A student after it was made smaller, before it is trained.

    Attributes:
        seed: Of the original.
        width: Share of the channels that stays.
        layers: One of :data:`LAYERED`; empty for plain convolutions.
    """
    dataset: str
    seed: int
    width: float = 1.
    layers: str = ''

    @property
    def name(self) -> str:
        return f'seed{self.seed}_{self.kind}_sliced'

    @property
    def kind(self) -> str:
        """``w50`` or ``lowrank``."""
        return self.layers or f'w{100 * self.width:g}'

    @property
    def original(self) -> Node:
        """What is cut: a student of the other comparisons."""
        return Node(self.dataset, self.seed,
                    student=ORIGINALS[self.dataset][0])

    @property
    def needs(self) -> tuple[Job, ...]:
        return (self.original,)

    @property
    def request(self) -> LayerRequest:
        """What is asked of tools/compress.py."""
        return LayerRequest(
            config=f'configs/evidence/{self.dataset}/'
                   f'{ORIGINALS[self.dataset][1]}.py',
            checkpoint=self.original.weights, folder=str(self.folder),
            width=self.width, overwrite=True,
            conv_cfg=LAYERED.get(self.layers, {}))

    @property
    def files(self) -> Files:
        """What tools/compress.py writes."""
        request = self.request
        if self.layers:
            return files_with(request)
        return files_of(request.config, request.folder, self.width)

    @property
    def weights(self) -> str:
        return self.files.weights

    def measure(self) -> dict[str, Any]:
        began = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.layers:
            layered = replace_layers(self.request)
            sizes = layered.original[0], layered.made[0]
        else:
            # Nothing is timed: the width is given.
            made = compress(self.request, lambda detector: 0.)
            sizes = made.original[0], made.smaller[0]
        return {**about(self, 'sliced'), 'AP': self.ap(self.weights),
                'parameters': dict(zip(('original', 'slice'), sizes,
                                       strict=True)),
                'weights': digest(self.weights),
                'start_weights': digest(self.original.weights),
                **ended(began)}

    def ap(self, checkpoint: str) -> float:
        """Box AP in percent of a checkpoint of this student."""
        cfg = load_config(self.files.config)
        cfg.work_dir = str(self.folder / 'test')
        return 100 * evaluate_checkpoint(cfg, checkpoint)['coco/bbox_mAP']


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
        pool = {*SLICE_ARMS[self.arm]} - {ORIGINAL, AGAIN}
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
        return {**about(self.start, self.arm),
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
        epochs = SLICE_EPOCHS[self.dataset] // max(1, len(teachers))
        if self.arm.endswith('longer'):
            epochs *= LONGER
        cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        cfg.param_scheduler[1].update(T_max=epochs)
        cfg.default_hooks.checkpoint.interval = epochs
        cfg.randomness = dict(seed=self.seed)
        cfg.work_dir = str(self.folder)
        if not teachers:
            cfg.load_from = None if self.arm == 'scratch' else files.weights
        if self.arm.endswith('fading'):
            cfg.mtpd.fade = dict(begin=epochs * 2 / 3, end=epochs)
        if self.arm in SHARE_OF:
            cfg.mtpd.distill = dict(
                copy.deepcopy(MECHANISMS.get(self.arm, _MAPS)),
                loss_weight=dict(share=SHARE_OF[self.arm]))
        if len(teachers) > 1:
            cfg.mtpd.order = [[name] for name in teachers]
            cfg.mtpd.teachers[teachers[1]] = self._second(cfg, teachers[1])
        return cfg

    def _second(self, cfg: Config, name: str) -> dict[str, Any]:
        """The teacher of the second stage as a config names it."""
        if name == AGAIN:
            return copy.deepcopy(dict(cfg.mtpd.teachers[ORIGINAL]))
        teacher = pool_of(self.dataset)[name]
        return dict(config=teacher.config.filename, scale=teacher.scale,
                    checkpoint=teacher.checkpoint)


@dataclass(frozen=True)
class _File(_OfSlices):
    """A file made of a distilled slice.

    Attributes:
        student: The slice.
        bits: Of a weight.
    """
    student: SliceTraining
    bits: int
    kind: ClassVar[str]

    @property
    def dataset(self) -> str:
        return self.student.dataset

    @property
    def seed(self) -> int:
        """Of the student."""
        return self.student.seed

    @property
    def arm(self) -> str:
        """What was done with the student."""
        return f'{self.kind}{self.bits}'

    @property
    def name(self) -> str:
        return f'{self.student.name}_{self.arm}'

    @property
    def needs(self) -> tuple[Job, ...]:
        # The student's config lies beside the slice, based on the original's.
        return self.student.start, self.student


class Shipped(_File):
    """One for onnxruntime, of 32 bits (floats) or 8."""
    kind = 'onnx'

    def measure(self) -> dict[str, Any]:
        began = time.monotonic()
        result = {**about(self.student.start, self.arm),
                  'bytes': {'student.pth':
                            Path(self.student.weights).stat().st_size}}
        self.folder.mkdir(parents=True, exist_ok=True)
        out = self.folder / 'student.onnx'
        try:
            exported = export_onnx(
                self.student.start.files.config, self.student.weights,
                str(out), calibrate=64 if self.bits == 8 else None,
                validate=True, overwrite=True)
        except NotExportable as error:  # also a file of another AP: a result
            return {**result, 'refused': str(error), **ended(began)}
        of_detector, of_file = exported.metrics['coco/bbox_mAP']
        result['bytes']['student.onnx'] = exported.size
        return {**result, 'AP': 100 * of_file,
                'AP_of_detector': 100 * of_detector, **ended(began)}


class Packed(_File):
    """A checkpoint whose weights share some values."""
    kind = 'packed'

    def measure(self) -> dict[str, Any]:
        began = time.monotonic()
        start = self.student.start
        self.folder.mkdir(parents=True, exist_ok=True)
        made = packing.pack(packing.Request(
            checkpoint=self.student.weights, bits=self.bits,
            config=start.files.config, out=str(self.folder / 'student.pth'),
            overwrite=True))
        return {**about(start, self.arm), 'bytes': made.sizes,
                'AP': start.ap(made.files.plain), **ended(began)}


def about(start: Slice, arm: str) -> dict[str, Any]:
    """What every result is of.

    Args:
        start: The student before it is trained.
        arm: What was done with it.
    """
    result = {'arm': arm, 'seed': start.seed, 'width': start.width}
    return {**result, 'layers': start.layers} if start.layers else result


def ended(began: float) -> dict[str, Any]:
    """What every result has.

    Args:
        began: Value of :func:`time.monotonic` at the start of its job.
    """
    return {'seconds': time.monotonic() - began,
            'made_with': {**made_with(), **{
                name: importlib.metadata.version(name) for name in PACKAGES}}}
