"""Attention transfer."""
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from .mechanism import BatchContext, Mechanism


@MODELS.register_module()
class AttentionTransferLoss(Mechanism):
    r"""Where the activity is, whatever channel carries it.

    .. math::
        L_s = \frac{\lambda}{N H_s W_s} \sum_n \left\lVert
            \frac{Q(F^{student}_n)}{\lVert Q(F^{student}_n) \rVert} -
            \frac{Q(F^{teacher}_n)}{\lVert Q(F^{teacher}_n) \rVert}
            \right\rVert^2, \qquad
        Q(x)_{h, w} = \frac{1}{C} \sum_c x_{c, h, w}^2

    Channels are summed away, so their numbers may differ and no adapter
    convolution comes between.

    Args:
        pairing: Given by the distiller.
        loss_weight: The paper's loss has beta / 2 with beta = 1e3, divided by
            positions and images as here; the authors' code leaves out the
            half. Both are for classification, nothing is published for
            feature pyramids.

    Raises:
        ValueError: A negative weight.

    Source:
        Zagoruyko and Komodakis, ICLR 2017 (arXiv 1612.03928), section 3.1,
        with the sum of squares as mapping. The paper's formula has the norm,
        the authors' code its square.
    """

    published_weight = 500.0
    adapts_channels = False
    divides_by_scale = True

    def level_loss(self, stride: int, student: Tensor, teacher: Tensor,
                   context: BatchContext) -> Tensor:
        """See :class:`Mechanism`; the numbers of channels may differ."""
        return F.mse_loss(_attention(student), _attention(teacher))


def _attention(feature: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H * W), of length 1 for each image."""
    return F.normalize(feature.square().mean(dim=1).flatten(1), dim=1)
