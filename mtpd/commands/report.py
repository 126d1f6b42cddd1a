"""Writes the page about a progression."""
import argparse
import os
import sys
from datetime import datetime

from mmengine.registry import init_default_scope

from mtpd.command_line import plain_errors
from mtpd.compat.atomic_files import atomic_write
from mtpd.flags import unwritable_file
from mtpd.plan.errors import PlanError
from mtpd.plan.work_dir import WorkDir
from mtpd.progression.history import read_history, read_plan
from mtpd.report.detectors import detector_facts
from mtpd.report.examples import Examples, example_images
from mtpd.report.page import page


def report(args: argparse.Namespace) -> None:
    """Write the page and print its path; errors have no traceback.

    Args:
        args: The tool's.
    """
    out = args.out or WorkDir(args.work_dir).report
    # A config may import modules from where the command is run.
    sys.path.append(os.getcwd())
    with plain_errors() as command:
        command.folder = args.work_dir
        plan = read_plan(args.work_dir, args.config)
        problems = unwritable_file(out, '--out')
        if args.control and not os.path.isfile(WorkDir(args.control).record):
            problems.append(f'--control {args.control} holds no progression '
                            '(there is no progression.json). Name the work '
                            'dir of the student trained on alone.')
        if problems:
            raise PlanError(problems)
        init_default_scope(plan.student.config.get('default_scope') or 'mmdet')
        history = read_history(plan, args.control)
        facts = detector_facts(history, measure=not args.no_measure)
        examples = example_images(history, args.images) \
            if args.images else Examples((), ())
        atomic_write(out, page(history, facts, examples,
                               datetime.now()).encode())
    print(out)
