"""The detector that wraps student and teachers, and its training step."""
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmengine.logging import print_log
from torch import Tensor, nn

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.randomness import derived_seed, isolate_rng

from .adapters import STARTS
from .auto_weight import is_disabled
from .branch import ImageGroup, SingleValue, TeacherBranch, make_branch
from .detector import build_detector
from .frozen import FrozenDetector
from .heads import dense_head, score_maps
from .hooks.nonfinite import check_finite
from .preprocessor import DistillDataPreprocessor
from .pyramid import (Features, batch_norms, by_stride, evaluation_mode,
                      grid_of, pyramid_channels, record_output)


@MODELS.register_module()
class FeatureDistiller(BaseDetector):
    """A student that also learns to match frozen teachers' maps.

    The total loss is the student's own detection loss plus the mechanism's
    distance between adapted student maps and teacher maps. The rest of mmdet
    sees the student: the distiller predicts as the student does, and its
    ``state_dict`` has the student's weights under plain mmdet keys, so stock
    mmdet loads any checkpoint of it. With a mechanism of weight 0 no teacher
    is built and training is plain mmdet's, bit for bit.

    Args:
        student: The ``model`` part of the student's config.
        teachers: For each ``name``, ``model`` (the ``model`` part of its
            config), ``checkpoint`` (file or URL) and ``scale`` (size of its
            images over the student's; 1 where absent). A progression's stage
            has one; the losses of several are averaged, which is the paper's
            ensemble.
        distill: The mechanism, from mmdet's ``MODELS`` or by import path;
            ``loss_weight`` may be 'auto', see :class:`AutoWeight`.
        student_checkpoint: File or URL of the weights to start from; None
            starts from the student's own initialisation.
        strides: The levels to match; None takes all that both have.
        adapter: See :class:`FeatureAdapter`.
        init_adapters: How adapters start, see :class:`FeatureAdapter`, or a
            file of fitted maps, name -> stride -> ``weight`` (C_t, C_s) and
            ``bias`` (C_t); None is the mechanism's choice.
        fast_teacher: Options of :class:`FrozenDetector`.
        on_nonfinite: 'stop' raises :class:`NotFinite` at a loss or a map that
            is not finite; 'skip' lets :class:`NonFiniteHook` leave the
            iteration out.
        seed: Seeds the initial weights of adapters and mechanism. Drawing
            them changes no other random number.
        built: Name -> a teacher that is built already, with its weights
            loaded, from the ``model`` of ``teachers``; it is used as it is,
            switched to eval mode and frozen. A teacher that is missing here is
            built and loaded. No part of a dumped config: it is given by
            ``MODELS.build(cfg.model, default_args=dict(built=...))``.

    Attributes:
        found_not_finite: Describes a loss or a map that is not finite, from
            :func:`check_finite` until :class:`NonFiniteHook` has acted on it.
        unlabelled_norm: How images without labels pass the student's batch
            norms: 'train', by statistics of their own, which the running
            statistics follow, or 'running', by these, unchanged.

    Raises:
        ValueError: A student and a teacher that cannot be paired.

    Source:
        Cao et al., ICML 2023 (arXiv 2308.09105), section 3.1. Departure: the
        teacher is in eval mode throughout; in the authors' release its
        DropPath stays on.
    """

    def __init__(self, student: Mapping[str, Any],
                 teachers: Sequence[Mapping[str, Any]],
                 distill: Mapping[str, Any],
                 student_checkpoint: str | None = None,
                 strides: Sequence[int] | None = None,
                 adapter: str = 'auto', init_adapters: str | None = None,
                 fast_teacher: Mapping[str, Any] | None = None,
                 on_nonfinite: str = 'stop', seed: int = 0,
                 built: Mapping[str, BaseDetector] | None = None) -> None:
        detector = build_detector(student, student_checkpoint,
                                  'mtpd.student.checkpoint')
        preprocessor = detector.data_preprocessor
        guidances: list[TeacherBranch] = []
        if not is_disabled(distill):
            fitted = None
            if init_adapters not in (None, *STARTS):
                fitted = read_checkpoint(init_adapters)
            for index, teacher in enumerate(teachers):
                name = teacher['name']
                with isolate_rng(seed):
                    frozen = _frozen(teacher, built, fast_teacher)
                # Building a teacher draws too, and it may be built already.
                with isolate_rng(derived_seed(seed, index)):
                    branch = make_branch(
                        detector, frozen, name, distill, strides, adapter,
                        None if fitted else init_adapters)
                if fitted:
                    branch.adapter.start_from(fitted[name])
                if len(teachers) > 1:
                    branch.label = f'_{name}'
                guidances.append(branch)
            preprocessor = DistillDataPreprocessor(
                preprocessor,
                {t['name']: t['model']['data_preprocessor'] for t in teachers},
                {t['name']: t.get('scale', 1) for t in teachers})
        super().__init__(data_preprocessor=preprocessor)
        self.student = detector
        # TeacherBranch modules; ModuleList has no type for that. Checkpoints
        # hold this name in their keys.
        self.guidances: Any = nn.ModuleList(guidances)
        self.strength = 1.
        self.on_nonfinite = on_nonfinite
        self.found_not_finite: str | None = None
        self.logged: tuple[str, ...] = ()
        self.unlabelled_norm = 'train'
        self._starts_loaded = student_checkpoint is not None
        self._student_strides = tuple(pyramid_channels(detector)) \
            if guidances else ()
        self._uses_scores = any(b.mechanism.uses_scores for b in guidances)
        for branch in guidances:
            print_log(f'Matching {branch.name}: '
                      f'{branch.adapter.describe()}', logger='current')
        self.register_state_dict_post_hook(_to_student_keys)
        self.register_load_state_dict_pre_hook(_from_student_keys)

    def __getattr__(self, name: str) -> Any:
        """Missing attributes are looked up on the student: mmdet's hooks use
        ``bbox_head`` and others (YOLOX switches its loss there)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ('student', 'guidances'):  # not made yet
                raise
            return getattr(self.student, name)

    def init_weights(self) -> None:
        """The student's own initialisation, unless weights were loaded."""
        if not self._starts_loaded:
            self.student.init_weights()

    def set_strength(self, strength: float) -> None:
        """Multiply the distillation losses by ``strength`` from the next step
        on; at 0 neither teacher nor mechanism runs."""
        self.strength = strength
        if self.guidances:
            self.data_preprocessor.teachers_active = strength > 0

    def forward(self, inputs: Tensor, data_samples: list | None = None,
                mode: str = 'tensor',
                teacher_inputs: Mapping[str, Tensor] | None = None,
                unlabelled: Mapping[str, Any] | None = None) -> Any:
        """As any mmdet detector; ``teacher_inputs`` and ``unlabelled`` are
        used in mode 'loss'."""
        if mode == 'loss':
            more = [] if unlabelled is None else [unlabelled]
            return self.loss(inputs, data_samples or [], teacher_inputs, *more)
        return self.student(inputs, data_samples, mode)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list,
             teacher_inputs: Mapping[str, Tensor] | None = None,
             unlabelled: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Detection losses, one ``loss_distill_*`` per level (and, of several,
        per teacher), and ``distill_ratio``, distillation over detection loss,
        for the log.

        Args:
            batch_inputs: (N, 3, H, W), normalised for the student.
            batch_data_samples: N data samples with ground truth.
            teacher_inputs: Name -> (N, 3, H', W'), the same images
                normalised for this teacher.
            unlabelled: ``inputs`` and ``teacher_inputs`` of images without
                labels, or None. The distillation loss is the mean over all
                images; the detection loss is what it is without them.

        Raises:
            NotFinite: A map or a distillation loss is not finite.
        """
        if not self.guidances or self.strength == 0:
            losses = self.student.loss(batch_inputs, batch_data_samples)
            total, _ = self.parse_losses(losses)
            return check_finite(self, total, {**losses, **self._idle_losses()})
        losses, maps, scores = self._student_step(batch_inputs,
                                                  batch_data_samples)
        detection, _ = self.parse_losses(losses)
        boxes = [get_box_tensor(sample.gt_instances.bboxes)
                 for sample in batch_data_samples]
        groups = [ImageGroup(maps, teacher_inputs or {},
                             grid_of(batch_inputs), tuple(boxes), scores)]
        if unlabelled:
            groups.append(self._unlabelled_group(**unlabelled))
        weight = self.strength / len(self.guidances)
        distill, targets = {}, []
        for branch in self.guidances:
            branch_losses, branch_targets = branch(groups, detection)
            for name, value in branch_losses.items():
                distill[branch.loss_name(name)] = value * weight
            targets.append(branch_targets)
        total = sum(distill.values()).detach()
        # No "loss" in the ratio's name: mmengine logs it and adds it nowhere.
        ratio = {'distill_ratio': total / detection.detach()}
        self.logged = (*distill, *ratio)
        return check_finite(self, detection + total,
                            {**losses, **distill, **ratio}, groups, targets)

    def _unlabelled_group(self, inputs: Tensor,
                          teacher_inputs: Mapping[str, Tensor]) -> ImageGroup:
        """Images without labels after the student's backbone and neck, and
        after its head where a mechanism compares scores.

        They pass after the labelled ones and by themselves, so that these
        meet the same batch norms and the same random numbers as without
        them.

        Raises:
            SingleValue: A batch norm in train mode gets one value per channel.
        """
        branches: list[TeacherBranch] = list(self.guidances)
        # While weights are looked for, no gradient reaches the student.
        teaches = any(branch.auto is None or branch.auto.found
                      for branch in branches)
        norms = nullcontext() if self.unlabelled_norm == 'train' \
            else evaluation_mode(*batch_norms(self.student))
        try:
            with norms, torch.set_grad_enabled(teaches):
                outputs = self.student.extract_feat(inputs)
                scores = score_maps(dense_head(self.student)(outputs)) \
                    if self._uses_scores else None
        except ValueError as error:
            if 'more than 1 value per channel' not in str(error):
                raise
            raise SingleValue(
                f'mtpd.unlabelled: at {inputs.shape[-1]}x{inputs.shape[-2]} '
                'pixels, a batch norm of the student gets one position of one '
                'image, which has no variance. Set mtpd.unlabelled.batch_size '
                "to 2 or more, or mtpd.unlabelled.batch_norm='running'.") \
                from error
        return ImageGroup(
            by_stride(outputs, self._student_strides), teacher_inputs,
            grid_of(inputs), None, {} if scores is None
            else by_stride(scores, self._student_strides))

    def _student_step(self, inputs: Tensor, samples: list
                      ) -> tuple[dict[str, Any], Features, Features]:
        """The student's losses, its maps, and, where a mechanism asks for
        them, its classification maps."""
        recorded: AbstractContextManager[list[Any]] = nullcontext([])
        if self._uses_scores:
            recorded = record_output(dense_head(self.student))
        with record_output(self.student.neck) as necks, recorded as heads:
            losses = self.student.loss(inputs, samples)
        if len(necks) != 1 or len(heads) != int(self._uses_scores):
            raise RuntimeError(
                f'{type(self.student).__name__}.loss ran the neck '
                f'{len(necks)} times and the dense head {len(heads)} times; '
                'one run per step is expected. Choose a detector whose loss '
                'runs each of them once.')
        maps = by_stride(necks[0], self._student_strides)
        scores = by_stride(score_maps(heads[0]), self._student_strides) \
            if heads else {}
        return losses, maps, scores

    def _idle_losses(self) -> dict[str, Tensor]:
        """Zeros for the time in which no teacher runs."""
        if not self.guidances:
            return {}
        # DistributedDataParallel waits for a gradient of every parameter;
        # zeros change no sum, no mean and no clipped norm.
        idle = sum((p.sum() * 0 for p in self.guidances.parameters()),
                   next(self.student.parameters()).new_zeros(()))
        # Without these, mmengine would go on logging their last values.
        return {**dict.fromkeys(self.logged, idle.detach()),
                'loss_distill_idle': idle}

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
        """The parts that are trained beside the student; no export has
        them."""
        return nn.ModuleDict({'guidances': self.guidances})


def _frozen(teacher: Mapping[str, Any],
            built: Mapping[str, BaseDetector] | None,
            options: Mapping[str, Any] | None) -> FrozenDetector:
    """A teacher, from ``built`` if it is there, else from its config."""
    name = teacher['name']
    if built is not None and name in built:
        return FrozenDetector(built[name], **(options or {}))
    return FrozenDetector.build(
        teacher['model'], teacher['checkpoint'],
        f'mtpd.teachers.{name}.checkpoint', **(options or {}))


# Hooks and not an overridden state_dict(): EMAHook wraps the model and calls
# it with a prefix, which an override by name was seen to break. They are plain
# functions, so that a copied model does not call the original.

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


def _from_student_keys(module: FeatureDistiller, state: dict[str, Tensor],
                       prefix: str, metadata: dict, strict: bool,
                       missing: list[str], unexpected: list[str],
                       errors: list[str]) -> None:
    """X -> student.X; the other parts keep what they have."""
    for key in [k for k in state if k.startswith(prefix)]:
        state[prefix + 'student.' + key[len(prefix):]] = state.pop(key)
    for name, part in module.training_parts().items():
        for key, value in part.state_dict().items():
            state[f'{prefix}{name}.{key}'] = value
