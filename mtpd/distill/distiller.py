"""One training step of feature distillation."""
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Mapping, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from torch import Tensor, nn

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.randomness import isolate_rng

from .adapters import STARTS
from .auto_weight import is_disabled
from .branch import NotFinite, TeacherBranch, make_branch
from .detector import build_detector
from .frozen import FrozenDetector
from .heads import dense_head, score_maps
from .losses import BatchContext
from .preprocessor import DistillDataPreprocessor
from .pyramid import (Features, by_stride, grid_of, pyramid_channels,
                      record_output)


@MODELS.register_module()
class FeatureDistiller(BaseDetector):
    """A student that also learns to match frozen teachers' maps.

    The total loss is the student's own detection loss plus the mechanism's
    distance between adapted student maps and teacher maps. To every other
    part of mmdet it is the student: it predicts as the student does, and its
    ``state_dict`` has the student's weights under plain mmdet keys, so that
    stock mmdet loads any checkpoint of it. With a mechanism of weight 0 no
    teacher is built and training is plain mmdet's, bit for bit.

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
            is not finite; 'skip' leaves it to :class:`NonFiniteHook` to leave
            the iteration out.
        seed: Of the adapters' and the mechanism's initial weights, which are
            drawn apart from everybody else's.

    Attributes:
        found_not_finite: What was found that is not finite, in words, until
            :class:`NonFiniteHook` has acted on it.

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
            with isolate_rng(seed):
                fitted = None if init_adapters in (None, *STARTS) \
                    else read_checkpoint(init_adapters)
                for teacher in teachers:
                    name = teacher['name']
                    whole = (built or {}).get(name)
                    branch = make_branch(
                        detector, FrozenDetector.build(
                            teacher['model'], teacher['checkpoint'],
                            f'mtpd.teachers.{name}.checkpoint',
                            **(fast_teacher or {})) if whole is None else FrozenDetector(whole, **(fast_teacher or {})),
                        name, distill, strides, adapter,
                        None if fitted else init_adapters)
                    if fitted:
                        branch.adapter.start_from(fitted[name])
                    guidances.append(branch)
            preprocessor = DistillDataPreprocessor(
                preprocessor,
                {t['name']: t['model']['data_preprocessor'] for t in teachers},
                {t['name']: t.get('scale', 1) for t in teachers})
        super().__init__(data_preprocessor=preprocessor)
        self.student = detector
        # Of TeacherBranch, which ModuleList's type cannot say.
        self.guidances: Any = nn.ModuleList(guidances)
        self.strength = 1.
        self.on_nonfinite = on_nonfinite
        self.found_not_finite: str | None = None
        self.logged: tuple[str, ...] = ()
        self._starts_loaded = student_checkpoint is not None
        self._student_strides = tuple(pyramid_channels(detector)) \
            if guidances else ()
        for branch in guidances:
            print_log(f'Matching {branch.name}: '
                      f'{branch.adapter.describe()}', logger='current')
        self.register_state_dict_post_hook(_to_student_keys)
        self.register_load_state_dict_pre_hook(_from_student_keys)

    def __getattr__(self, name: str) -> Any:
        """What the distiller has not is the student's: mmdet's hooks reach
        for ``bbox_head`` and the like (YOLOX switches its loss there)."""
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
        """What the distillation losses are multiplied by from the next step
        on; at 0 neither teacher nor mechanism runs."""
        self.strength = strength
        if self.guidances:
            self.data_preprocessor.looking = strength > 0

    def forward(self, inputs: Tensor, data_samples: list | None = None,
                mode: str = 'tensor',
                teacher_inputs: Mapping[str, Tensor] | None = None) -> Any:
        """As any mmdet detector; ``teacher_inputs`` is used in mode 'loss'."""
        if mode == 'loss':
            return self.loss(inputs, data_samples or [], teacher_inputs)
        return self.student(inputs, data_samples, mode)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list,
             teacher_inputs: Mapping[str, Tensor] | None = None
             ) -> dict[str, Any]:
        """Detection losses, one ``loss_distill_*`` per level (and, of several,
        per teacher), and ``distill_ratio``, distillation over detection loss,
        for the log.

        Args:
            batch_inputs: (N, 3, H, W), normalised for the student.
            batch_data_samples: N data samples with ground truth.
            teacher_inputs: Name -> (N, 3, H', W'), the same images
                normalised for this teacher.

        Raises:
            NotFinite: A map or a distillation loss is not finite.
        """
        if not self.guidances or self.strength == 0:
            losses = self.student.loss(batch_inputs, batch_data_samples)
            total, _ = self.parse_losses(losses)
            if self.guidances:
                idle = self._idle()
                # mmengine logs the last value of a name for ever.
                losses = {**losses,
                          **dict.fromkeys(self.logged, idle.detach()),
                          'loss_distill_idle': idle}
            return self._finite(total, losses)
        losses, maps, scores = self._student_step(batch_inputs,
                                                  batch_data_samples)
        detection, _ = self.parse_losses(losses)
        context = BatchContext(grid_of(batch_inputs), tuple(
            get_box_tensor(sample.gt_instances.bboxes)
            for sample in batch_data_samples))
        distill, targets = {}, []
        seen = teacher_inputs or {}
        for branch in self.guidances:
            own, target = branch(maps, seen[branch.name], context, scores,
                                 detection)
            targets.append(target)
            share = self.strength / len(self.guidances)
            distill.update({self._loss_name(key, branch): value * share
                            for key, value in own.items()})
        total = sum(distill.values()).detach()
        self.logged = (*distill, 'distill_ratio')
        return self._finite(detection + total, {
            **losses, **distill,
            # No "loss" in its name: mmengine logs it and adds it nowhere.
            'distill_ratio': total / detection.detach()}, maps, targets)

    def _finite(self, total: Tensor, losses: dict[str, Any],
                maps: Features | None = None,
                targets: Sequence[Features] = ()) -> dict[str, Any]:
        """The losses, if their sum is finite.

        Raises:
            NotFinite: It is not, and this process may stop by itself.
        """
        # The one time in a step that the device is waited for.
        if bool(total.detach().isfinite()):
            return losses
        said = self._not_finite(losses, maps, targets)
        if self.on_nonfinite == 'stop' and get_world_size() == 1:
            raise NotFinite(said)
        # All processes have to learn of it: by their common gradient.
        self.found_not_finite = said
        trained = next(p for p in self.student.parameters() if p.requires_grad)
        return {**losses, 'loss_not_finite': trained.sum() * torch.nan}

    def _not_finite(self, losses: Mapping[str, Any], maps: Features | None,
                    targets: Sequence[Features]) -> str:
        for branch, target in zip(self.guidances, targets, strict=False):
            said = branch.not_finite(maps, target)
            if said:
                return said
        wrong = [name for name, value in losses.items()
                 if 'loss' in name and not torch.stack(
                     list(value) if isinstance(value, (list, tuple))
                     else [value]).isfinite().all()]
        return (f'{", ".join(wrong) or "the sum of all losses"} is not finite'
                + (', although all maps are' if maps else '') + '. Lower the '
                'learning rate or mtpd.distill.loss_weight, or clip gradients '
                '(optim_wrapper.clip_grad).')

    def _student_step(self, inputs: Tensor, samples: list
                      ) -> tuple[dict[str, Any], Features, Features]:
        """The student's losses, its maps, and, where a mechanism asks for
        them, its classification maps."""
        uses_scores = any(g.mechanism.uses_scores for g in self.guidances)
        recorded: AbstractContextManager[list[Any]] = record_output(
            dense_head(self.student)) if uses_scores else nullcontext([])
        with record_output(self.student.neck) as necks, recorded as heads:
            losses = self.student.loss(inputs, samples)
        if len(necks) != 1 or len(heads) != int(uses_scores):
            raise RuntimeError(
                f'{type(self.student).__name__}.loss ran the neck '
                f'{len(necks)} times and the dense head {len(heads)} times; '
                'one run per step is expected.')
        maps = by_stride(necks[0], self._student_strides)
        scores = by_stride(score_maps(heads[0]), self._student_strides) \
            if uses_scores else {}
        return losses, maps, scores

    def _loss_name(self, key: str, branch: TeacherBranch) -> str:
        if len(self.guidances) == 1:
            return key
        return key.replace('loss_distill', f'loss_distill_{branch.name}', 1)

    def _idle(self) -> Tensor:
        # DistributedDataParallel waits for a gradient of every parameter;
        # zeros change no sum, no mean and no clipped norm.
        return sum((p.sum() * 0 for p in self.guidances.parameters()),
                   next(self.student.parameters()).new_zeros(()))

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
        return nn.ModuleDict({'guidances': self.guidances})


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
