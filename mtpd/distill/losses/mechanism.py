"""The base class of all distillation mechanisms."""
import importlib
import inspect
from dataclasses import dataclass, field
from typing import Any, Mapping

from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mtpd.config_types import as_code, closest_name

from ..pyramid import Features

RECOMMENDED = {'type': 'FeatureL2Loss', 'normalise': True,
               'loss_weight': 'auto'}
"""What a config without a mechanism gets. Its loss depends neither on the
scale of the teacher's maps nor on a weight that somebody has to find: with
the paper's and weight 1, distillation was seen at 21 times the detection loss
(docs/choosing.md)."""

BY_WORD = {'paper': {'type': 'FeatureL2Loss'}}
"""Word -> the mechanism that it stands for."""


def mechanism_config(value: Any) -> dict[str, Any]:
    """The config of a mechanism that is given by itself or by its word.

    Raises:
        ValueError: An unknown word, a list, or a config without a type.
    """
    if isinstance(value, str) and value in BY_WORD:
        value = BY_WORD[value]
    if not isinstance(value, Mapping):
        raise ValueError(meant_mechanism(value))
    if 'type' not in value:
        raise ValueError("its key 'type' is missing")
    return dict(value)


def meant_type(entry: Any) -> str | None:
    """The registered name or the word that a text or a dict probably means;
    None if none is close."""
    kind = entry.get('type') if isinstance(entry, Mapping) else entry
    return closest_name(kind, [*known_mechanisms(), *BY_WORD])


