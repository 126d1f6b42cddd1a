"""The slice of a width, or the widest one that meets a budget."""
import math
from typing import Callable, Iterable, Mapping, NamedTuple

from mmdet.models.detectors import BaseDetector
from mmengine.config import ConfigDict

from .errors import CannotSlice, WidthUnavailable
from .narrow import narrowed
from .slicing import built, sliced_detector

SMALLEST = 5
"""The narrowest slice that is tried, in percent of the channels."""

Measure = Callable[[BaseDetector], float]


def parameters(detector: BaseDetector) -> float:
    """Number of parameters."""
    return float(sum(one.numel() for one in detector.parameters()))


def megabytes(detector: BaseDetector) -> float:
    """Size of the weights on the disk, in 10^6 bytes."""
    tensors = {one.data_ptr(): one for one in detector.state_dict().values()}
    return sum(one.numel() * one.element_size()
               for one in tensors.values()) / 1e6


class Slice(NamedTuple):
    """A smaller detector.

    Attributes:
        width: Share of the channels.
        model: The ``model`` part of its config.
        detector: It, with the weights of the most important channels.
        notes: What is not exactly as was asked for.
    """
    width: float
    model: ConfigDict
    detector: BaseDetector
    notes: tuple[str, ...]


def widest(model: ConfigDict, measures: Mapping[str, Measure],
           limits: Mapping[str, float], with_whole: bool = False) -> float:
    """The largest share of the channels, in whole percent, with which a
    detector keeps within all limits.

    A width that no detector can have is measured by the next narrower one.

    Args:
        model: The ``model`` part of the detector's config.
        measures: Unit -> what is measured of a detector of any weights. It
            has to grow with the width.
        limits: Unit -> the largest value allowed.
        with_whole: Whether all channels are an answer, as for a detector that
            is smaller by its depth.

    Raises:
        CannotSlice: Not even the narrowest slice keeps within them, or the
            whole detector does, or none can be built.
    """
    def excess(percent: int) -> list[str]:
        """What is too large at a width."""
        detector = _widest_built(model, percent)
        texts = []
        for unit, limit in limits.items():
            value = 0. if detector is None else measures[unit](detector)
            if value > limit:
                texts.append(f'{value:.3g} {unit} instead of {limit:g}')
        return texts

    if _widest_built(model, 100) is None:
        narrowed(model, 1.)  # which says why
        raise CannotSlice(['No width of the detector can be built.'])
    if not excess(100):
        if with_whole:
            return 1.
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


def _widest_built(model: ConfigDict, percent: int) -> BaseDetector | None:
    """The widest detector of up to so many percent of the channels that can
    be built; None if there is none."""
    for one in range(percent, SMALLEST - 1, -1):
        try:
            return built(narrowed(model, one / 100).model)
        except WidthUnavailable:
            continue
    return None


def slice_of_width(original: BaseDetector, model: ConfigDict,
                   width: float) -> Slice:
    """A detector with a share of the channels of another one.

    Args:
        original: The trained detector; its weights are not changed.
        model: The ``model`` part of its config.
        width: The share.

    Raises:
        WidthUnavailable: It cannot be had with this width; the message names
            the nearest.
        CannotSlice: It cannot be sliced.
    """
    try:
        return _sliced(original, model, width)
    except WidthUnavailable as error:
        percent, near = 100 * width, []
        for candidates in (range(math.ceil(percent) - 1, SMALLEST - 1, -1),
                           range(math.floor(percent) + 1, 101)):
            found = _first_slice(original, model, candidates)
            if found is not None:
                near.append(f'{found.width:g}')
        if not near:
            raise
        raise WidthUnavailable([f'{text} The nearest that can be had: '
                                f'--width {" or ".join(near)}.'
                                for text in error.problems]) from error


def widest_slice(original: BaseDetector, model: ConfigDict,
                 width: float) -> Slice:
    """The widest slice up to a width that can be had, by steps of 1%.

    Args:
        original: The trained detector; its weights are not changed.
        model: The ``model`` part of its config.
        width: The largest share of the channels.

    Raises:
        CannotSlice: There is none.
    """
    percent = round(100 * width)
    made = _first_slice(original, model, range(percent, SMALLEST - 1, -1))
    if made is None:
        wider = _first_slice(original, model, range(percent + 1, 101))
        raise CannotSlice([
            f'Up to {percent}% of the channels would keep within the budget, '
            'but the smaller model cannot be built so narrow, or its layers '
            'are connected in another way. '
            + ('' if wider is None else 'The narrowest that can be had: '
               f'--width {wider.width:g}. ')
            + 'Raise the budget, or begin with a lighter detector.'])
    if made.width == width:
        return made
    return made._replace(notes=(*made.notes, (
        f'{percent}% of the channels would keep within the budget too, but '
        f'this detector has no slice between {100 * made.width:g} and '
        f'{percent}%.')))


def _first_slice(original: BaseDetector, model: ConfigDict,
                 percents: Iterable[int]) -> Slice | None:
    """The slice of the first of these widths that can be had."""
    for percent in percents:
        try:
            return _sliced(original, model, percent / 100)
        except WidthUnavailable:
            continue
    return None


def _sliced(original: BaseDetector, model: ConfigDict, width: float) -> Slice:
    result = narrowed(model, width)
    return Slice(width, result.model, sliced_detector(
        original, result.model, result.keeps_backbone), result.notes)
