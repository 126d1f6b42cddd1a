"""One teacher's part in a training step."""
from dataclasses import dataclass, replace
from typing import Any, Callable, Iterable, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.logging import print_log
from torch import Tensor, nn

from .adapters import (PyramidAdapter, in_full_precision, resample,
                       shared_strides)
from .auto_weight import AutoWeight, NoGradient, split_auto
from .frozen import FrozenDetector
from .heads import check_heads_agree
from .losses import BatchContext, Mechanism, Pairing, build_mechanism
from .pyramid import Features, grid_of, pyramid_channels


class NotFinite(ArithmeticError):
    """A map, a loss or a gradient holds infinity or nan."""


class ReadsBoxes(TypeError):
    """A mechanism needs boxes, and is given images without labels."""


class SingleValue(ValueError):
    """A batch norm is given one value per channel, which has no variance."""


@dataclass(frozen=True)
class ImageGroup:
    """Images of a step that go through the student together.

    Attributes:
        maps: All of the student's maps, stride -> (N, C, H, W).
        teacher_inputs: Name -> (N, 3, H', W'), the images normalised for this
            teacher.
        size: (height, width) of the student's padded batch in pixels.
        boxes: See :class:`BatchContext`; None for images without labels.
        scores: The student's classification maps, empty where no mechanism
            uses any.
    """
    maps: Features
    teacher_inputs: Mapping[str, Tensor]
    size: tuple[int, int]
    boxes: tuple[Tensor, ...] | None
    scores: Features

    def __len__(self) -> int:
        """The number of images."""
        return len(next(iter(self.maps.values())))

    @property
    def maps_and_scores(self) -> list[Tensor]:
        """All of them: a mechanism may read either or both."""
        return [*self.maps.values(), *self.scores.values()]

    def through(self, change: Callable[[Features], Features]) -> 'ImageGroup':
        """The same with its maps, and its scores, changed."""
        return replace(self, maps=change(self.maps),
                       scores=change(self.scores))


