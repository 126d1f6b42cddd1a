"""Which teacher when: moments of maps, costs between detectors, the order."""
# The function adaptation_cost is not among these names: it would hide the
# module that it stands in.
from .baselines import OrderRow, compare_orders
from .certainty import Comparison, Decision, decision_margins
from .costs import (AdaptationCosts, HeldOutFolds, LinearMap,
                    adaptation_costs, costs_on_own_grids, fit_linear_map)
from .gradient_descent import gradient_descent_costs
from .moments import FeatureMoments, MapBatch, Moments, fold_of
from .selection import SelectionStep, TeachingOrder, backward_greedy_selection

__all__ = [
    'AdaptationCosts', 'Comparison', 'Decision',
    'FeatureMoments', 'HeldOutFolds', 'LinearMap', 'MapBatch', 'Moments',
    'OrderRow', 'SelectionStep', 'TeachingOrder', 'adaptation_costs',
    'backward_greedy_selection', 'compare_orders', 'costs_on_own_grids',
    'decision_margins', 'fit_linear_map', 'fold_of', 'gradient_descent_costs',
]
