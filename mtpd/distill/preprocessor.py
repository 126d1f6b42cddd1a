"""One raw batch, normalised once for each detector."""
import copy
import math
from fractions import Fraction
from typing import Any, Iterable, Mapping, Sequence

import torch.nn.functional as F
from mmdet.models.data_preprocessors import (BatchSyncRandomResize,
                                             DetDataPreprocessor)
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.model.base_model import BaseDataPreprocessor
from torch import Tensor, nn

from .teacher_view.scale import as_fraction


@MODELS.register_module()
class DistillDataPreprocessor(BaseDataPreprocessor):
    """Makes the student's and each teacher's batch from the same images.

    Each with its own mean, std and channel order, exactly as its own
    ``DetDataPreprocessor`` does it: undoing the student's normalisation would
    be inexact, and a teacher fed with another's normalisation is another
    teacher. The student's batch is padded so that every detector's divisor is
    met, and each teacher's batch is exactly ``scale`` times as large: grids
    line up. Where the student's batch is then resized, as YOLOX's is, the
    others are, too. Outside training it is the student's own.

    Args:
        student: The student's preprocessor; it is used, not copied.
        teachers: Name -> the teacher's preprocessor config.
        scales: Name -> size of the teacher's images over the student's;
            1 where a name is absent. Images of other scales are expected in
            the batch, made by ``TeacherView``.

    Attributes:
        divisor: While teachers take part, each side of the student's batch is
            a multiple of this.
        teachers_active: Whether the teachers take part; otherwise their
            batches are not made.

    Raises:
        TypeError: One of them is no ``DetDataPreprocessor``.
        ValueError: The student's has ``batch_augments`` that do more than
            resize, after its normalisation and beyond a teacher's reach; or
            they resize to what is no multiple of a detector's divisor.
    """

    def __init__(self, student: BaseDataPreprocessor,
                 teachers: Mapping[str, Mapping[str, Any]],
                 scales: Mapping[str, float | Fraction] | None = None
                 ) -> None:
        super().__init__()
        built = {name: MODELS.build(ConfigDict(t))
                 for name, t in teachers.items()}
        _check_kinds({"student's": student, **{
            f"teacher {name}'s": part for name, part in built.items()}})
        self.augments = nn.ModuleList(student.batch_augments or ())
        self.scales = {name: as_fraction((scales or {}).get(name, 1))
                       for name in built}
        divisor = common_divisor(student.pad_size_divisor, [
            (built[n].pad_size_divisor, scale)
            for n, scale in self.scales.items()])
        self.divisor = divisor
        for name, part in built.items():
            part.pad_size_divisor = int(divisor * self.scales[name])
        _check_augments(self.augments, divisor)
        self.student = student
        # Batches are resized behind their padding, see forward(). The divisor
        # is met only while teachers take part: predictions stay plain mmdet's.
        self.alone = _changed(student, batch_augments=None)
        self.training_student = _changed(self.alone, pad_size_divisor=divisor)
        # By position: a name may hold a dot, which a module's may not.
        self.teachers = nn.ModuleList(built.values())
        self.teachers_active = True

    def forward(self, data: dict[str, Any],
                training: bool = False) -> dict[str, Any]:
        """A raw batch -> the student's ``inputs`` and ``data_samples``, and in
        training ``teacher_inputs``, name -> (N, 3, scale * H, scale * W),
        beside them. Images without labels, under ``unlabelled`` in the raw
        batch, make a batch of their own, ``unlabelled`` with ``inputs`` and
        ``teacher_inputs``: beside a larger image the labelled ones would be
        padded, and learned from, in another way.

        Raises:
            ValueError: The batch lacks images of a teacher's scale.
        """
        if not training:
            return self.student(data, False)
        data = self.cast_data(data)
        batch = self._prepared(data, data['data_samples'])
        before = batch['inputs'].shape[-2:]
        for augment in self.augments:
            batch['inputs'], batch['data_samples'] = augment(
                batch['inputs'], batch['data_samples'])
        size = batch['inputs'].shape[-2:]
        self._resize_teachers(batch, size)
        if self.teachers_active and data.get('unlabelled'):
            unlabelled = self._prepared(data['unlabelled'], None)
            del unlabelled['data_samples']
            if size != before:
                own = self._in_proportion(unlabelled['inputs'], size, before)
                unlabelled['inputs'] = _resized(unlabelled['inputs'], own)
                self._resize_teachers(unlabelled, own)
            batch['unlabelled'] = unlabelled
        return batch

    def _resize_teachers(self, batch: dict[str, Any],
                         size: Sequence[int]) -> None:
        """Bring the teachers' images to the size of the student's. Resizing
        and normalising may be swapped: both are linear in each channel."""
        for name, images in batch['teacher_inputs'].items():
            batch['teacher_inputs'][name] = _resized(
                images, [int(side * self.scales[name]) for side in size])

    def _in_proportion(self, images: Tensor, size: Sequence[int],
                       before: Sequence[int]) -> list[int]:
        """The size to which images are resized like others from ``before`` to
        ``size``, in whole divisors."""
        return [max(1, round(side * new / old / self.divisor)) * self.divisor
                for side, new, old in zip(images.shape[-2:], size, before,
                                          strict=True)]

    def _prepared(self, data: Mapping[str, Any],
                  samples: list | None) -> dict[str, Any]:
        """The batches of student and teachers.

        Args:
            data: The raw batch, on the device.
            samples: Its data samples; None for images without labels.
        """
        student = self.training_student if self.teachers_active \
            else self.alone
        batch = student({'inputs': data['inputs'], 'data_samples': samples},
                        True)
        size = batch['inputs'].shape[-2:]
        # boxtype2tensor and the like matter to the student only: teachers get
        # images.
        teacher_inputs = {}
        if self.teachers_active:
            for (name, scale), part in zip(self.scales.items(), self.teachers,
                                           strict=True):
                teacher_size = [int(side * scale) for side in size]
                teacher_inputs[name] = self._normalised(
                    part, _images(data, name, scale), teacher_size)
        return {**batch, 'teacher_inputs': teacher_inputs}

    @staticmethod
    def _normalised(part: DetDataPreprocessor, images: list[Tensor],
                    size: list[int]) -> Tensor:
        batch = part({'inputs': images, 'data_samples': None})['inputs']
        # A scale below 1 may round away the last row, because of which the
        # student's batch is one divisor higher.
        missing = (size[1] - batch.shape[-1], size[0] - batch.shape[-2])
        return F.pad(batch, (0, missing[0], 0, missing[1]),
                     value=part.pad_value) if any(missing) else batch


