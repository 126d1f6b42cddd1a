"""One run over all stages: plan, order, stages, export."""
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan, make_plan
from mtpd.stage.runner import run_stage

from .export import export_student
from .prepare import check, prepare
from .run import Progression, run_progression
from .show_order import order_teachers

__all__ = ['Plan', 'PlanError', 'Progression', 'check', 'export_student',
           'make_plan', 'order_teachers', 'prepare', 'run_progression',
           'run_stage']
