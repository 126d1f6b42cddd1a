"""The published graph, as costs and APs."""
import pytest

from mtpd.order.adaptation_cost import AdaptationCosts

# Published graph of the paper, with the two edges that it does not draw.
PUBLISHED = {('S', 'I'): .939, ('S', 'II'): .060, ('I', 'II'): .070,
             ('II', 'I'): 1.181, ('I', 'III'): .934, ('II', 'III'): 1.94,
             ('I', 'IV'): .963, ('II', 'IV'): 1.401, ('III', 'IV'): .89,
             ('S', 'III'): 2.5, ('S', 'IV'): 3.0}


@pytest.fixture
def published() -> AdaptationCosts:
    names = ('S', 'I', 'II', 'III', 'IV')
    return AdaptationCosts(
        names, (8, 16), mse={
            (a, b): {8: PUBLISHED.get((a, b), 5.) - .01,
                     16: PUBLISHED.get((a, b), 5.) + .01}
            for a in names for b in names if a != b},
        variance={n: {8: 2., 16: 2.} for n in names},
        positions={8: 100, 16: 25})


@pytest.fixture
def aps() -> dict[str, float]:
    return {'I': 38.2, 'II': 38.7, 'III': 42.3, 'IV': 47.0}


@pytest.fixture
def limits():
    """resolution(costs, at 8, at 16), given as parts of the variance."""
    def resolution(costs: AdaptationCosts, fine: float, coarse: float):
        return {(a, b): {8: fine * costs.variance[b][8],
                         16: coarse * costs.variance[b][16]}
                for a, b in costs.mse}
    return resolution