def _check_kinds(parts: Mapping[str, nn.Module]) -> None:
    for side, part in parts.items():
        if not isinstance(part, DetDataPreprocessor):
            raise TypeError(
                f'The {side} data_preprocessor is a {type(part).__name__}; '
                'expected DetDataPreprocessor, whose normalisation and '
                'padding are known.')


def _check_augments(augments: Iterable[Any], divisor: int) -> None:
    for augment in augments:
        if not isinstance(augment, BatchSyncRandomResize):
            raise ValueError(
                "The student's data_preprocessor has batch_augments "
                f'({type(augment).__name__}), which the teacher would not '
                'see. Set model.data_preprocessor.batch_augments=None and '
                'augment in the pipeline.')
        if augment._size_divisor % divisor:
            raise ValueError(
                "The batch_augments of the student's data_preprocessor resize "
                f'to multiples of {augment._size_divisor}, and its teachers '
                f'need multiples of {divisor}. Set size_divisor='
                f'{math.lcm(augment._size_divisor, divisor)} there.')


def _changed(part: DetDataPreprocessor, **changes: Any) -> DetDataPreprocessor:
    """A preprocessor with other attributes; itself where it has these."""
    if all(getattr(part, key) == value for key, value in changes.items()):
        return part
    part = copy.deepcopy(part)
    for key, value in changes.items():
        setattr(part, key, value)
    return part


def _resized(images: Tensor, size: Sequence[int]) -> Tensor:
    """(N, 3, H, W), as mmdet's BatchSyncRandomResize resizes."""
    if list(images.shape[-2:]) == list(size):
        return images
    return F.interpolate(images, list(size), mode='bilinear',
                         align_corners=False)


def common_divisor(student: int,
                   teachers: list[tuple[int, Fraction]]) -> int:
    """The smallest divisor of the student's batch that also fits all teachers:
    each teacher's batch, ``scale`` times as large, is then a multiple of its
    own divisor.

    Args:
        student: The student's ``pad_size_divisor``.
        teachers: (``pad_size_divisor``, scale) of each.
    """
    # scale * size is a multiple of d where size is one of d / gcd(d, p) * q.
    return math.lcm(student, *(
        d // math.gcd(d, scale.numerator) * scale.denominator
        for d, scale in teachers))


def _images(data: Mapping[str, Any], name: str,
            scale: Fraction) -> list[Tensor]:
    if scale == 1:
        return data['inputs']
    images = (data.get('teacher_inputs') or {}).get(str(scale))
    if images is None:
        raise ValueError(
            f'mtpd.teachers.{name}.scale is {scale}, and the batch holds no '
            'images of that scale. Let the training pipeline make them '
            '(mtpd.distill.teacher_view.transform.with_teacher_view).')
    return images
