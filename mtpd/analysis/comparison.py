"""Two runs of one student, measured alike: where a gain comes from."""
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector

from mtpd.compat.checkpoints import checkpoint_hash, read_checkpoint
from mtpd.distill.detector import build_detector
from mtpd.randomness import isolate_rng
from mtpd.search.measure import validation_config
from mtpd.statistics import Difference, crossed, jackknifed, paired

from .folded_ap import FoldedAP, folded_ap
from .landscape import (common_norms, draw_direction, filter_norms, increases,
                        surface)
from .runs import FinishedRun, Validation
from .training_loss import TrainingImages, as_measured

SCALES = ('common', 'own')
"""What directions are scaled to: the mean of both students' filter norms, so
that both are moved by the same vectors; or each student's own norms, as in Li
et al."""


@dataclass(frozen=True)
class Settings:
    """How two runs are compared.

    Attributes:
        images: Maximum number of training images.
        grid: Points of the landscape in each direction, odd.
        range: The landscape's coordinates go from minus this to this, relative
            to filter norms.
        radius: Where sharpness is measured, relative to filter norms.
        directions: Number of random directions that sharpness is the mean of.
        seed: Of images, augmentation, samples and directions.
    """
    images: int
    grid: int
    range: float
    radius: float
    directions: int
    seed: int

    def problems(self) -> list[str]:
        """What cannot be measured with these settings, a message each."""
        problems = []
        for name, count in (('images', self.images),
                            ('directions', self.directions)):
            if count < 2:
                problems.append(f'--{name} {count}: expected at least 2, or '
                                'there is no scatter to estimate an error '
                                'from.')
        if self.grid < 3 or self.grid % 2 == 0:
            problems.append(f'--grid {self.grid}: expected an odd number of '
                            'at least 3, so that the student itself is one of '
                            'the points.')
        if self.seed < 0:
            problems.append(f'--seed {self.seed}: expected 0 or more.')
        for name, value in (('range', self.range), ('radius', self.radius)):
            if not value > 0:
                problems.append(f'--{name} {value}: expected a number above '
                                '0.')
        return problems


@dataclass(frozen=True)
class Measured:
    """One run: its trajectory and its final student.

    Attributes:
        run: The run.
        name: What it is called beside the other.
        trajectory: Each validation and the mean detection loss on the fixed
            training images with its weights; nan if they no longer exist.
        losses: Of the final student on the fixed training images:
            (batches,).
        surface: Mean loss around the final student, along the common
            directions: (y, x).
        increases: Scale of the directions -> (directions, batches), see
            :func:`mtpd.analysis.landscape.increases`.
        ap: Of the final student.
    """
    run: FinishedRun
    name: str
    trajectory: tuple[tuple[Validation, float], ...]
    losses: np.ndarray
    surface: np.ndarray
    increases: Mapping[str, np.ndarray]
    ap: FoldedAP

    def sharpness(self, scale: str) -> float:
        """Mean rise of the loss at the radius."""
        return float(self.increases[scale].mean())

    def to_json(self) -> dict[str, Any]:
        """All numbers as plain values."""
        sharpness, rises = {}, {}
        for scale in SCALES:
            sharpness[scale] = self.sharpness(scale)
            rises[scale] = self.increases[scale].tolist()
        trajectory = []
        for validation, loss in self.trajectory:
            trajectory.append({
                'stage': validation.stage, 'teacher': validation.teacher,
                'at': validation.at, 'ap': validation.ap,
                'loss_logged': validation.logged, 'loss_measured': loss})
        run = {'name': self.name, 'folder': self.run.folder,
               'student': checkpoint_hash(self.run.student.weights),
               'identity': self.run.identity,
               'iterations': self.run.iterations}
        return {**run, 'ap': self.ap.ap,
                'ap_without_fold': self.ap.without.tolist(),
                'training_loss': float(self.losses.mean()),
                'training_loss_by_batch': self.losses.tolist(),
                'sharpness': sharpness, 'rise_by_direction_and_batch': rises,
                'surface': self.surface.tolist(), 'trajectory': trajectory}


