"""Which teacher when: moments of maps, costs between detectors, the order."""
from .baselines import OrderRow, compare_orders
from .certainty import Comparison, Decision, decision_margins
from .costs import AdaptationCosts, HeldOutFolds
from .gradient_descent import gradient_descent_costs
from .held_out import adaptation_cost, adaptation_costs, costs_on_own_grids
from .least_squares import LinearMap, fit_linear_map
from .map_batch import MapBatch, fold_of
from .moments import FeatureMoments
from .selection import SelectionStep, TeachingOrder, backward_greedy_selection
from .sums import Moments

__all__ = [
    'AdaptationCosts', 'Comparison', 'Decision', 'FeatureMoments',
    'HeldOutFolds', 'LinearMap', 'MapBatch', 'Moments', 'OrderRow',
    'SelectionStep', 'TeachingOrder', 'adaptation_cost', 'adaptation_costs',
    'backward_greedy_selection', 'compare_orders', 'costs_on_own_grids',
    'decision_margins', 'fit_linear_map', 'fold_of', 'gradient_descent_costs',
]
