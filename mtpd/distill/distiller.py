"""One training step of feature distillation."""
from typing import Any, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from torch import Tensor, nn

from .adapters import PyramidAdapter, in_full_precision, shared_strides
from .detector import (build_detector, by_stride, own_randomness,
                       pyramid_channels, record_output)
from .preprocessor import DistillDataPreprocessor
from .teacher import FrozenTeacher


@MODELS.register_module()
class FeatureDistiller(BaseDetector):
    """A student that also learns to match a frozen teacher's maps.

    The total loss is the student's own detection loss plus the mechanism's
    distance between adapted student maps and teacher maps. To every other
    part of mmdet it is the student: it predicts as the student does, and its
    ``state_dict`` has the student's weights under plain mmdet keys, so that
    stock mmdet loads any checkpoint of it. With a mechanism of weight 0 no
    teacher is built and training is plain mmdet's, bit for bit.

    Args:
        student: The ``model`` part of the student's config.
        teacher: ``model`` (the ``model`` part of its config), ``checkpoint``
            (file or URL) and ``name``.
        distill: The mechanism, from mmdet's ``MODELS``.
        student_checkpoint: File or URL of the weights to start from; None
            starts from the student's own initialisation.
        strides: The levels to match; None takes all that both have.
        seed: Of the adapters' and the mechanism's initial weights, which are
            drawn apart from everybody else's.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), section 3.1. Departure: the
        teacher is in eval mode throughout; in the authors' release its
        DropPath stays on.
    """

    def __init__(self, student: Mapping[str, Any], teacher: Mapping[str, Any],
                 distill: Mapping[str, Any],
                 student_checkpoint: str | None = None,
                 strides: Sequence[int] | None = None, seed: int = 0) -> None:
        detector = build_detector(student, student_checkpoint,
                                  'mtpd.student.checkpoint')
        preprocessor = detector.data_preprocessor
        with own_randomness(seed):
            mechanism = MODELS.build(ConfigDict(distill))
            guide = None
            if mechanism.loss_weight > 0:
                guide = FrozenTeacher.build(
                    teacher['model'], teacher['checkpoint'],
                    f'mtpd.teachers.{teacher["name"]}.checkpoint')
                own = pyramid_channels(detector)
                paired = shared_strides(own, guide.channels,
                                        f'teachers.{teacher["name"]}', strides)
                adapter = PyramidAdapter(own, guide.channels, paired)
                preprocessor = DistillDataPreprocessor(
                    preprocessor, teacher['model']['data_preprocessor'])
        super().__init__(data_preprocessor=preprocessor)
        self.student = detector
        self.teacher = guide
        self._starts_loaded = student_checkpoint is not None
        if guide is not None:
            self._student_strides = tuple(own)
            self.adapter = adapter
            self.mechanism = mechanism
            print_log(f'Matching {teacher["name"]}: {adapter.describe()}',
                      logger='current')
        self.register_state_dict_post_hook(_to_student_keys)
        self.register_load_state_dict_pre_hook(_from_student_keys)

    def init_weights(self) -> None:
        """The student's own initialisation, unless weights were loaded."""
        if not self._starts_loaded:
            self.student.init_weights()

    def forward(self, inputs: Tensor, data_samples: list | None = None,
                mode: str = 'tensor',
                teacher_inputs: Tensor | None = None) -> Any:
        """As any mmdet detector; ``teacher_inputs`` is used in mode 'loss'."""
        if mode == 'loss':
            return self.loss(inputs, data_samples, teacher_inputs)
        return self.student(inputs, data_samples, mode)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list,
             teacher_inputs: Tensor | None = None) -> dict[str, Any]:
        """Detection losses, one ``loss_distill_*`` per level, and
        ``distill_ratio``, distillation over detection loss, for the log.

        Args:
            batch_inputs: (N, 3, H, W), normalised for the student.
            batch_data_samples: N data samples with ground truth.
            teacher_inputs: (N, 3, H', W'), the same pictures normalised for
                the teacher.
        """
        if self.teacher is None:
            return self.student.loss(batch_inputs, batch_data_samples)
        with record_output(self.student.neck) as outputs:
            losses = self.student.loss(batch_inputs, batch_data_samples)
        if len(outputs) != 1:
            raise RuntimeError(
                f"{type(self.student).__name__}.loss ran the neck "
                f'{len(outputs)} times; one run per step is expected.')
        teacher = self.teacher(teacher_inputs, self.adapter.strides)
        maps = by_stride(outputs[0], self._student_strides)
        with torch.autocast(batch_inputs.device.type, enabled=False):
            distill = self.mechanism(
                self.adapter(maps, teacher),
                {s: in_full_precision(m) for s, m in teacher.items()})
        detection, _ = self.parse_losses(losses)
        # No "loss" in its name, so that mmengine logs it and adds it nowhere.
        ratio = sum(distill.values()).detach() / detection.detach()
        return {**losses, **distill, 'distill_ratio': ratio}

    def predict(self, batch_inputs: Tensor, batch_data_samples: list) -> list:
        """The student's predictions."""
        return self.student.predict(batch_inputs, batch_data_samples)

    def _forward(self, batch_inputs: Tensor,
                 batch_data_samples: list | None = None) -> Any:
        return self.student._forward(batch_inputs, batch_data_samples)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """The student's maps."""
        return self.student.extract_feat(batch_inputs)

    def training_parts(self) -> nn.ModuleDict:
        """What is trained beside the student, and never handed over."""
        return nn.ModuleDict({} if self.teacher is None else {
            'adapter': self.adapter, 'mechanism': self.mechanism})


# Hooks and not an overridden state_dict(): EMAHook wraps the model and asks
# with a prefix, which overriding by name was seen to break. Plain functions,
# so that a copied model does not call back into the original.

def _to_student_keys(module: nn.Module, state: dict[str, Tensor], prefix: str,
                     _metadata: dict) -> None:
    """student.X -> X; the adapters are saved in an entry of their own."""
    own = prefix + 'student.'
    for key in [k for k in state if k.startswith(prefix)]:
        value = state.pop(key)
        if key.startswith(own):
            state[prefix + key[len(own):]] = value
    metadata = getattr(state, '_metadata', {})
    for key in [k for k in metadata if (k + '.').startswith(own)]:
        metadata[(prefix + key[len(own):]).rstrip('.')] = metadata.pop(key)


def _from_student_keys(module: nn.Module, state: dict[str, Tensor],
                       prefix: str, metadata: dict, strict: bool,
                       missing: list[str], unexpected: list[str],
                       errors: list[str]) -> None:
    """X -> student.X; the other parts keep what they have."""
    for key in [k for k in state if k.startswith(prefix)]:
        state[prefix + 'student.' + key[len(prefix):]] = state.pop(key)
    for name, part in module.training_parts().items():
        for key, value in part.state_dict().items():
            state[f'{prefix}{name}.{key}'] = value
