"""Run the search for an order, and show what it found.

The search is ``mtpd.search.find_order``; the rule by which teachers are chosen
is in ``mtpd.order.selection``.
"""
import os
from typing import Mapping

from mmdet.models.detectors import BaseDetector
from mmengine.dist import is_main_process

from mtpd.plan.plan import Plan
from mtpd.search.find_order import find_order
from mtpd.search.found_order import FoundOrder
from mtpd.show.charts import draw_costs, draw_order
from mtpd.show.detector_aps import describe_aps
from mtpd.show.progress_bar import progress_bar
from mtpd.show.tables import cost_table, level_table

from .prepare import full_disks_named


def order_teachers(plan: Plan, pool: Mapping[str, BaseDetector]
                   ) -> FoundOrder:
    """Find the order by Backward Greedy Selection; print, save and draw it.

    Args:
        plan: From ``prepare``, with ``order`` None.
        pool: Its detectors, from there too.
    """
    with full_disks_named(plan.work_dir):
        return search_and_show_order(plan, pool)


def search_and_show_order(plan: Plan, pool: Mapping[str, BaseDetector]
                          ) -> FoundOrder:
    """:func:`order_teachers` within a run that names full disks itself."""
    with progress_bar('Adaptation costs') as progress:
        found = find_order(plan, pool, progress)
    if is_main_process():
        show_order(found, plan.paths.order_folder, plan.declares_aps)
    return found


def show_order(found: FoundOrder, folder: str,
               declared: bool = False) -> None:
    """Print costs, APs, reasons and margins, and draw both charts.

    Args:
        found: The order.
        folder: Where the charts are written.
        declared: Whether the teachers' APs are known to be the config's.
    """
    draw_costs(found.costs, os.path.join(folder, 'adaptation_cost.png'))
    draw_order(found.costs, found.aps, found.order,
               os.path.join(folder, 'teacher_order.png'), found.latencies,
               found.student_ap)
    print(level_table(found.costs))
    print(cost_table(found.costs))
    print(describe_aps(found.student_ap, found.aps, declared))
    for step, decision in zip(found.order.steps, found.decisions(),
                              strict=True):
        print(f'  {step.reason}')
        if decision.compared:
            print(f'      {decision.describe()}')
    print('Order: ' + ' > '.join(found.order.teachers))
