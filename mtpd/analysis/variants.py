"""A detector and the smaller ones made of it: AP, size, speed."""
import os
import shlex
import statistics
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from glob import escape as glob_escape
from glob import glob
from typing import Any, Callable, Iterator, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.runner import Runner

from mtpd.compress.files import ORIGINAL
from mtpd.deploy.validation import FileAsDetector
from mtpd.distill.detector import CheckpointMismatch
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.plan import stage_teachers
from mtpd.predict import OnnxDetector, UnusableInput
from mtpd.progression.history import History
from mtpd.search.latency import timed
from mtpd.search.measure import measured_aps, validation_of
from mtpd.statistics import median_interval

from .sizes import multiply_adds, network_pass, parameters
from .variants_table import Measured

ROUNDS = 15
"""Timed passes of each detector; two more come before them."""


@dataclass(frozen=True)
class Variant:
    """One of the detectors that are compared.

    Attributes:
        name: In the table.
        spec: Its config and file; named ``student`` unless it is a teacher.
    """
    name: str
    spec: DetectorSpec

    @property
    def file(self) -> str:
        """A checkpoint or an ``.onnx`` file."""
        return self.spec.weights

    @property
    def is_onnx(self) -> bool:
        """Whether onnxruntime runs it."""
        return _is_onnx(self.file)


def find_variants(history: History, files: Sequence[str]
                  ) -> tuple[list[Variant], list[str]]:
    """The variants of a progression's student, the original first, and how
    those are made that are not there.

    Args:
        history: The progression.
        files: Besides those in the progression's folder: checkpoints of the
            student, and ``.onnx`` files of any detector of its classes.

    Raises:
        UnusableInput: A file does not exist.
    """
    plan = history.plan
    teachers = dict(plan.teachers)
    original = plan.student.sliced_from or teachers.pop(ORIGINAL, None)
    variants = [] if original is None else [Variant(ORIGINAL, original)]
    variants += [Variant(f'teacher {name}', spec)
                 for name, spec in teachers.items()]
    missing = []
    for name, path, command in [*_states(history), *_shipped(history, files)]:
        if path is not None and os.path.isfile(path):
            variants.append(Variant(name, replace(
                plan.student, checkpoint=path, ap=None, sliced_from=None)))
        else:
            missing.append(f'{name}: {command}')
    return variants, missing


State = tuple[str, str | None, str]
"""Name, file and the command that makes it."""


def _states(history: History) -> Iterator[State]:
    """The student before, without and with its teachers."""
    plan = history.plan
    config = plan.paths.config
    if not os.path.isfile(config):
        config = str(plan.student.config.filename)
    train = shlex.join(['python', 'tools/train.py', config, '--work-dir',
                        plan.work_dir])
    yield 'not trained', history.start, train
    for name, folder, flag in (
            ('from random weights, as long', plan.paths.scratch, '--scratch'),
            ('trained on alone, as long', plan.paths.baseline, '--control')):
        yield name, os.path.join(folder, 'student.pth'), f'{train} {flag}'
    taught = []
    for index, label in enumerate(history.order or (), 1):
        taught.append(' and '.join(stage_teachers(label, plan)))
        yield (f'taught by {", then ".join(taught)}',
               plan.paths.stage(index, label).student, train)
    if not taught:
        yield 'taught', None, train


def _shipped(history: History, files: Sequence[str]) -> Iterator[State]:
    """The files, those in the work dir, and of what kind there is none."""
    paths = history.plan.paths
    found = list(files)
    for pattern in ('*.onnx', '*_packed.pth'):
        for path in sorted(glob(os.path.join(glob_escape(paths.folder),
                                             pattern))):
            if not any(map(partial(_is_same, path), files)):
                found.append(path)
    names = Counter(map(os.path.basename, found))
    for path in found:
        if not os.path.isfile(path):
            raise UnusableInput(f'There is no file {path}. Name files of '
                                'tools/export_onnx.py and tools/pack.py.')
        name = os.path.basename(path)
        yield name if names[name] == 1 else path, path, ''
    if history.finished and not any(map(_is_onnx, found)):
        yield 'in onnxruntime', None, shlex.join([
            'python', 'tools/export_onnx.py', paths.student_config,
            paths.student, '--out', f'{paths.folder}/student.onnx'])
    if history.finished and all(map(_is_onnx, found)):
        yield 'packed', None, shlex.join([
            'python', 'tools/pack.py', paths.student, '--bits', '6',
            '--config', paths.student_config])


