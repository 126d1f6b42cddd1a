"""The search for the order of the teachers: costs, APs, selection, result."""
import logging
from dataclasses import replace
from fractions import Fraction
from typing import Any, Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.logging import print_log

from mtpd.distill.pyramid import evaluation_mode
from mtpd.order import AdaptationCosts, backward_greedy_selection
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan
from mtpd.plan.pool import common_strides
from mtpd.plan.work_dir import WorkDir
from mtpd.processes import on_main
from mtpd.provenance import command, versions

from .exact import check_costs, measure_exactly
from .feature_maps import FINE_SHARE, FINE_STRIDE, FeatureMaps
from .found_order import FoundOrder, saved_order
from .gather import PRECISION, Progress
from .images import FOLDS, Images
from .fingerprints import fingerprint, weights_hash
from .measure import measured_latencies, pool_aps


def find_order(plan: Plan, pool: Mapping[str, BaseDetector],
               progress: Progress = lambda *_: None) -> FoundOrder:
    """Measure APs and adaptation costs, and choose the order.

    A result on disk (``work_dir/order/order.json``) that belongs to the same
    checkpoints, images and settings is used again: only the selection is
    repeated, with the present ``max_teachers``. The moments beside it are
    reused where checkpoint, images and settings match. For a new or changed
    detector, or for more images, only what is missing is measured.

    Args:
        plan: With ``order`` None.
        pool: From ``build_pool``. The detectors' modes and ``requires_grad``
            are the same afterwards.
        progress: Called with the number of images done and of all images.

    Raises:
        PlanError: No shared level, no AP by which the teachers can be
            ordered, maps that are not finite or do not vary, or another run
            that measures in the same place.
    """
    work_dir = WorkDir(plan.work_dir)
    with evaluation_mode(*pool.values()):
        found = _measure_and_choose(plan, pool, work_dir, progress)
        try:
            found = replace(found, latencies=measured_latencies(
                plan.specs, pool, plan.student.config, work_dir.measured))
        # Whatever a validation pipeline may raise: the order does not need it.
        except Exception as error:
            print_log(f'Latencies were not measured ({type(error).__name__}: '
                      f'{error}).', logger='current', level=logging.WARNING)
    on_main(lambda: found.write(work_dir.order_file))
    return found


def _measure_and_choose(plan: Plan, pool: Mapping[str, BaseDetector],
                        work_dir: WorkDir, progress: Progress) -> FoundOrder:
    """The order without latencies."""
    scales = {name: spec.scale for name, spec in plan.specs.items()
              if name in pool}
    images = Images(plan.student.config, plan.costs.split,
                    sorted(set(scales.values()) - {Fraction(1)}),
                    plan.unlabelled)
    limit = plan.costs.sequential
    feature_maps = FeatureMaps(
        pool, images, common_strides(plan, pool), scales,
        disk_limit=None if limit is None else int(limit * 2 ** 30),
        folder=work_dir.order_folder)
    belongs_to = _cost_identity(plan, pool, feature_maps)
    saved = on_main(lambda: saved_order(work_dir.order_file, belongs_to))
    aps, student_ap = pool_aps(plan, pool, work_dir.measured)

    files = {name: {'config': spec.config.filename,
                    'checkpoint': spec.checkpoint}
             for name, spec in plan.specs.items()}
    made_with = {
        'command': command(), 'detectors': files,
        'costs': plan.costs.to_json(), 'strides': plan.strides,
        'max_teachers': plan.max_teachers, 'versions': versions()}

    def choose(costs: AdaptationCosts, image_count: int) -> FoundOrder:
        order = backward_greedy_selection(costs.cost, 'student', aps,
                                          plan.max_teachers)
        return FoundOrder(
            order, costs, aps, belongs_to, plan.max_teachers,
            plan.costs.certainty, student_ap,
            # The key of earlier versions, see FoundOrder.images.
            made_with={**made_with, 'pictures': image_count})

    found = None if saved is None else choose(saved.costs, saved.images)
    if found is not None and found.has_enough_images(plan.costs.images,
                                                     len(images)):
        print_log(f'Costs taken from {work_dir.order_file}, of {found.images} '
                  'images', logger='current')
    else:
        try:
            found = measure_exactly(plan, feature_maps, belongs_to, choose,
                                    progress)
        except PlanError:
            raise
        except ValueError as error:  # maps that are not finite, few images
            raise PlanError([str(error)]) from error
    check_costs(found.costs)
    return found


def _cost_identity(plan: Plan, pool: Mapping[str, BaseDetector],
                   feature_maps: FeatureMaps) -> dict[str, Any]:
    """What the costs depend on.

    The keys and values of earlier versions are kept: results and moments on
    disk are compared with them, and moments are found by a hash of some.
    """
    strides = list(feature_maps.channels)
    has_fine = min(strides) <= FINE_STRIDE
    data = {
        'split': plan.costs.split,
        'pictures': feature_maps.images.fingerprint(),
        'padding': feature_maps.divisor, 'folds': FOLDS,
        'precision': PRECISION,
        'stride4_share': FINE_SHARE if has_fine else None,
        'strides': strides, 'grids': list(map(str, feature_maps.grids))}
    detectors = {}
    for name, detector in pool.items():
        spec = plan.specs[name]
        # The head is not among them: it does not change the maps.
        parts = {part: spec.model.get(part) for part in (
            'type', 'backbone', 'neck', 'data_preprocessor')}
        detectors[name] = {
            'checkpoint': spec.hash() or weights_hash(detector),
            'maps': fingerprint(parts), 'scale': str(spec.scale)}
    return {'data': data, 'detectors': detectors, 'estimator': 'exact'}
