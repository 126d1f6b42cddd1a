"""Hidden states of chosen layers, as transformers are distilled."""
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from ..pyramid import Features
from .mechanism import BatchContext, Mechanism, Pairing


@MODELS.register_module()
class HiddenStateLoss(Mechanism):
    r"""Squared distance between the vectors at each position, of some levels.

    .. math::
        L_s = \frac{\lambda}{N H_s W_s} \sum_{n, h, w} \left\lVert
            \frac{F^{student}_{n, h, w}}{\lVert F^{student}_{n, h, w} \rVert} -
            \frac{F^{teacher}_{n, h, w}}{\lVert F^{teacher}_{n, h, w} \rVert}
            \right\rVert^2

    with norms over channels. The paper compares the [CLS] token's vector at
    chosen layers; here positions stand for the token, and the pyramid's
    levels, from fine to coarse, for layers.

    Not normalised it is the mean squared error over elements, TinyBERT's loss
    (Jiao et al., 2020, arXiv 1909.10351, section 3): :class:`FeatureL2Loss`
    with the sum over levels in place of their mean.

    Args:
        pairing: Given by the distiller.
        loss_weight: 1 is ours. The paper searches its beta among 10, 100,
            500 and 1000 for texts.
        layers: ``'all'`` levels; ``'skip'``, every second one, counted back
            from the coarsest; ``'last'``, the coarser half, rounded up. In the
            paper, 'skip' is the better of the two on most tasks.
        normalise: Whether vectors are brought to length 1.

    Raises:
        ValueError: A negative weight or another name of layers.

    Source:
        Sun et al., EMNLP 2019 (arXiv 1908.09355), section 3.2.
    """

    divides_by_scale = True

    def __init__(self, pairing: Pairing, loss_weight: float | None = None,
                 layers: str = 'all', normalise: bool = True) -> None:
        super().__init__(pairing, loss_weight)
        levels = sorted(pairing.channels)
        choices = {'all': levels, 'skip': levels[::-1][::2],
                   'last': levels[len(levels) // 2:]}
        if layers not in choices:
            raise ValueError(
                f'HiddenStateLoss: distill.layers is {layers!r}; it has to be '
                f'one of {", ".join(map(repr, choices))}.')
        self.strides = frozenset(choices[layers])
        self.normalise = normalise

    def forward(self, student: Features, teacher: Features,
                context: BatchContext) -> dict[str, Tensor]:
        """See :class:`Mechanism`; levels not chosen have no entry."""
        losses = super().forward(self._chosen(student),
                                 self._chosen(teacher), context)
        for stride in student.keys() - self.strides:
            # DistributedDataParallel waits for a gradient of every adapter.
            losses[next(iter(losses))] += student[stride].sum() * 0
        return losses

    def level_loss(self, stride: int, student: Tensor, teacher: Tensor,
                   context: BatchContext) -> Tensor:
        """See :class:`Mechanism`."""
        if not self.normalise:
            return F.mse_loss(student, teacher)
        # 1e-6 bounds the gradient at a vector of zeros, which has no
        # direction; torch's own 1e-12 would let it grow a million times more.
        own, other = (F.normalize(m, dim=1, eps=1e-6)
                      for m in (student, teacher))
        return (own - other).square().sum(dim=1).mean()

    def _chosen(self, maps: Features) -> Features:
        return {s: m for s, m in maps.items() if s in self.strides}
