"""One raw batch, two normalised ones."""
import copy
import math
from typing import Any

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.model.base_model import BaseDataPreprocessor


@MODELS.register_module()
class DistillDataPreprocessor(BaseDataPreprocessor):
    """Makes the student's and the teacher's batch from the same raw pictures.

    Each with its own mean, std and channel order, exactly as its own
    ``DetDataPreprocessor`` does it: undoing the student's normalisation would
    be inexact, and a teacher fed with another's normalisation is another
    teacher. Both batches are padded to a multiple of both divisors, so that
    their grids line up. Outside training it is the student's own.

    Args:
        student: The student's preprocessor; it is used, not copied.
        teacher: The teacher's preprocessor config.

    Raises:
        TypeError: One of them is no ``DetDataPreprocessor``.
        ValueError: The student's has ``batch_augments``, which change the
            student's batch after its normalisation, beyond the teacher's
            reach.
    """

    def __init__(self, student: BaseDataPreprocessor,
                 teacher: dict[str, Any]) -> None:
        super().__init__()
        built = MODELS.build(ConfigDict(teacher))
        for side, part in (('student', student), ('teacher', built)):
            if not isinstance(part, DetDataPreprocessor):
                raise TypeError(
                    f"The {side}'s data_preprocessor is a "
                    f'{type(part).__name__}; expected DetDataPreprocessor, '
                    'whose normalisation and padding are known.')
        if student.batch_augments is not None:
            raise ValueError(
                "The student's data_preprocessor has batch_augments "
                f'({[type(a).__name__ for a in student.batch_augments]}), '
                'which the teacher would not see. Set '
                'model.data_preprocessor.batch_augments=None and augment in '
                'the pipeline.')
        divisor = math.lcm(student.pad_size_divisor, built.pad_size_divisor)
        built.pad_size_divisor = divisor
        training = student
        if divisor != student.pad_size_divisor:
            # Only while a teacher looks on: predictions stay plain mmdet's.
            training = copy.deepcopy(student)
            training.pad_size_divisor = divisor
        self.student = student
        self.training_student = training
        self.teacher = built

    def forward(self, data: dict[str, Any],
                training: bool = False) -> dict[str, Any]:
        """A raw batch -> the student's ``inputs`` and ``data_samples``, and in
        training ``teacher_inputs`` (N, 3, H, W) beside them."""
        if not training:
            return self.student(data, False)
        data = self.cast_data(data)
        batch = self.training_student(data, True)
        # boxtype2tensor and the like are the student's business: the teacher
        # gets pictures only.
        pictures = self.teacher({'inputs': data['inputs'],
                                 'data_samples': None})
        return {**batch, 'teacher_inputs': pictures['inputs']}
