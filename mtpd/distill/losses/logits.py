"""Soft targets from the teacher's dense head."""
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from ..pyramid import Features
from .mechanism import BatchContext, Mechanism, Pairing


@MODELS.register_module()
class LogitLoss(Mechanism):
    r"""Divergence of softened class probabilities at every anchor.

    .. math::
        L_s = \lambda \frac{T^2}{|S| N H_s W_s} \sum_{n, h, w} \sum_{a, k}
            \mathrm{KL}\left(\sigma(t / T) \,\Vert\, \sigma(u / T)\right)

    with the student's score u and the teacher's t before the sigmoid, for
    every anchor a and class k, over the levels S of ``context.scores``. The
    paper has one softmax over classes; dense heads decide each by itself.

    Both heads need the same classes and the same number of anchors, which
    should also mean the same shapes. The shapes are not checked.

    Args:
        pairing: Given by the distiller.
        loss_weight: 1 is ours, the paper is about classification.
        temperature: T, above 0; the gradient's size does not depend on it.
            The paper has 20 for digits, and tries 1, 2, 5 and 10 for speech.

    Raises:
        ValueError: A negative weight, or a temperature that is not positive.

    Source:
        Hinton et al., 2015 (arXiv 1503.02531), section 2. The binary form and
        the reductions are ours.
    """

    adapts_channels = False
    uses_scores = True

    def __init__(self, pairing: Pairing, loss_weight: float | None = None,
                 temperature: float = 1.0) -> None:
        super().__init__(pairing, loss_weight)
        if not temperature > 0:
            raise ValueError(
                f'LogitLoss: distill.temperature is {temperature}; it has to '
                'be above 0. 1 leaves the probabilities as they are, more '
                'softens them.')
        self.temperature = temperature

    def forward(self, student: Features, teacher: Features,
                context: BatchContext) -> dict[str, Tensor]:
        """See :class:`Mechanism`; over ``context.scores``, not over the maps.

        Raises:
            ValueError: No scores, or maps of different shape.
        """
        if not context.scores:
            raise ValueError(
                'LogitLoss needs the classification scores of both dense '
                'heads, and got none. Choose a student and a teacher with a '
                'dense sigmoid head (RetinaNet, FCOS, ...), or another '
                'mechanism in distill.type.')
        return super().forward(
            {stride: own for stride, (own, _) in context.scores.items()},
            {stride: other for stride, (_, other) in context.scores.items()},
            context)

    def level_loss(self, stride: int, student: Tensor, teacher: Tensor,
                   context: BatchContext) -> Tensor:
        """See :class:`Mechanism`; both (N, anchors * classes, H, W)."""
        if student.shape != teacher.shape:
            raise ValueError(
                f'LogitLoss at stride {stride}: the student scores '
                f'{student.shape[1]} anchors * classes, the teacher '
                f'{teacher.shape[1]}. Choose a teacher with the same classes '
                'and anchors, or another mechanism in distill.type.')
        own, other = student / self.temperature, teacher / self.temperature
        target = torch.sigmoid(other)
        # By differences of logarithms: exactly 0 for equal scores, and finite
        # where a probability rounds to 0 or 1.
        divergence = \
            target * (F.logsigmoid(other) - F.logsigmoid(own)) + \
            torch.sigmoid(-other) * (F.logsigmoid(-other) -
                                     F.logsigmoid(-own))
        return divergence.sum(dim=1).mean() * self.temperature ** 2 \
            / len(context.scores)
