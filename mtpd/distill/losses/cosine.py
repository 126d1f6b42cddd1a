"""Direction matching."""
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from .mechanism import BatchContext, Mechanism


@MODELS.register_module()
class CosineLoss(Mechanism):
    r"""One minus the cosine between the vectors at each position.

    .. math::
        L_s = \frac{\lambda}{N H_s W_s} \sum_{n, h, w} \left(1 -
            \cos(F^{student}_{n, h, w}, F^{teacher}_{n, h, w})\right)

    over channels. The length of a vector has no say. The cosine of a vector
    of zeros counts as 0, and its gradient is bounded.

    Args:
        pairing: Given by the distiller.
        loss_weight: That of DistilBERT's training code, for text.

    Raises:
        ValueError: A negative weight.

    Source:
        Sanh et al., 2019 (arXiv 1910.01108), section 2, for a
        transformer's last hidden states.
    """

    divides_by_scale = True

    def level_loss(self, stride: int, student: Tensor, teacher: Tensor,
                   context: BatchContext) -> Tensor:
        """See :class:`Mechanism`."""
        # Lengths are floored at 1e-6, which bounds the gradient at zero.
        own, other = (F.normalize(m, dim=1, eps=1e-6)
                      for m in (student, teacher))
        return 1 - (own * other).sum(dim=1).mean()
