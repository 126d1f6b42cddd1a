"""How adapters start: the best linear maps from a student to its teachers."""
import tempfile
from typing import Mapping, Sequence

from mmdet.models.detectors import BaseDetector
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mtpd.distill.branch import make_branch
from mtpd.distill.frozen import FrozenDetector
from mtpd.distill.pyramid import pyramid_channels
from mtpd.order.least_squares import POSITIONS_PER_COEFFICIENT, fit_linear_map
from mtpd.plan.plan import Plan

from .feature_maps import FeatureMaps
from .gather import gather
from .images import Images
from .moment_store import MomentStore

FITTING_IMAGES = 1000
"""Over these even P7 (11x7 positions of 1333x800) gives 300 positions for
each of 257 coefficients."""


def fitted_maps(plan: Plan, student: BaseDetector,
                names: tuple[str, ...], built: Mapping[str, BaseDetector]) -> dict[str, dict[int, dict]]:
    """The best linear maps from a student to teachers, as adapters start.

    Measured on :data:`FITTING_IMAGES` training images, as costs are; a
    later stage's student is not the one that the costs are of.

    Args:
        plan: The progression.
        student: As it is now.
        names: The teachers.

    Returns:
        Name -> stride -> ``weight`` (C_teacher, C_student), ``bias``
        (C_teacher), float32. Levels with too few positions to fit a map that
        holds on other images are left out and said. Processes other than
        the first take part and get no level.
    """
    maps: dict[str, dict[int, dict]] = {}
    own = pyramid_channels(student)
    for name in names:
        spec = plan.teachers[name]
        teacher = FrozenDetector.build(spec.model, spec.weights,
                                       f'{spec.field}.checkpoint')
        strides = make_branch(
            student, teacher, name, plan.distill, plan.strides,
            plan.adapter).adapter.convolved_strides
        if not strides:
            maps[name] = {}
            continue
        images = Images(plan.student.config, 'train',
                        [spec.scale] if spec.scale != 1 else [])
        feature_maps = FeatureMaps(
            {'student': student, name: teacher.detector}, images, strides,
            {name: spec.scale}, [spec.scale], 0.25)
        maps[name] = _fitted(feature_maps, name,
                             images.spread(FITTING_IMAGES), own, spec.field)
    return maps


def _fitted(feature_maps: FeatureMaps, name: str, images: Sequence[int],
            own: Mapping[int, int], field: str) -> dict[int, dict]:
    """Stride -> weight and bias; only the first process has them."""
    grid, strides = feature_maps.grids[0], tuple(feature_maps.channels)
    with tempfile.TemporaryDirectory() as folder:
        store = MomentStore(folder, {}, dict.fromkeys(
            ('student', name))) if is_main_process() else None
        gather(feature_maps, store, images)
        if store is None:
            return {}
        moments = store.moments(grid)
        enough = [s for s in strides if sum(
            moments.count(s, fold) for fold in moments.filled_folds(s))
            >= POSITIONS_PER_COEFFICIENT * (own[s] + 1)]
        if len(enough) < len(strides):
            print_log(
                f'{field}: the adapters at strides '
                f'{sorted(set(strides) - set(enough))} do not start fitted: '
                'the training images have fewer than '
                f'{POSITIONS_PER_COEFFICIENT} positions for each coefficient '
                'there, and a map fitted to them would not hold on others.',
                logger='current')
        return {s: {key: value.float() for key, value in fit_linear_map(
            moments, s, 'student', name)._asdict().items()} for s in enough}