def meant_mechanism(value: Any) -> str:
    """What a text or a list in place of a mechanism probably means, in
    words."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    names = list(map(meant_type, entries))
    if not names or None in names:
        return (f'known words: {", ".join(BY_WORD)}; known types: '
                f'{", ".join(known_mechanisms())}')
    terms = [{'type': name} for name in names]
    meant: Any = {'type': 'WeightedSum', 'losses': terms}
    if len(names) == 1:
        meant = names[0] if names[0] in BY_WORD else terms[0]
    return f'did you mean {as_code(meant)}?'


@dataclass(frozen=True)
class Pairing:
    """The two detectors that a mechanism is built for.

    Attributes:
        channels: Stride -> channels of the teacher's maps at the paired
            levels; an adapted student map has as many.
        two_stage: Whether the student is a two-stage detector: published
            weights differ by this.
    """
    channels: Mapping[int, int]
    two_stage: bool = False


@dataclass(frozen=True)
class BatchContext:
    """A batch beyond its maps, for mechanisms that need more.

    Attributes:
        size: (height, width) of the student's padded batch in pixels.
        boxes: Per image (M, 4), ground truth as x1, y1, x2, y2 in pixels of
            the student's batch; M may be 0. None for images without labels.
        scores: Stride -> (student's, teacher's) classification maps, both
            (N, anchors * classes, H, W) before the sigmoid; empty unless the
            mechanism's ``uses_scores`` is set.
    """
    size: tuple[int, int]
    boxes: tuple[Tensor, ...] | None
    scores: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Mechanism(nn.Module):
    """A distance between adapted student maps and teacher maps.

    Your own mechanism derives from this class and computes the distance of two
    maps in ``level_loss``. Modules that it makes in its constructor are
    trained with the student, saved for resuming and never exported.

    Args:
        pairing: Given by the distiller, not by the config.
        loss_weight: At least 0; None takes ``published_weight``.

    Attributes:
        published_weight: The weight that its authors publish; two of them,
            for one-stage and for two-stage students, where they differ.
        adapts_channels: Whether the student's maps need the teacher's number
            of channels; without, they are only brought onto its grid.
        adapter_start: How adapters start (:class:`FeatureAdapter`) unless the
            user sets it.
        divides_by_scale: Whether it divides by the scale of the adapted map,
            so that an adapter must not start at zero.
        uses_scores: Whether it reads ``context.scores``, for which the
            teacher's dense head has to run.

    Raises:
        ValueError: A negative weight.
    """

    published_weight: float | tuple[float, float] = 1.0
    adapts_channels = True
    adapter_start = 'random'
    divides_by_scale = False
    uses_scores = False

    def __init__(self, pairing: Pairing,
                 loss_weight: float | None = None) -> None:
        super().__init__()
        if loss_weight is None:
            published = self.published_weight
            loss_weight = published[pairing.two_stage] \
                if isinstance(published, tuple) else published
        if not loss_weight >= 0:
            raise ValueError(
                f'{type(self).__name__}: loss_weight is {loss_weight}; it has '
                'to be a number of at least 0.')
        self.pairing = pairing
        self.loss_weight = loss_weight

    def forward(self, student: Features, teacher: Features,
                context: BatchContext) -> dict[str, Tensor]:
        """``loss_distill_s{stride}`` -> scalar, whose sum is the loss.

        Args:
            student: Adapted maps, stride -> (N, C, H, W), float32.
            teacher: Maps of the same strides and grids, float32.
            context: The batch beyond its maps.

        Raises:
            ValueError: Other strides, or maps of different shape.
        """
        if student.keys() != teacher.keys():
            raise ValueError(
                f'{type(self).__name__} got student maps of strides '
                f'{sorted(student)} and teacher maps of {sorted(teacher)}.')
        losses = {}
        for stride, source in student.items():
            self._check_shapes(stride, source, teacher[stride])
            losses[f'loss_distill_s{stride}'] = self.loss_weight * \
                self.level_loss(stride, source, teacher[stride], context)
        return losses

    def level_loss(self, stride: int, student: Tensor, teacher: Tensor,
                   context: BatchContext) -> Tensor:
        """The distance at one level, without ``loss_weight``: a scalar.

        Args:
            stride: Of the level, in pixels.
            student: (N, C, H, W), adapted.
            teacher: (N, C, H, W), without gradient.
            context: The batch beyond its maps.
        """
        raise NotImplementedError(
            f'{type(self).__name__} has to define level_loss(stride, student, '
            'teacher, context).')

    def _check_shapes(self, stride: int, student: Tensor,
                      teacher: Tensor) -> None:
        own, other = tuple(student.shape), tuple(teacher.shape)
        if not self.adapts_channels:
            own, other = (s[:1] + s[2:] for s in (own, other))
        if own != other:
            raise ValueError(
                f'{type(self).__name__} at stride {stride}: the adapted '
                f'student map is {tuple(student.shape)}, the teacher map '
                f'{tuple(teacher.shape)}. Adapt it first.')


def build_mechanism(config: Mapping[str, Any], pairing: Pairing) -> Mechanism:
    """A mechanism by its registered name or its import path.

    Raises:
        ValueError: An unknown type (the message lists the known ones), a class
            that is no :class:`Mechanism`, or wrong arguments.
    """
    mechanism_class(config.get('type'))
    try:
        return MODELS.build(ConfigDict(config),
                            default_args=dict(pairing=pairing))
    except (TypeError, ValueError) as error:
        raise ValueError(f'mtpd.distill: {error}') from error


def mechanism_class(kind: Any) -> type[Mechanism]:
    """The class that a config's ``type`` means.

    Args:
        kind: A registered name, an import path or a class.

    Raises:
        ValueError: There is none, or it is no :class:`Mechanism`.
    """
    cls = _class_of(kind) if isinstance(kind, str) else kind
    if inspect.isclass(cls) and issubclass(cls, Mechanism):
        return cls
    raise ValueError(
        f'mtpd.distill.type {kind!r} is '
        + ('not known' if cls is None else 'no mtpd Mechanism')
        + f'. Known: {", ".join(known_mechanisms())}; or the import path '
        'of your own class, such as my_package.my_file.MyLoss.')


def _class_of(kind: str) -> type | None:
    try:
        cls = MODELS.get(kind)
    except RuntimeError:  # an import path that leads to nothing
        cls = None
    module, _, name = kind.rpartition('.')
    if cls is None and module:
        # mmengine ignores a file that cannot be imported.
        try:
            cls = getattr(importlib.import_module(module), name, None)
        except ImportError as error:
            raise ValueError(
                f'mtpd.distill.type {kind!r}: {error}. Run the command in the '
                'folder of your file, or put it on PYTHONPATH.') from error
    return cls


def known_mechanisms() -> list[str]:
    """The registered mechanisms' names."""
    return sorted(name for name, cls in MODELS.module_dict.items()
                  if inspect.isclass(cls) and issubclass(cls, Mechanism))