@dataclass(frozen=True)
class Comparison:
    """Two runs of one student; differences are first minus second.

    Attributes:
        first: The run in question.
        second: The run that it is compared with.
        settings: As given.
        images: Number of training images used.
        coordinates: Of both axes of the surfaces.
        norm_ratio: Median over filters, first's norm over second's.
        remarks: On what else differs between the runs.
    """
    first: Measured
    second: Measured
    settings: Settings
    images: int
    coordinates: np.ndarray
    norm_ratio: float
    remarks: tuple[str, ...]

    def loss(self) -> Difference:
        """Difference of the training detection loss; groups are batches."""
        return paired(self.first.losses - self.second.losses)

    def ap(self) -> Difference:
        """Difference of the validation AP, in percent; groups are folds of
        images."""
        return jackknifed(self.first.ap.ap - self.second.ap.ap,
                          self.first.ap.without - self.second.ap.without)

    def sharpness(self, scale: str) -> Difference:
        """Difference of the rise of the loss at the radius."""
        return crossed(self.first.increases[scale]
                       - self.second.increases[scale])

    def to_json(self) -> dict[str, Any]:
        """All numbers as plain values; None where one is not finite."""
        differences: dict[str, Any] = {
            'training_loss': _difference_json(self.loss()),
            'ap': _difference_json(self.ap()), 'sharpness': {}}
        for scale in SCALES:
            differences['sharpness'][scale] = _difference_json(
                self.sharpness(scale))
        return _plain({
            'settings': asdict(self.settings), 'pictures': self.images,
            'norm_ratio': self.norm_ratio, 'remarks': self.remarks,
            'differences': differences,
            'coordinates': self.coordinates.tolist(),
            'runs': [self.first.to_json(), self.second.to_json()]})


def compare_runs(first: FinishedRun, second: FinishedRun, settings: Settings,
                 remarks: list[str],
                 progress: Callable[[int, int], None]) -> Comparison:
    """Measure both runs in the same way; none of their files is changed.

    Args:
        first: The run in question.
        second: The run that it is compared with.
        settings: How.
        remarks: See :func:`mtpd.analysis.runs.check_comparable`.
        progress: Called with the number of images done and of all images.
    """
    runs = (first, second)
    images = TrainingImages(first.student.config, settings.images,
                            settings.seed)
    loss = _counted(images, settings, runs, progress)
    with isolate_rng(settings.seed):
        students = [as_measured(build_detector(run.student.model))
                    for run in runs]
    trajectories, losses = [], []
    for run, student in zip(runs, students, strict=True):
        trajectory = []
        for validation in run.validations:
            mean = float('nan')
            if validation.checkpoint:
                _load(student, validation.checkpoint)
                mean = float(loss(student).mean())
            trajectory.append((validation, mean))
        trajectories.append(tuple(trajectory))
        _load(student, run.student.weights)
        losses.append(loss(student))
    norms = [filter_norms(student) for student in students]
    common = common_norms(*norms)
    coordinates = np.linspace(-settings.range, settings.range, settings.grid)
    # 0 exactly, where linspace may miss it by a rounding.
    coordinates[settings.grid // 2] = 0
    measured = []
    for i, (run, student) in enumerate(zip(runs, students, strict=True)):
        present_loss = partial(loss, student)
        draw = partial(draw_direction, student, seed=settings.seed)
        around = surface(student, present_loss, draw(common, index=0),
                         draw(common, index=1), coordinates.tolist())
        rises = {}
        for scale, scaled_to in (('common', common), ('own', norms[i])):
            directions = (draw(scaled_to, index=2 + k)
                          for k in range(settings.directions))
            rises[scale] = increases(student, present_loss, directions,
                                     settings.radius)
        ap = folded_ap(student, validation_config(first.student.config))
        name = run.name if first.name != second.name \
            else f'{run.name}, {run.folder}'
        measured.append(Measured(run, name, trajectories[i], losses[i],
                                 around.mean(axis=2), rises, ap))
        student.cpu()
    ratio = torch.cat([norms[0][name] / norms[1][name] for name in common])
    return Comparison(measured[0], measured[1], settings, images.count,
                      coordinates, float(ratio.nanmedian()), tuple(remarks))


def _counted(images: TrainingImages, settings: Settings,
             runs: Sequence[FinishedRun],
             progress: Callable[[int, int], None]
             ) -> Callable[[BaseDetector], np.ndarray]:
    """The loss on the images, with each pass of :func:`compare_runs` reported
    to ``progress``."""
    passes = 0
    for run in runs:
        passes += 1 + settings.grid**2
        passes += len(SCALES) * (2 * settings.directions + 1)
        passes += sum(validation.checkpoint is not None
                      for validation in run.validations)
    done, total = 0, passes * images.count
    progress(done, total)

    def loss(student: BaseDetector) -> np.ndarray:
        nonlocal done
        values = images.losses(student)
        done += images.count
        progress(done, total)
        return values

    return loss


def _load(student: BaseDetector, checkpoint: str) -> None:
    student.load_state_dict(read_checkpoint(checkpoint)['state_dict'])


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {'value': difference.value, 'error': difference.error,
            'limit': difference.limit, 'sign': difference.sign}


def _plain(value: Any) -> Any:
    """Values for ``json.dump``; None where a number is not finite."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
