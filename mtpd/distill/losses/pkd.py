"""Distillation by Pearson correlation."""
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from .mechanism import BatchContext, Mechanism


@MODELS.register_module()
class PKDLoss(Mechanism):
    r"""Half the squared error of maps that are standardised per channel.

    .. math::
        L_s = \frac{\lambda}{2 N C H_s W_s} \lVert z(F^{student}_s) -
            z(F^{teacher}_s) \rVert^2, \qquad
        z(x) = \frac{x - \mathrm{mean}(x)}{\mathrm{std}(x) + 10^{-6}}

    with mean and (sample) standard deviation of each channel over images
    and positions, and the sum over levels. Up to the factor
    :math:`1 - 1 / N H_s W_s` of the sample deviation it is one minus Pearson's
    correlation, mean over channels: scale and offset of a channel, which
    differ between detectors, have no say.

    A student channel without any variation is standardised to zero, and its
    gradient is about 1e6 times the usual, as it has no scale: adapters must
    not start at zero. A level of one position in all (one small image at
    stride 128) has no variation to match and costs nothing.

    Args:
        pairing: Given by the distiller.
        loss_weight: :math:`\lambda`, at least 0. None takes mmrazor's, 10 for
            a one-stage student (RetinaNet R50 below RetinaNet X101) and 6 for
            a two-stage one (Faster R-CNN R50 below R101). For a one-stage
            student below a teacher of another family (RetinaNet below Mask
            R-CNN Swin) mmrazor takes 6 as well: set it.

    Raises:
        ValueError: A negative weight.

    Source:
        Cao et al., NeurIPS 2022 (arXiv 2207.02039), section 3; values and
        gradients agree with mmrazor's ``PKDLoss``, by the same authors.
    """

    published_weight = (10.0, 6.0)
    divides_by_scale = True

    def level_loss(self, stride: int, student: Tensor, teacher: Tensor,
                   context: BatchContext) -> Tensor:
        """See :class:`Mechanism`."""
        return F.mse_loss(_standardised(student), _standardised(teacher)) / 2


def _standardised(feature: Tensor) -> Tensor:
    """Mean 0 and sample deviation 1 of each channel over N, H and W."""
    centred = feature - feature.mean(dim=(0, 2, 3), keepdim=True)
    if feature.numel() == feature.shape[1]:  # a sample deviation of one is nan
        return centred
    return centred / (feature.std(dim=(0, 2, 3), keepdim=True) + 1e-6)
