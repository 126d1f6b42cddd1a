"""Feature matching by squared distance."""
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..detector import Features


@MODELS.register_module()
class FeatureL2Loss(nn.Module):
    r"""Mean squared distance between adapted student and teacher maps.

    .. math::
        L = \frac{\lambda}{|S|} \sum_{s \in S}
            \frac{1}{N C H_s W_s} \lVert r(F^{student}_s) -
            F^{teacher}_s \rVert^2

    over the paired strides S. The mean over elements and over levels makes
    :math:`\lambda` independent of batch, picture size and number of levels,
    and the same quantity as the adaptation cost; the paper gives neither
    reduction nor :math:`\lambda`.

    The scale of maps differs between detectors by orders of magnitude, and one
    :math:`\lambda` cannot fit them all: the best linear map from the student on
    blood cells leaves a squared error of 14.5 to one teacher and of 0.66 to
    another (docs/bccd.md). Normalised, each level's term is divided by the
    variance of the teacher's map (over the batch's positions, mean over
    channels), as the normalised adaptation cost is, and one :math:`\lambda`
    serves a whole pool.

    Args:
        loss_weight: :math:`\lambda`, at least 0.
        normalise: Whether to divide by the teacher's variance; the paper does
            not.

    Raises:
        ValueError: A negative weight.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), section 3.1.
    """

    def __init__(self, loss_weight: float = 1.0,
                 normalise: bool = False) -> None:
        super().__init__()
        if not loss_weight >= 0:
            raise ValueError(f'distill.loss_weight is {loss_weight}; it has to '
                             'be a number of at least 0.')
        self.loss_weight = loss_weight
        self.normalise = normalise

    def forward(self, student: Features,
                teacher: Features) -> dict[str, Tensor]:
        """One scalar per level, whose sum is the loss.

        Args:
            student: Adapted maps, stride -> (N, C, H, W).
            teacher: Maps of the same strides and shapes.

        Raises:
            ValueError: Other strides or another shape at some stride.
        """
        if student.keys() != teacher.keys():
            raise ValueError(f'FeatureL2Loss got student maps of strides '
                             f'{sorted(student)} and teacher maps of '
                             f'{sorted(teacher)}.')
        losses = {}
        for stride, source in student.items():
            target = teacher[stride]
            if source.shape != target.shape:
                raise ValueError(
                    f'FeatureL2Loss at stride {stride}: the adapted student '
                    f'map is {tuple(source.shape)}, the teacher map '
                    f'{tuple(target.shape)}. Adapt it first.')
            error = F.mse_loss(source, target)
            if self.normalise:
                variance = target.var(dim=(0, 2, 3), correction=0).mean()
                # A constant map has no scale; its error stays as it is.
                error = error / variance.where(variance > 0, 1.)
            losses[f'loss_distill_s{stride}'] = \
                error * (self.loss_weight / len(student))
        return losses
