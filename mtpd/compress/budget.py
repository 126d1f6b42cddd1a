"""The widest slice of a detector that meets a budget."""
from typing import Callable, Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.config import ConfigDict

from .errors import CannotSlice
from .narrow import narrowed
from .slicing import built

SMALLEST = 5
"""The narrowest slice that is tried, in percent of the channels."""

Measure = Callable[[BaseDetector], float]


def parameters(detector: BaseDetector) -> float:
    """Number of parameters."""
    return float(sum(one.numel() for one in detector.parameters()))


def megabytes(detector: BaseDetector) -> float:
    """Size of the weights on the disk, in 10^6 bytes."""
    return sum(one.numel() * one.element_size()
               for one in detector.state_dict().values()) / 1e6


def widest(model: ConfigDict, measures: Mapping[str, Measure],
           limits: Mapping[str, float]) -> float:
    """The largest share of the channels, in whole percent, with which a
    detector keeps within all limits.

    Args:
        model: The ``model`` part of the detector's config.
        measures: Unit -> what is measured of a detector of any weights. It
            has to grow with the width.
        limits: Unit -> the largest value allowed.

    Raises:
        CannotSlice: Not even the narrowest slice keeps within them, or the
            whole detector does.
    """
    def excess(percent: int) -> list[str]:
        """What is too large at a width."""
        detector = built(narrowed(model, percent / 100).model)
        texts = []
        for unit, limit in limits.items():
            value = measures[unit](detector)
            if value > limit:
                texts.append(f'{value:.3g} {unit} instead of {limit:g}')
        return texts

    if not excess(100):
        raise CannotSlice(['The whole detector keeps within the budget. Lower '
                           'the budget, or set --width.'])
    too_much = excess(SMALLEST)
    if too_much:
        raise CannotSlice([
            'No slice keeps within the budget. The nearest, with '
            f'{SMALLEST}% of the channels, has {" and ".join(too_much)}. '
            'Raise the budget, or begin with a lighter detector.'])
    low, high = SMALLEST, 100
    while high - low > 1:
        middle = (low + high) // 2
        if excess(middle):
            high = middle
        else:
            low = middle
    return low / 100
