"""Where adapters start: the best linear maps from a student to its
teachers."""
import tempfile
from typing import Mapping, Sequence

from mmdet.models.detectors import BaseDetector
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mtpd.distill.branch import make_branch
from mtpd.distill.frozen import FrozenDetector
from mtpd.distill.pyramid import evaluation_mode
from mtpd.order import fit_linear_map
from mtpd.order.least_squares import POSITIONS_PER_COEFFICIENT
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.plan import Plan

from .feature_maps import FeatureMaps
from .gather import gather
from .images import Images
from .moment_store import MomentStore

FITTING_IMAGES = 1000
"""Of these even P7 (11x7 positions of 1333x800) has 300 positions for each of
257 coefficients."""


def fitted_maps(plan: Plan, student: BaseDetector, names: Sequence[str],
                pool: Mapping[str, BaseDetector] | None = None
                ) -> dict[str, dict[int, dict]]:
    """The best linear maps from a student to its teachers, for their adapters
    to start from.

    Measured on :data:`FITTING_IMAGES` training images, as costs are. A map
    from the costs' moments would not do: a later stage's student is another
    one.

    Args:
        plan: The progression.
        student: The student as it is at the start of the stage. Its mode and
            ``requires_grad`` are the same afterwards.
        names: The teachers.
        pool: Teachers that are built already, by name, so that no checkpoint
            is read twice; those that are missing are built. The named ones
            are frozen.

    Returns:
        Name -> stride -> ``weight`` (C_teacher, C_student), ``bias``
        (C_teacher), float32. Levels are left out, with a message, that have
        too few positions for a map that also holds on other images. Processes
        other than the first take part and get no level.
    """
    pool = pool or {}
    maps = {}
    with evaluation_mode(student):
        for name in names:
            spec = plan.teachers[name]
            teacher = pool[name] if name in pool else spec.build()
            maps[name] = _fit(plan, student, spec, teacher)
    return maps


def _fit(plan: Plan, student: BaseDetector, spec: DetectorSpec,
         teacher: BaseDetector) -> dict[int, dict]:
    """Stride -> weight and bias; only the first process has them."""
    branch = make_branch(student, FrozenDetector(teacher), spec.name,
                         plan.distill, plan.strides, plan.adapter)
    strides = branch.adapter.convolved_strides
    if not strides:
        return {}
    images = Images(plan.student.config, 'train',
                    [spec.scale] if spec.scale != 1 else [])
    detectors = {'student': student, spec.name: teacher}
    feature_maps = FeatureMaps(detectors, images, strides,
                               {spec.name: spec.scale}, [spec.scale])
    with tempfile.TemporaryDirectory() as folder:
        store = MomentStore(folder, {}, dict.fromkeys(detectors)) \
            if is_main_process() else None
        gather(feature_maps, store, images.spread(FITTING_IMAGES))
        if store is None:
            return {}
        moments = store.moments(spec.scale)
        maps, sparse = {}, []
        for stride in strides:
            positions = sum(moments.count(stride, fold)
                            for fold in moments.filled_folds(stride))
            coefficients = feature_maps.channels[stride]['student'] + 1
            if positions < POSITIONS_PER_COEFFICIENT * coefficients:
                sparse.append(stride)
                continue
            fit = fit_linear_map(moments, stride, 'student', spec.name)
            maps[stride] = {'weight': fit.weight.float(),
                            'bias': fit.bias.float()}
    if sparse:
        print_log(
            f'{spec.field}: the adapters at strides {sparse} do not start '
            'fitted: the training images have fewer than '
            f'{POSITIONS_PER_COEFFICIENT} positions for each coefficient, so '
            'a map fitted to them would not hold on other images.',
            logger='current')
    return maps
