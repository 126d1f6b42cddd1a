"""Two runs of one student, measured alike: where does a gain come from?"""
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Callable, Mapping

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
"""What directions are scaled to: both students' filter norms together, which
moves both by the same vectors, or each student's own, as Li et al. do."""


@dataclass(frozen=True)
class Settings:
    """How two runs are compared.

    Attributes:
        images: Of the training set, at most.
        grid: Points of the landscape in each direction, odd.
        range: Its coordinates go from minus this to this, relative to filter
            norms.
        radius: At which sharpness is measured, relative to filter norms.
        directions: How many random ones sharpness is the mean of.
        seed: Of images, augmentation, samples and directions.
    """
    images: int
    grid: int
    range: float
    radius: float
    directions: int
    seed: int

    def problems(self) -> list[str]:
        """What cannot be measured with these."""
        wrong = []
        if self.images < 2:
            wrong.append(f'--images {self.images}: at least 2, or there '
                         'is no scatter to tell an error from.')
        if self.grid < 3 or self.grid % 2 == 0:
            wrong.append(f'--grid {self.grid}: an odd number of at least 3, '
                         'so that the student itself is one of the points.')
        if self.directions < 2:
            wrong.append(f'--directions {self.directions}: at least 2, or '
                         'there is no scatter to tell an error from.')
        if self.seed < 0:
            wrong.append(f'--seed {self.seed}: 0 or more.')
        return wrong + [f'--{name} {value}: it has to be above 0.'
                        for name, value in (('range', self.range),
                                            ('radius', self.radius))
                        if not value > 0]


@dataclass(frozen=True)
class Measured:
    """One run's final student and its way there.

    Attributes:
        run: The run.
        name: What it is called beside the other.
        trajectory: Each validation and the mean detection loss on the fixed
            training images with its weights, nan where they are gone.
        losses: Of the final student on the fixed training images:
            (batches,).
        surface: Mean loss around it, along the common directions: (y, x).
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


@dataclass(frozen=True)
class Comparison:
    """Two runs of one student; differences are first minus second.

    Attributes:
        first: Of the two, the one that is asked about.
        second: The one that it is held beside.
        settings: As given.
        images: Number of training images used.
        coordinates: Of the surfaces.
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
        """Of the training detection loss; groups are batches."""
        return paired(self.first.losses - self.second.losses)

    def ap(self) -> Difference:
        """Of the validation AP, in percent; groups are folds of images."""
        return jackknifed(self.first.ap.ap - self.second.ap.ap,
                          self.first.ap.without - self.second.ap.without)

    def sharpness(self, scale: str) -> Difference:
        """Of the rise of the loss at the radius."""
        return crossed(self.first.increases[scale]
                       - self.second.increases[scale])

    def to_json(self) -> dict[str, Any]:
        """All numbers; what is not finite is None."""
        return _plain({
            'settings': asdict(self.settings), 'pictures': self.images,
            'norm_ratio': self.norm_ratio, 'remarks': self.remarks,
            'differences': {
                'training_loss': _said(self.loss()), 'ap': _said(self.ap()),
                'sharpness': {scale: _said(self.sharpness(scale))
                              for scale in SCALES}},
            'coordinates': self.coordinates.tolist(),
            'runs': [{
                'name': of.name, 'folder': of.run.folder,
                'student': checkpoint_hash(of.run.student.weights),
                'identity': of.run.identity,
                'iterations': of.run.iterations,
                'ap': of.ap.ap, 'ap_without_fold': of.ap.without.tolist(),
                'training_loss': float(of.losses.mean()),
                'training_loss_by_batch': of.losses.tolist(),
                'sharpness': {s: of.sharpness(s) for s in SCALES},
                'rise_by_direction_and_batch': {
                    s: of.increases[s].tolist() for s in SCALES},
                'surface': of.surface.tolist(),
                'trajectory': [{
                    'stage': at.stage, 'teacher': at.teacher, 'at': at.at,
                    'ap': at.ap, 'loss_logged': at.logged,
                    'loss_measured': loss} for at, loss in of.trajectory],
            } for of in (self.first, self.second)]})


def compare_runs(first: FinishedRun, second: FinishedRun, settings: Settings,
                 remarks: list[str],
                 progress: Callable[[int, int], None]) -> Comparison:
    """Measure both runs in the same way; nothing of theirs is changed.

    Args:
        first: The run that is asked about.
        second: The run that it is held beside.
        settings: How.
        remarks: See :func:`mtpd.analysis.runs.check_comparable`.
        progress: Called with images done and images in all.
    """
    runs = (first, second)
    images = TrainingImages(first.student.config, settings.images,
                            settings.seed)
    passes = settings.grid**2 + len(SCALES) * (2 * settings.directions + 1)
    total = (2 * passes + sum(
        1 + sum(at.checkpoint is not None for at in run.validations)
        for run in runs)) * images.count
    done = 0
    progress(done, total)

    def loss(student: BaseDetector) -> np.ndarray:
        nonlocal done
        values = images.losses(student)
        done += images.count
        progress(done, total)
        return values

    with isolate_rng(settings.seed):
        students = [as_measured(build_detector(run.student.model))
                    for run in runs]
    trajectories, losses = [], []
    for run, student in zip(runs, students, strict=True):
        trajectories.append(tuple(
            (at, float(_loaded(student, at.checkpoint, loss).mean())
             if at.checkpoint else float('nan')) for at in run.validations))
        losses.append(_loaded(student, run.student.weights, loss))
    norms = [filter_norms(student) for student in students]
    together = common_norms(*norms)
    coordinates = np.linspace(-settings.range, settings.range, settings.grid)
    # 0 exactly, where linspace may miss it by a rounding.
    coordinates[settings.grid // 2] = 0
    measured = []
    for i, (run, student) in enumerate(zip(runs, students, strict=True)):
        drawn = partial(draw_direction, student, seed=settings.seed)
        around = surface(student, partial(loss, student),
                         drawn(together, index=0), drawn(together, index=1),
                         coordinates.tolist())
        rises = {scale: increases(
            student, partial(loss, student),
            (drawn(scaled_to, index=2 + k)
             for k in range(settings.directions)), settings.radius)
            for scale, scaled_to in (('common', together),
                                     ('own', norms[i]))}
        ap = folded_ap(student, validation_config(first.student.config))
        measured.append(Measured(run, _names(first, second)[i],
                                 trajectories[i], losses[i],
                                 around.mean(axis=2), rises, ap))
        student.cpu()
    ratio = torch.cat([norms[0][name] / norms[1][name] for name in together])
    return Comparison(measured[0], measured[1], settings, images.count,
                      coordinates, float(ratio.nanmedian()), tuple(remarks))


def _loaded(student: BaseDetector, checkpoint: str,
            loss: Callable[[BaseDetector], np.ndarray]) -> np.ndarray:
    student.load_state_dict(read_checkpoint(checkpoint)['state_dict'])
    return loss(student)


def _names(first: FinishedRun, second: FinishedRun) -> tuple[str, str]:
    if first.name != second.name:
        return first.name, second.name
    return (f'{first.name}, {first.folder}', f'{second.name}, '
            f'{second.folder}')


def _said(difference: Difference) -> dict[str, Any]:
    return {'value': difference.value, 'error': difference.error,
            'limit': difference.limit, 'sign': difference.sign}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
