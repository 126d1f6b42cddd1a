"""A distillation weight that is measured, not set."""
import math
from typing import Any, Mapping, Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

SHARE, SHARE_OF_INHERITED, SHARE_WITH_UNLABELLED = .5, 1., 4.
"""The share unless it is set, that of a student which inherits neck or head,
and that of a progression with images without labels. Where all images have
labels, an early student lost with 1 and a trained one gained less than with
0.5; with a tenth of the labels and all images, 4 ended 1 AP above 1
(docs/choosing.md)."""
FOLLOW_EVERY = 10
"""Iterations between two comparisons after the calibration."""
FOLLOWED = 0.2
"""How far the factor moves at each, on a logarithmic scale."""


class NoGradient(RuntimeError):
    """No gradient of the distillation reaches the student."""


class AutoWeight(nn.Module):
    """Scales a mechanism so that its gradient is a chosen share of the task's.

    For the first iterations distillation trains adapters and mechanism alone,
    and none of its gradient reaches the student. In their second half, the
    gradients of detection and distillation loss at the student's maps are
    compared: the factor is ``share`` times the ratio of their norms, median
    of the iterations. Each level of the mechanism counts as its median level
    does; otherwise maps of one position, whose gradients can be the largest
    by far, would count alone.
    From then on it follows the gradients: every tenth iteration compares them
    again, and the factor moves a fifth of the way, on a logarithmic scale.
    It is the same in all processes, and checkpoints hold it.

    Args:
        share: Norm of the distillation gradient over that of the detection
            gradient, above 0, were there labelled images alone. Beside them,
            images without labels take their part of the mean. Unless it is
            set, it is 1 with ``mtpd.inherit`` of neck or head, and 4 with
            ``mtpd.unlabelled``.
        iterations: Length of the calibration, at least 2. It is shortened to
            half of the iterations in which a stage distils, and a stage of
            fewer than 3 distils nothing.

    Attributes:
        factor: By which the mechanism's loss is multiplied; nan until found.
        iterations: Length of the calibration.

    Raises:
        ValueError: A share or a number of iterations below these.
    """

    factor: Tensor
    ratios: Tensor
    seen: Tensor

    def __init__(self, share: float = SHARE, iterations: int = 50) -> None:
        super().__init__()
        if isinstance(share, bool) or not isinstance(share, (int, float)) \
                or not 0 < share < math.inf:
            raise ValueError(
                f"mtpd.distill.loss_weight: the automatic weight's share is "
                f'{share!r}; it has to be a number above 0.')
        if not isinstance(iterations, int) or iterations < 2:
            raise ValueError(
                "mtpd.distill.loss_weight: the automatic weight's iterations "
                f'are {iterations!r}; they have to be an integer of at least '
                '2.')
        self.share = share
        self.iterations = iterations
        self.register_buffer('factor', torch.tensor(torch.nan))
        self.register_buffer('ratios', torch.full((iterations,), torch.nan))
        self.register_buffer('seen', torch.tensor(0))
        self._found = False
        self._count: int | None = None

    @property
    def found(self) -> bool:
        """Whether there is a factor."""
        # Read from the device until found, so a resumed buffer counts too.
        self._found = self._found or not bool(self.factor.isnan())
        return self._found

    def fit_into(self, available: int) -> None:
        """Shorten the calibration to half of a stage that is short.

        Args:
            available: The number of iterations that could distil.
        """
        self.iterations = min(self.iterations, max(2, available // 2))

    def follow(self, detection: Tensor, distillation: Tensor,
               task_maps: Sequence[Tensor], maps: Sequence[Tensor]) -> None:
        """Move the factor towards the present ratio, every tenth time.

        Args:
            detection: The detection loss, a scalar.
            distillation: The mechanism's loss, a scalar, without the factor.
            task_maps: As for :meth:`look`.
            maps: The same maps as the distillation loss reads them.
        """
        # Counted beside the buffer, which may be on a GPU: no wait per step.
        count = int(self.seen) if self._count is None else self._count
        if count % FOLLOW_EVERY == 0:
            ratio = _ratio(detection, distillation, task_maps, maps)
            # One of them can be without gradient, in a batch without boxes.
            if ratio.isfinite() and ratio > 0:
                step = (self.share * ratio / self.factor) ** FOLLOWED
                self.factor.mul_(step)
        self.seen += 1
        self._count = count + 1

    def look(self, detection: Tensor, distillation: Tensor,
             task_maps: Sequence[Tensor], maps: Sequence[Tensor]) -> bool:
        """Compare the two gradients of one iteration.

        Args:
            detection: The detection loss, a scalar.
            distillation: The mechanism's loss, a scalar.
            task_maps: The student's maps that the detection loss depends on.
            maps: The same maps as leaves that the distillation loss depends
                on.

        Returns:
            Whether this iteration has found the factor.

        Raises:
            NoGradient: The distillation gradient was 0 or not finite in
                every compared iteration.
        """
        first = self.iterations // 2
        if self.seen >= first:
            self.ratios[self.seen] = _ratio(detection, distillation,
                                            task_maps, maps)
        self.seen += 1
        if self.seen < self.iterations:
            return False
        usable = self.ratios[self.ratios.isfinite() & (self.ratios > 0)]
        if not len(usable):
            compared = self.ratios[first:self.iterations].tolist()
            raise NoGradient(
                "loss_weight='auto' found no usable gradient at the student's "
                f'maps in its first {self.iterations} iterations (ratios of '
                f'detection to distillation: {compared}; '
                'inf where the mechanism has none, 0 or nan where one is not '
                'finite). Set a number as mtpd.distill.loss_weight.')
        self.factor.copy_(self.share * usable.median())
        return True


def _ratio(detection: Tensor, distillation: Tensor,
           task_maps: Sequence[Tensor], maps: Sequence[Tensor]) -> Tensor:
    """The norm of the detection loss's gradient over the other's, at the maps
    that the mechanism uses, over all processes; nan where it uses none.

    Of the mechanism's, every map counts as the median one does. Maps that it
    leaves alone, and frozen ones, do not count at all.
    """
    learn = [pair for pair in zip(task_maps, maps, strict=True)
             if all(one.requires_grad for one in pair)]
    if not learn:  # which is so in all processes or in none
        return detection.new_tensor(torch.nan)
    squares = torch.stack([
        _squares(_gradients(loss, those), detection)
        for loss, those in zip((detection, distillation),
                               zip(*learn, strict=True), strict=True)])
    all_reduce(squares, 'mean')
    if bool(squares[1].any()):
        squares = squares[:, squares[1] != 0]
    return (squares[0].mean() / squares[1].median()).sqrt()


def _gradients(loss: Tensor, maps: Sequence[Tensor]) -> list[Tensor | None]:
    """Of a loss with respect to maps, in float32; None where it has none."""
    found: list[Tensor | None] = [None] * len(maps)
    # Scaled up, because half-precision gradients of a mean over large maps
    # would vanish; unscaled where that overflows.
    for scale in (2. ** 16, 1.) if loss.requires_grad else ():
        found = [g if g is None else g.float() / scale
                 for g in torch.autograd.grad(
                     loss * scale, maps, retain_graph=True, allow_unused=True)]
        if all(g is None or bool(g.isfinite().all()) for g in found):
            break
    return found


def _squares(gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """The squared norm of each; 0 where there is none."""
    zero = like.new_zeros((), dtype=torch.float32)
    return torch.stack([zero if g is None else g.square().sum()
                        for g in gradients])


def split_auto(distill: Mapping[str, Any]
               ) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A mechanism's config without an automatic weight, and that weight's
    settings; None where the weight is a number or the published one.

    ``loss_weight='auto'`` and ``loss_weight=dict(share=..., iterations=...)``
    ask for it.

    Raises:
        ValueError: Another string, or a term of a sum that asks for one.
    """
    weight = distill.get('loss_weight')
    terms = [t for t in distill.get('losses') or () if isinstance(t, Mapping)]
    for term in terms:
        if isinstance(term.get('loss_weight'), (str, Mapping)):
            raise ValueError(
                'mtpd.distill.losses: the automatic weight is that of the '
                "whole sum. Set mtpd.distill.loss_weight='auto' and numbers "
                'in the terms.')
    if isinstance(weight, str) and weight != 'auto':
        raise ValueError(f'mtpd.distill.loss_weight is {weight!r}; it has to '
                         "be a number, 'auto' or dict(share=...).")
    if weight != 'auto' and not isinstance(weight, Mapping):
        return dict(distill), None
    settings = {} if weight == 'auto' else dict(weight)
    unknown = set(settings) - {'share', 'iterations'}
    if unknown:
        raise ValueError(f'mtpd.distill.loss_weight has {sorted(unknown)}; '
                         'known are share and iterations.')
    mechanism = dict(distill)
    del mechanism['loss_weight']
    return mechanism, settings


def with_share(distill: Mapping[str, Any], share: float) -> dict[str, Any]:
    """A mechanism's config; where its weight is automatic, with its share.

    Args:
        distill: The mechanism's config.
        share: Where it has none of its own.
    """
    mechanism, settings = split_auto(distill)
    if settings is None:
        return mechanism
    return {**mechanism, 'loss_weight': {'share': share, **settings}}


def default_share(unlabelled: bool, inherited: bool) -> float:
    """The automatic weight's share where none is set.

    Args:
        unlabelled: Whether there are images without labels.
        inherited: Whether the student has the teacher's neck or head.
    """
    if unlabelled:
        return SHARE_WITH_UNLABELLED
    return SHARE_OF_INHERITED if inherited else SHARE


def is_disabled(distill: Mapping[str, Any]) -> bool:
    """Whether a mechanism's config has weight 0, so nothing is distilled."""
    if distill.get('losses'):
        return distill.get('loss_weight') == 0 or all(
            isinstance(term, Mapping) and is_disabled(term)
            for term in distill['losses'])
    return distill.get('loss_weight') == 0
