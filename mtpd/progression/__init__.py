"""One run over all stages: plan, order, stages, export."""
from mtpd.plan.plan import Plan, PlanError, make_plan

from .export import export_student
from .run import (Progression, order_teachers, prepare, run_progression,
                  run_stage)

__all__ = ['Plan', 'PlanError', 'Progression', 'export_student', 'make_plan',
           'order_teachers', 'prepare', 'run_progression', 'run_stage']
