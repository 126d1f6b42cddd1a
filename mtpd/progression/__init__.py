"""One run over all stages: plan, order, stages, export."""
from .export import export_student
from .plan import Plan, PlanError, make_plan
from .run import Progression, prepare, run_progression, run_stage, search

__all__ = ['Plan', 'PlanError', 'Progression', 'export_student', 'make_plan',
           'prepare', 'run_progression', 'run_stage', 'search']