def _is_same(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _is_onnx(path: str) -> bool:
    return path.lower().endswith('.onnx')


def measure_variants(variants: Sequence[Variant], history: History,
                     threads: Sequence[int]) -> list[Measured]:
    """AP, size and speed of each variant, on the CPU but for the AP.

    APs are those of the student's validation set, one image at a time, as
    detectors are used; the progression's folder keeps them. Times are taken
    in turn: each round runs every variant once.

    Args:
        variants: From :func:`find_variants`; the first is the one whose time
            the others' is divided by.
        history: The progression.
        threads: Numbers of threads, ascending.

    Raises:
        UnusableInput: An ONNX file cannot be read, or finds other classes; or
            a checkpoint is not one of the student.
        CheckpointMismatch: A checkpoint that the config names is of another
            model.
    """
    student = Config(history.plan.student.config.to_dict())
    student.val_dataloader.batch_size = 1
    classes = Runner.build_dataloader(
        student.val_dataloader).dataset.metainfo['classes']
    detectors = {v.name: _load(v, history, classes) for v in variants}
    aps = measured_aps({v.name: v.spec for v in variants}, detectors, student,
                       history.plan.paths.measured)
    images = {v.name: _first_image(v.spec, student) for v in variants}
    sizes = {v.name: _sizes(detectors[v.name], images[v.name])
             for v in variants}
    seconds = {number: _times([_pass(v, detectors[v.name], images[v.name],
                                     number) for v in variants], number)
               for number in threads}
    measured = []
    for index, variant in enumerate(variants):
        most = seconds[threads[-1]]
        measured.append(Measured(
            variant.name, variant.file, aps[variant.name],
            *sizes[variant.name], os.path.getsize(variant.file)
            if os.path.isfile(variant.file) else None,
            {number: 1000 * statistics.median(times[index])
             for number, times in seconds.items()},
            _ratio(most[0], most[index])))
    return measured


def _ratio(first: Sequence[float], own: Sequence[float]
           ) -> tuple[float, float, float]:
    ratios = [one / other for one, other in zip(first, own, strict=True)]
    low, high = median_interval(ratios)
    return statistics.median(ratios), low, high


def _load(variant: Variant, history: History, classes: Sequence[str]
          ) -> BaseDetector | FileAsDetector:
    if not variant.is_onnx:
        try:
            return variant.spec.build().eval()
        except CheckpointMismatch as error:
            student = history.plan.student
            if variant.spec.name != student.name \
                    or variant.file == student.checkpoint:
                raise  # the config names it
            reason = str(error).partition(': ')[2].partition('\nSet ')[0]
            raise UnusableInput(
                f'{reason}\n--compare takes checkpoints of the student of '
                f'{history.plan.work_dir}, named or in it. Take this one out.'
            ) from error
    model = FileAsDetector(OnnxDetector(variant.file))
    if [*model.about['classes']] != [*classes]:
        raise UnusableInput(
            f'{variant.file} finds {list(model.about["classes"])}, and the '
            f'student {list(classes)}. Name a file of this student.')
    return model


def _first_image(spec: DetectorSpec, student: Config) -> dict[str, Any]:
    """The first validation image as the detector gets it."""
    loader = Runner.build_dataloader({
        **validation_of(spec, student).loader, 'batch_size': 1,
        'sampler': dict(type='DefaultSampler', shuffle=False, seed=0)})
    batch: dict[str, Any] = next(iter(loader))
    return batch


def _sizes(detector: BaseDetector | FileAsDetector, batch: dict[str, Any]
           ) -> tuple[int | None, int | None]:
    if not isinstance(detector, BaseDetector):
        return None, None
    height, width = batch['inputs'][0].shape[-2:]
    run = network_pass(detector, (width, height))
    counted = multiply_adds(detector, run).network
    detector.cpu()
    return parameters(detector), counted


def _pass(variant: Variant, detector: BaseDetector | FileAsDetector,
          batch: dict[str, Any], threads: int) -> Callable[[], Any]:
    if variant.is_onnx:
        session = OnnxDetector(variant.file, threads=threads)
        image = batch['inputs'][0].numpy()[None]
        return lambda: session(image)

    @torch.no_grad()
    def run() -> Any:
        return detector.test_step(batch)
    return run


def _times(passes: Sequence[Callable[[], Any]], threads: int
           ) -> list[list[float]]:
    """Seconds of each pass in each round."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rounds = [[timed(run) for run in passes] for _ in range(2 + ROUNDS)]
    finally:
        torch.set_num_threads(before)
    return [list(times) for times in zip(*rounds[2:], strict=True)]
