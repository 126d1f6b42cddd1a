"""One teacher's part in a training step."""
from typing import Any, Iterable, Mapping

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.logging import print_log
from torch import Tensor, nn

from .adapters import (PyramidAdapter, in_full_precision, resample,
                       shared_strides)
from .auto_weight import AutoWeight, split_auto
from .detector import Features, pyramid_channels
from .heads import check_heads_agree
from .losses import Mechanism, Pairing, Scene, build_mechanism
from .teacher import FrozenTeacher


class NotFinite(ArithmeticError):
    """A map or a distillation loss holds infinity or nan."""


class Guidance(nn.Module):
    """A frozen teacher, the adapters onto its maps, and the mechanism.

    The teacher is no module and so no part of the parameters.

    Args:
        name: The teacher's.
        teacher: It.
        adapter: From the student's maps to its maps.
        mechanism: Their distance.
        auto: Finds the weight; None keeps the mechanism's own.
    """

    def __init__(self, name: str, teacher: FrozenTeacher,
                 adapter: PyramidAdapter, mechanism: Mechanism,
                 auto: AutoWeight | None = None) -> None:
        super().__init__()
        self.name = name
        self.teacher = teacher
        self.adapter = adapter
        self.mechanism = mechanism
        self.auto = auto

    def forward(self, student: Features, inputs: Tensor, scene: Scene,
                scores: Features, detection: Tensor) -> dict[str, Tensor]:
        """The mechanism's losses, by name.

        Args:
            student: All of the student's maps, stride -> (N, C, H, W).
            inputs: (N, 3, H', W'), normalised for the teacher.
            scene: What the batch shows; its scores are filled in here.
            scores: The student's classification maps, empty where the
                mechanism uses none.
            detection: The student's detection loss, for the automatic weight.

        Raises:
            NotFinite: With the level and the side.
        """
        calibrating = self.auto is not None and not self.auto.found
        attached = student, scores
        if calibrating:  # leaves: nothing reaches the student yet
            student, scores = ({s: m.detach().requires_grad_()
                                for s, m in maps.items()}
                               for maps in (student, scores))
        losses, target = self._losses(student, inputs, scene, scores)
        total = sum(losses.values())
        if not bool(total.detach().isfinite()):
            raise NotFinite(self._culprit(attached[0], target, losses))
        if calibrating:
            self._calibrate(detection, total, attached, student, scores)
        elif self.auto is not None:
            losses = {k: v * self.auto.factor for k, v in losses.items()}
        return losses

    def _losses(self, student: Features, inputs: Tensor, scene: Scene,
                scores: Features) -> tuple[dict[str, Tensor], Features]:
        strides = self.adapter.strides
        uses_scores = self.mechanism.uses_scores
        maps = self.teacher(inputs, None if uses_scores else strides)
        # The cost of the teacher's head, paid only where it is asked for.
        theirs = self.teacher.scores(maps) if uses_scores else {}
        with torch.autocast(inputs.device.type, enabled=False):
            if uses_scores:
                scene = Scene(scene.size, scene.boxes, {
                    s: (resample(in_full_precision(scores[s]),
                                 theirs[s].shape[-2:]),
                        in_full_precision(theirs[s])) for s in strides})
            target = {s: in_full_precision(maps[s]) for s in strides}
            return self.mechanism(self.adapter(student, target), target,
                                  scene), target

    def _calibrate(self, detection: Tensor, total: Tensor,
                   attached: tuple[Features, Features],
                   *leaves: Features) -> None:
        # What the mechanism looks at: maps, the head's scores, or both.
        hangs_on, own = ([m for maps in side for m in maps.values()]
                         for side in (attached, leaves))
        used = [g is not None for g in torch.autograd.grad(
            total, own, retain_graph=True, allow_unused=True)]
        if self.auto.look(detection, total,
                          [m for m, u in zip(hangs_on, used) if u],
                          [m for m, u in zip(own, used) if u]):
            print_log(
                f'{self.name}: automatic weight, '
                f'{self.auto.factor.item():.4g} times '
                f'{type(self.mechanism).__name__} of loss_weight '
                f'{self.mechanism.loss_weight:g}, so that its gradient at the '
                f"student's maps is {self.auto.share:g} of the detection "
                "loss's", logger='current')

    def _culprit(self, student: Features, teacher: Features,
                 losses: Mapping[str, Tensor]) -> str:
        """What is not finite, in words."""
        for side, maps in ((f'teacher {self.name}', teacher),
                           ('student', student)):
            for stride in self.adapter.strides:
                if not maps[stride].isfinite().all():
                    return (f'the map of the {side} at stride {stride} holds '
                            'a value that is not finite.' + (
                                ' Check its checkpoint and its '
                                'data_preprocessor.' if side != 'student' else
                                ' Lower the learning rate or '
                                'mtpd.distill.loss_weight, or clip gradients '
                                '(optim_wrapper.clip_grad).'))
        wrong = [k for k, v in losses.items() if not v.isfinite()]
        return (f'{", ".join(wrong)} of {type(self.mechanism).__name__} with '
                f'teacher {self.name} is not finite, although both maps are. '
                'Lower the learning rate or mtpd.distill.loss_weight.')


def make_guidance(student: BaseDetector, teacher: FrozenTeacher, name: str,
                  distill: Mapping[str, Any],
                  strides: Iterable[int] | None = None,
                  adapter: str = 'auto',
                  start: str | None = None) -> Guidance:
    """Pair a student with a teacher, or say why they cannot be paired.

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
    if start == 'zero' and mechanism.divides_by_scale:
        raise ValueError(
            f"mtpd.init_adapters='zero' does not go with "
            f'{type(mechanism).__name__}, which divides by the scale of the '
            "adapted map: its gradient would explode. Set 'random' or "
            "'fitted'.")
    adapters = PyramidAdapter(
        own, teacher.channels if mechanism.adapts_channels else None, paired,
        adapter, start or mechanism.adapter_start)
    return Guidance(name, teacher, adapters, mechanism,
                    None if auto is None else AutoWeight(**auto))
