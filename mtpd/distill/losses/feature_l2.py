"""Feature matching by squared distance."""
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from .mechanism import BatchContext, Mechanism, Pairing

LEAST_VARIANCE = 0.01
"""That a map is taken to have, as a share of its mean square."""


@MODELS.register_module()
class FeatureL2Loss(Mechanism):
    r"""Mean squared distance between adapted student and teacher maps.

    .. math::
        L = \frac{\lambda}{|S|} \sum_{s \in S}
            \frac{1}{N C H_s W_s} \lVert r(F^{student}_s) -
            F^{teacher}_s \rVert^2

    over the paired strides S: the same quantity as the adaptation cost,
    independent of batch, image size and number of levels. The paper gives
    neither reduction nor :math:`\lambda`.

    The best linear map from the student on blood cells leaves a squared error
    of 14.5 to one teacher and of 0.66 to another. Normalised, one
    :math:`\lambda` serves a whole pool.

    Args:
        pairing: Given by the distiller.
        loss_weight: :math:`\lambda`.
        normalise: Whether to divide each level by the variance of the
            teacher's map (over the batch's positions, mean over channels), or
            by a hundredth of its mean square where this is more; the paper
            does not.

    Raises:
        ValueError: A negative weight.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), section 3.1.
    """

    # Nothing of the distance reaches the student before the adapters learn.
    adapter_start = 'zero'

    def __init__(self, pairing: Pairing, loss_weight: float | None = None,
                 normalise: bool = False) -> None:
        super().__init__(pairing, loss_weight)
        self.normalise = normalise

    def level_loss(self, stride: int, student: Tensor, teacher: Tensor,
                   context: BatchContext) -> Tensor:
        """See :class:`Mechanism`."""
        error = F.mse_loss(student, teacher)
        if self.normalise:
            # Frames of a still camera are nearly equal, and so are their maps
            # of one position: divided by their variance, the error was a
            # million times the others'. Trained pyramids have 5 to 90
            # hundredths.
            variance = teacher.var(dim=(0, 2, 3), correction=0).mean()
            scale = variance.maximum(LEAST_VARIANCE * teacher.square().mean())
            error = error / scale.where(scale > 0, 1.)
        return error / len(self.pairing.channels)
