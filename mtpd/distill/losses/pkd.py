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

    with mean and sample standard deviation of each channel over images and
    positions. Up to the factor :math:`1 - 1 / N H_s W_s` it is one minus
    Pearson's correlation, mean over channels: scale and offset of a channel
    have no say.

    A student channel without any variation has a gradient of about 1e6 times
    the usual, so adapters must not start at zero. A level of one position in
    all (one small image at stride 128) costs nothing.

    Args:
        pairing: Given by the distiller.
        loss_weight: 10 is mmrazor's for RetinaNet R50 taught by X101, 6 for
            Faster R-CNN R50 taught by R101. For a one-stage student and a
            teacher of another family (RetinaNet taught by Mask R-CNN Swin)
            mmrazor takes 6 as well: set it.

    Raises:
        ValueError: A negative weight.

    Source:
        Cao et al., NeurIPS 2022 (arXiv 2207.02039), section 3; agrees
        with mmrazor's ``PKDLoss``, by the same authors.
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
