"""Focal and global knowledge distillation."""
from typing import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ContextBlock
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..pyramid import grid_of
from .mechanism import BatchContext, Mechanism, Pairing


@MODELS.register_module()
class FGDLoss(Mechanism):
    r"""Objects and background apart, the teacher's attention, and relations.

    .. math::
        L_s = \frac{\lambda}{N} \sum_n \Big(
            \sum_{c, h, w} (\alpha M + \beta B)\, S^t C^t
                (F^{student} - F^{teacher})^2
            + \gamma \big(\lVert S^s - S^t \rVert_1 +
                \lVert C^s - C^t \rVert_1\big)
            + \mu \lVert R^s(F^{student}) - R^t(F^{teacher}) \rVert^2 \Big)

    The attention of a map x is

    .. math::
        S_{h, w} = H W\, \mathrm{softmax}_{h, w}
            \big(\mathrm{mean}_c |x| / T\big), \qquad
        C_c = C\, \mathrm{softmax}_c \big(\mathrm{mean}_{h, w} |x| / T\big),

    M and B are the :func:`region_weights` of the ground truth. R are two
    trained context blocks for each level (GcBlock, Cao et al., 2019). Images
    without labels have no M and B: their attention and relations count.

    None takes the authors' weights: those of RetinaNet, GFL and SOLO, or of
    Faster and Mask R-CNN. For FCOS and RepPoints they publish 1.6e-3, 8e-4,
    8e-4 and 8e-6, and for FCOS a temperature of 0.8; the default gamma of
    their code, 1e-3, is in none of their configs.

    Args:
        pairing: Given by the distiller.
        loss_weight: :math:`\lambda`, over all four terms.
        temperature: T, above 0.
        foreground: :math:`\alpha`: 1e-3 one-stage, 5e-5 two-stage.
        background: :math:`\beta`: 5e-4, 2.5e-5.
        attention: :math:`\gamma`: 5e-4, 5e-5.
        context: :math:`\mu`, lambda in the paper: 5e-6, 5e-7.

    Raises:
        ValueError: A negative weight, or a temperature that is not positive.

    Source:
        Yang et al., CVPR 2022 (arXiv 2111.11837), section 3; on an unpadded
        batch, it agrees with the authors' code. They place
        boxes by the unpadded size, which moves those of a smaller image
        towards the lower right; here it is the padded size.
    """

    published_terms = {'foreground': (1e-3, 5e-5),
                       'background': (5e-4, 2.5e-5),
                       'attention': (5e-4, 5e-5), 'context': (5e-6, 5e-7)}

    relations: Mapping[str, Mapping[str, nn.Module]]  # a ModuleDict

    def __init__(self, pairing: Pairing, loss_weight: float | None = None,
                 temperature: float = 0.5, foreground: float | None = None,
                 background: float | None = None,
                 attention: float | None = None,
                 context: float | None = None) -> None:
        super().__init__(pairing, loss_weight)
        if not temperature > 0:
            raise ValueError(
                f'FGDLoss: distill.temperature is {temperature}; it has to be '
                'above 0 (published: 0.5, and 0.8 for FCOS).')
        self.temperature = temperature
        given = dict(foreground=foreground, background=background,
                     attention=attention, context=context)
        self.weights = {
            name: self.published_terms[name][pairing.two_stage]
            if weight is None else weight for name, weight in given.items()}
        for name, weight in self.weights.items():
            if not weight >= 0:
                raise ValueError(f'FGDLoss: distill.{name} is {weight}; it '
                                 'has to be a number of at least 0.')
        # mmcv's block starts as the authors' does: its last convolution at
        # zero, so that the relations start as plain differences of maps.
        self.relations = nn.ModuleDict({  # type: ignore[assignment]
            str(stride): nn.ModuleDict({
                whose: ContextBlock(channels, ratio=0.5)
                for whose in ('student', 'teacher')})
            for stride, channels in pairing.channels.items()})

    def level_loss(self, stride: int, student: Tensor, teacher: Tensor,
                   context: BatchContext) -> Tensor:
        """See :class:`Mechanism`."""
        position, channel = self._attention(teacher)
        own_position, own_channel = self._attention(student)
        attention = (own_position - position).abs().sum() + \
            (own_channel - channel).abs().sum()
        relations = self.relations[str(stride)]
        # mmcv's block views its input, which a part of a map does not allow.
        relation = F.mse_loss(relations['student'](student.contiguous()),
                              relations['teacher'](teacher.contiguous()),
                              reduction='sum')
        # Images without labels have no objects to look for.
        focal: Tensor | float = 0.
        if context.boxes is not None:
            error = torch.einsum('nchw,nc->nhw', (student - teacher).square(),
                                 channel)
            objects, rest = region_weights(context.boxes, context.size,
                                           grid_of(student))
            # (N, H, W): the weight of an error at each position.
            focus = (self.weights['foreground'] * objects
                     + self.weights['background'] * rest).to(student.dtype)
            focal = (focus * position * error).sum()
        return (focal + self.weights['attention'] * attention
                + self.weights['context'] * relation) / len(student)

    def _attention(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W), of mean 1 over positions, and (N, C), of mean 1."""
        size = feature.abs()
        position = (size.mean(dim=1) / self.temperature).flatten(1)
        channel = size.mean(dim=(2, 3)) / self.temperature
        return (position.softmax(dim=1).view_as(size[:, 0])
                * position.shape[1],
                channel.softmax(dim=1) * channel.shape[1])


def region_weights(boxes: Sequence[Tensor], size: tuple[int, int],
                   grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The weights of each position of a map as object and as background.

    A box covers the cells from the floor of its upper left corner to the
    ceiling of its lower right corner, both included, on a grid over the batch.
    This can be a row and a column more than it touches, and some cells may lie
    outside of the grid. Each cell has 1 over the number of the box's cells;
    where boxes overlap, the smallest box counts. Boxes are cut to the batch
    first, and a box without area covers no cell.

    Args:
        boxes: Per image (M, 4), x1, y1, x2, y2 in pixels; M may be 0.
        size: (height, width) of the batch in pixels.
        grid: (H, W) of the map.

    Returns:
        Objects, (N, H, W), 0 where no box is, and background, (N, H, W), equal
        where no box is and 0 elsewhere, with a sum of 1 for each image that
        has any.

    Source:
        Yang et al., CVPR 2022 (arXiv 2111.11837), section 3.1; the
        rounding is that of the authors' code. Departures: there, a box without
        area covers up to four cells, and one that begins left of or above the
        image is placed by a negative index, from the other side.
    """
    # One box without area for each image: a maximum needs something to
    # choose from. Padding adds more of them.
    corners = F.pad(pad_sequence(list(boxes), batch_first=True),
                    (0, 0, 0, 1)).unflatten(2, (2, 2))
    extent = corners.new_tensor(size[::-1])
    corners = corners.clamp(min=torch.zeros_like(extent), max=extent)
    # Multiplied first: a corner on a line between cells stays on it.
    cells = corners * corners.new_tensor(grid[::-1]) / extent
    first, last = cells[:, :, 0].floor(), cells[:, :, 1].ceil()
    valid = (corners[:, :, 1] > corners[:, :, 0]).all(dim=2)
    share = (1 / (last - first + 1).prod(dim=2)).where(valid, 0.)
    covered = []
    for axis, length in enumerate(grid[::-1]):
        place = torch.arange(length, device=corners.device)
        covered.append((place >= first[:, :, axis, None])
                       & (place <= last[:, :, axis, None]))
    columns, rows = covered
    by_row = rows * share[:, :, None]
    objects = (by_row[:, :, :, None] * columns[:, :, None, :]).amax(dim=1)
    empty = (objects == 0).to(objects.dtype)
    background = empty / empty.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    return objects, background
