"""Masked generative distillation."""
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from .mechanism import BatchContext, Mechanism, Pairing


@MODELS.register_module()
class MGDLoss(Mechanism):
    r"""The teacher's whole map, generated from part of the student's.

    .. math::
        L_s = \frac{\lambda}{N} \lVert G_s(M \odot F^{student}_s) -
            F^{teacher}_s \rVert^2

    M drops each position, drawn anew at every step; :math:`G_s` is a 3x3
    convolution, ReLU and a 3x3 convolution, trained for each level. The
    squares are summed over channels and positions, so the published weights
    are small and large levels count more.

    Args:
        pairing: Given by the distiller.
        loss_weight: The paper's alpha; the authors' for RetinaNet, RepPoints
            and SOLO, or for Faster and Mask R-CNN.
        mask_ratio: Share of positions that is dropped (the paper's lambda), in
            [0, 1). None takes the authors' 0.65 one-stage, 0.45 two-stage.

    Raises:
        ValueError: A negative weight, or a ratio outside [0, 1).

    Source:
        Yang et al., ECCV 2022 (arXiv 2205.01529), section 3. Here, mtpd's
        adapter is their 1x1 convolution between unequal channels.
    """

    published_weight = (2e-5, 5e-7)
    published_ratio = (0.65, 0.45)

    def __init__(self, pairing: Pairing, loss_weight: float | None = None,
                 mask_ratio: float | None = None) -> None:
        super().__init__(pairing, loss_weight)
        if mask_ratio is None:
            mask_ratio = self.published_ratio[pairing.two_stage]
        if not 0 <= mask_ratio < 1:
            raise ValueError(
                f'MGDLoss: distill.mask_ratio is {mask_ratio}; it is a share '
                'of positions to drop, at least 0 and below 1 (published: '
                '0.65 for one-stage, 0.45 for two-stage students).')
        self.mask_ratio = mask_ratio
        self.generators = nn.ModuleDict()
        for stride, channels in pairing.channels.items():
            self.generators[str(stride)] = nn.Sequential(
                nn.Conv2d(channels, channels, kernel_size=3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels, kernel_size=3, padding=1))

    def level_loss(self, stride: int, student: Tensor, teacher: Tensor,
                   context: BatchContext) -> Tensor:
        """See :class:`Mechanism`."""
        generated = self.generators[str(stride)](
            student * self._keep_mask(student))
        return F.mse_loss(generated, teacher, reduction='sum') / len(student)

    def _keep_mask(self, student: Tensor) -> Tensor:
        """(N, 1, H, W) of the map's type: 1 keeps a position, 0 drops it."""
        draws = torch.rand_like(student[:, :1])
        return (draws >= self.mask_ratio).to(student.dtype)
