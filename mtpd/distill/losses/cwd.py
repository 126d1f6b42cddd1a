"""Channel-wise knowledge distillation."""
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from .mechanism import BatchContext, Mechanism, Pairing


@MODELS.register_module()
class CWDLoss(Mechanism):
    r"""Where each channel looks: a divergence of distributions over positions.

    .. math::
        L_s = \lambda \frac{\tau^2}{N C} \sum_{n, c} \mathrm{KL}\left(
            \phi(F^{teacher}_{n, c}) \,\Vert\, \phi(F^{student}_{n, c})\right),
        \qquad \phi(x) = \mathrm{softmax}_{h, w}(x / \tau)

    A constant added to a channel changes nothing; its scale does.

    Args:
        pairing: Given by the distiller.
        loss_weight: 5 is the authors' for RetinaNet R50 taught by X101, 10
            mmrazor's for Faster R-CNN R50 taught by R101.
        tau: Temperature, above 0; 1 in both configs.

    Raises:
        ValueError: A negative weight, or a temperature that is not positive.

    Source:
        Shu et al., ICCV 2021 (arXiv 2011.13256), section 3.2; agrees
        with mmrazor's ``ChannelWiseDivergence``.
    """

    published_weight = (5.0, 10.0)

    def __init__(self, pairing: Pairing, loss_weight: float | None = None,
                 tau: float = 1.0) -> None:
        super().__init__(pairing, loss_weight)
        if not tau > 0:
            raise ValueError(f'CWDLoss: distill.tau is {tau}; a temperature '
                             'has to be above 0 (published: 1).')
        self.tau = tau

    def level_loss(self, stride: int, student: Tensor, teacher: Tensor,
                   context: BatchContext) -> Tensor:
        """See :class:`Mechanism`."""
        own, other = (F.log_softmax(m.flatten(2) / self.tau, dim=2)
                      for m in (student, teacher))
        divergence = F.kl_div(own, other, reduction='sum', log_target=True)
        return divergence * self.tau ** 2 / (own.shape[0] * own.shape[1])