class TeacherBranch(nn.Module):
    """A frozen teacher, the adapters onto its maps, and the mechanism.

    The teacher is not an ``nn.Module``, so ``parameters()`` does not include
    its weights.

    Args:
        name: The teacher's.
        teacher: The teacher.
        adapter: From the student's maps to the teacher's.
        mechanism: Their distance.
        auto: Finds the weight; None keeps the mechanism's own.

    Attributes:
        label: Follows ``loss_distill`` in the names of the losses. It is set
            by the distiller, empty for one teacher and ``_{name}`` for each
            of several.
    """

    def __init__(self, name: str, teacher: FrozenDetector,
                 adapter: PyramidAdapter, mechanism: Mechanism,
                 auto: AutoWeight | None = None) -> None:
        super().__init__()
        self.name = name
        self.label = ''
        self.teacher = teacher
        self.adapter = adapter
        self.mechanism = mechanism
        self.auto = auto

    def forward(self, groups: Sequence['ImageGroup'], detection: Tensor
                ) -> tuple[dict[str, Tensor], list[Features]]:
        """The mechanism's losses by its own names, mean over the images of
        all groups, and the teacher's maps of each group.

        The automatic weight is found on the first group alone, the labelled
        images, since the others have no detection loss to compare with.

        Args:
            groups: Of the step's images, those with labels first.
            detection: The student's detection loss, for the automatic weight.

        Raises:
            NoGradient: All of the student's maps are frozen.
        """
        auto = self.auto
        self._check_it_teaches(groups[0])
        targets = self._teacher_maps(groups)
        if auto is None:
            return self._mean_losses(groups, targets), targets
        found = auto.found
        apart = [group.through(_aliases if found else _leaves)
                 for group in groups]
        # The first group by itself, before the others need memory.
        labelled = self._losses_of(apart[0], targets[0])
        total = sum(labelled.values(), detection.new_zeros(()))
        compared = (detection, total, groups[0].maps_and_scores,
                    apart[0].maps_and_scores)
        if not found:
            self._calibrate(auto, *compared)
            return self._mean_losses(apart, targets, labelled), targets
        auto.follow(*compared)
        losses = self._mean_losses(apart, targets, labelled)
        return {k: v * auto.factor for k, v in losses.items()}, targets

    def _check_it_teaches(self, group: 'ImageGroup') -> None:
        read = [*group.scores.values(),
                *(group.maps[stride] for stride in self.adapter.strides)]
        if torch.is_grad_enabled() and not any(m.requires_grad for m in read):
            raise NoGradient(
                'No gradient reaches the maps of the student that '
                f'{self.name} is to teach: all layers before them are frozen. '
                'Let some of them learn (model.backbone.frozen_stages, '
                'requires_grad), or train without mtpd.')

    def _teacher_maps(self, groups: Sequence['ImageGroup']) -> list[Features]:
        """The teacher's maps of each group, all that it has where its head
        will need them; images of one size pass together."""
        strides = None if self.mechanism.uses_scores else self.adapter.strides
        inputs = [group.teacher_inputs[self.name] for group in groups]
        if len(inputs) == 1 or len({one.shape[1:] for one in inputs}) > 1:
            return [self.teacher(one, strides) for one in inputs]
        maps = self.teacher(torch.cat(inputs), strides)
        parts = {stride: value.split([len(one) for one in inputs])
                 for stride, value in maps.items()}
        return [{stride: part[i] for stride, part in parts.items()}
                for i in range(len(inputs))]

    def _mean_losses(self, groups: Sequence['ImageGroup'],
                     targets: Sequence[Features],
                     of_first: dict[str, Tensor] | None = None
                     ) -> dict[str, Tensor]:
        """The mechanism's losses, mean over the images of all groups.

        Args:
            groups: Of the step's images.
            targets: The teacher's maps of each.
            of_first: The losses of the first one, if they are known.
        """
        images = sum(map(len, groups))
        mean: dict[str, Tensor] = {}
        for group, target in zip(groups, targets, strict=True):
            losses, of_first = of_first or self._losses_of(group, target), None
            for name, value in losses.items():
                mean[name] = mean.get(name, 0) + value * (len(group) / images)
        return mean

    def _losses_of(self, group: 'ImageGroup', maps: Features
                   ) -> dict[str, Tensor]:
        """The mechanism's losses of one group.

        Args:
            group: The images.
            maps: The teacher's of them.
        """
        device = next(iter(maps.values())).device
        uses_scores = self.mechanism.uses_scores
        # The teacher's head costs time and runs only for a mechanism that
        # compares scores.
        teacher_scores = self.teacher.scores(maps) if uses_scores else {}
        adapted, target, compared = {}, {}, {}
        with torch.autocast(device.type, enabled=False):
            for stride in self.adapter.strides:
                target[stride] = in_full_precision(maps[stride])
                adapted[stride] = self.adapter.adapt(
                    stride, group.maps[stride], target[stride])
                if uses_scores:
                    teacher_score = in_full_precision(teacher_scores[stride])
                    compared[stride] = (
                        resample(in_full_precision(group.scores[stride]),
                                 grid_of(teacher_score)), teacher_score)
            context = BatchContext(group.size, group.boxes, compared)
            try:
                losses = self.mechanism(adapted, target, context)
            except (TypeError, AttributeError) as error:
                if group.boxes is not None:
                    raise
                raise ReadsBoxes(
                    f'{type(self.mechanism).__name__} fails at images without '
                    f'labels, whose context.boxes is None: {error}. Let it '
                    'skip what needs boxes there, take another '
                    'mtpd.distill.type, or leave mtpd.unlabelled out.') \
                    from error
        return losses

    def loss_name(self, name: str) -> str:
        """The log's name of one of the mechanism's losses."""
        return name.replace('loss_distill', f'loss_distill{self.label}', 1)

    def _calibrate(self, auto: AutoWeight, detection: Tensor, total: Tensor,
                   attached: Sequence[Tensor],
                   leaves: Sequence[Tensor]) -> None:
        if auto.look(detection, total, attached, leaves):
            print_log(
                f'{self.name}: automatic weight, '
                f'{auto.factor.item():.4g} times '
                f'{type(self.mechanism).__name__} of loss_weight '
                f'{self.mechanism.loss_weight:g}, so that its gradient at the '
                f"student's maps of labelled images is {auto.share:g} times "
                "the detection loss's, were there no others; from now on it "
                'follows both', logger='current')

    def not_finite(self, student: Features, teacher: Features) -> str | None:
        """Which map is not finite, in words; None if all are."""
        for side, maps, cure in (
                (f'teacher {self.name}', teacher,
                 'Check its checkpoint and its data_preprocessor; in half '
                 'precision (--amp, mtpd.fast_teacher) try without.'),
                ('student', student,
                 'Lower the learning rate or mtpd.distill.loss_weight, or '
                 'clip gradients (optim_wrapper.clip_grad); with --amp try '
                 'optim_wrapper.dtype=bfloat16.')):
            for stride in self.adapter.strides:
                if not maps[stride].isfinite().all():
                    return (f'the map of the {side} at stride {stride} holds '
                            f'a value that is not finite. {cure}')
        return None


