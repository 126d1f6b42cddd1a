"""Which teacher when: moments of maps, costs between detectors, the order."""
# The function adaptation_cost is not among these names: it would hide the
# module that it stands in.
from .adaptation_cost import (AdaptationCosts, LinearMap, adaptation_costs,
                              costs_on_own_grids, fit_linear_map)
from .moments import FeatureMoments, Moments, fold_of
from .selection import (SelectionStep, TeachingOrder,
                        backward_greedy_selection)

__all__ = [
    'AdaptationCosts', 'FeatureMoments', 'LinearMap', 'Moments',
    'SelectionStep', 'TeachingOrder', 'adaptation_costs',
    'backward_greedy_selection', 'costs_on_own_grids', 'fit_linear_map',
    'fold_of',
]
