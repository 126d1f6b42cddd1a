"""Kernel alignment of two detectors' maps, from moments."""
from statistics import fmean
from typing import Mapping

import torch

from mtpd.order.costs import AdaptationCosts
from mtpd.order.moments import FeatureMoments
from mtpd.plan.detectors import DetectorSpec
from mtpd.search.moment_store import MomentStore


def similarities(store: MomentStore, costs: AdaptationCosts,
                 teachers: Mapping[str, DetectorSpec]) -> dict[str, float]:
    """Linear centred kernel alignment of each detector's maps with each
    teacher's, the mean over levels.

    Args:
        store: The sums that the costs were fitted to.
        costs: Gives the detectors' names and the levels.
        teachers: Each on its own grid, as costs are.

    Returns:
        ``source>target`` -> 0 to 1.

    Source:
        Kornblith et al. 2019 (arXiv 1905.00414).
    """
    values = {}
    for target, spec in teachers.items():
        sums = store.moments(spec.scale)
        for source in costs.names:
            if source != target:
                values[f'{source}>{target}'] = fmean(
                    alignment(sums, stride, source, target)
                    for stride in costs.strides)
    return values


def alignment(sums: FeatureMoments, stride: int, source: str,
              target: str) -> float:
    """Linear CKA of two detectors' maps of one stride, over positions."""
    both = sums.over(stride, sums.filled_folds(stride), (source, target))
    c = sums.channels[stride][source]
    mean = both.total / both.count
    covariance = both.outer / both.count - torch.outer(mean, mean)
    return float(covariance[:c, c:].square().sum() / (
        covariance[:c, :c].norm() * covariance[c:, c:].norm()))