def _leaves(maps: Features) -> Features:
    # In full precision, so that no gradient is too large or small to hold.
    return {s: in_full_precision(m.detach()).clone().requires_grad_()
            for s, m in maps.items()}


def _aliases(maps: Features) -> Features:
    # The same values, but a gradient here is the mechanism's alone: the head
    # has read the maps themselves, and the scores came from them.
    return {s: in_full_precision(m).view_as(m) for s, m in maps.items()}


def make_branch(student: BaseDetector, teacher: FrozenDetector, name: str,
                distill: Mapping[str, Any],
                strides: Iterable[int] | None = None,
                adapter: str = 'auto',
                start: str | None = None) -> TeacherBranch:
    """Pair a student with a teacher.

    Args:
        student: The student.
        teacher: The teacher.
        name: Its name in the config.
        distill: The mechanism's config; its weight may be automatic.
        strides: The levels to match; None takes all that both have.
        adapter: See :class:`FeatureAdapter`.
        start: See :class:`FeatureAdapter`; None is the mechanism's choice.

    Raises:
        ValueError: No level in common, heads that do not agree where the
            mechanism compares them, or a wrong setting of the mechanism.
    """
    own = pyramid_channels(student)
    field = f'teachers.{name}'
    paired = shared_strides(own, teacher.channels, field, strides)
    config, auto = split_auto(distill)
    mechanism = build_mechanism(config, Pairing(
        {s: teacher.channels[s] for s in paired},
        getattr(student, 'with_roi_head', False)))
    if mechanism.uses_scores:
        check_heads_agree(student, teacher.detector, paired, field)
    if start is None:
        start = mechanism.adapter_start if auto is None else 'random'
    if start == 'zero' and (auto is not None or mechanism.divides_by_scale):
        raise ValueError(
            "mtpd.init_adapters='zero' does not go with " + (
                f'{type(mechanism).__name__}, which divides by the scale of '
                'the adapted map: its gradient would explode'
                if mechanism.divides_by_scale else
                "loss_weight='auto', which compares gradients that the "
                'adapter has passed on: those of an adapter that is still '
                'near zero are too small')
            + ". Set 'random' or 'fitted'" + (
                '.' if auto is None else
                ', or a number as mtpd.distill.loss_weight.'))
    adapters = PyramidAdapter(
        own, teacher.channels if mechanism.adapts_channels else None, paired,
        adapter, start)
    return TeacherBranch(name, teacher, adapters, mechanism,
                         None if auto is None else AutoWeight(**auto))
