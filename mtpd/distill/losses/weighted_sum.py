"""Several mechanisms at once."""
from collections import Counter
from typing import Any, Mapping, Sequence

from mmdet.registry import MODELS
from torch import Tensor, nn

from ..pyramid import Features
from .mechanism import BatchContext, Mechanism, Pairing, build_mechanism


@MODELS.register_module()
class WeightedSum(Mechanism):
    r"""The sum of other mechanisms, each with its own weight.

    .. math:: L = \lambda \sum_i \lambda_i L_i

    .. code-block:: python

        distill=dict(type='WeightedSum', losses=[
            dict(type='PKDLoss', loss_weight=6.0),
            dict(type='LogitLoss', temperature=2.0)])

    A part of weight 0 is left out.

    Args:
        pairing: Given by the distiller.
        losses: One config per mechanism, from mmdet's ``MODELS``.
        loss_weight: :math:`\lambda`, beside the parts' own
            :math:`\lambda_i`.

    Raises:
        ValueError: A negative weight, or no mechanism.
    """

    losses: Sequence[Mechanism]  # ModuleList is not generic

    def __init__(self, pairing: Pairing, losses: Sequence[Mapping[str, Any]],
                 loss_weight: float | None = None) -> None:
        super().__init__(pairing, loss_weight)
        valid = isinstance(losses, (list, tuple)) and bool(losses)
        if not valid or not all(isinstance(c, Mapping) for c in losses):
            raise ValueError(
                f'WeightedSum: distill.losses is {losses!r}; it has to list '
                "at least one mechanism, such as [dict(type='PKDLoss')].")
        parts = [build_mechanism(cfg, pairing) for cfg in losses]
        kept: dict[str, Mechanism] = {}
        starts = set()
        self.adapts_channels = self.uses_scores = self.divides_by_scale = False
        for name, part in zip(_short_names(parts), parts, strict=True):
            if part.loss_weight > 0:
                kept[name] = part
                self.adapts_channels |= part.adapts_channels
                self.uses_scores |= part.uses_scores
                self.divides_by_scale |= part.divides_by_scale
                if part.adapts_channels:
                    starts.add(part.adapter_start)
        self.names = tuple(kept)
        self.losses = nn.ModuleList(  # type: ignore[assignment]
            kept.values())
        if len(starts) == 1 and not self.divides_by_scale:
            self.adapter_start = starts.pop()
        if not kept:
            self.loss_weight = 0.0

    def forward(self, student: Features, teacher: Features,
                context: BatchContext) -> dict[str, Tensor]:
        """``loss_distill_{part}_s{stride}`` -> scalar, whose sum is the loss.

        ``part`` is the mechanism's class in lower case without 'Loss', and,
        where a class occurs twice, its place in ``losses``: ``cwd``, ``pkd0``.
        See :class:`Mechanism` for the arguments; each part checks them.
        """
        losses = {}
        for name, part in zip(self.names, self.losses, strict=True):
            for key, value in part(student, teacher, context).items():
                key = key.replace('loss_distill', f'loss_distill_{name}', 1)
                losses[key] = self.loss_weight * value
        return losses


def _short_names(parts: Sequence[Mechanism]) -> list[str]:
    """``cwd`` for CWDLoss; two of a class carry their places."""
    names = [type(p).__name__.removesuffix('Loss').lower() for p in parts]
    count = Counter(names)
    return [name if count[name] == 1 else f'{name}{place}'
            for place, name in enumerate(names)]
