"""Compares two runs of one student: charts, JSON and a verdict."""
import argparse
import json
import os
import sys

from mmengine.registry import DefaultScope

from mtpd.analysis.comparison import Comparison, Settings, compare_runs
from mtpd.analysis.runs import NotComparable, check_comparable, read_run
from mtpd.command_line import plain_errors
from mtpd.compat.atomic_files import atomic_write
from mtpd.flags import unwritable
from mtpd.provenance import command, versions
from mtpd.report.landscape import draw_landscapes, draw_trajectories
from mtpd.report.verdict import verdict
from mtpd.show.progress_bar import progress_bar


def analyze(args: argparse.Namespace) -> None:
    """Write the comparison and print its verdict; errors have no traceback.

    Args:
        args: The tool's.
    """
    settings = Settings(args.images, args.grid, args.range, args.radius,
                        args.directions, args.seed)
    problems = settings.problems() + unwritable(args.out, '--out ', '--out')
    if problems:
        sys.exit('\n'.join(problems))
    with plain_errors():
        try:
            comparison = measure(args, settings)
        except NotComparable as error:
            sys.exit(str(error))
        os.makedirs(args.out, exist_ok=True)
        draw_trajectories(comparison,
                          os.path.join(args.out, 'trajectory.png'))
        draw_landscapes(comparison, os.path.join(args.out, 'landscape.png'))
        lines = verdict(comparison)
        content = {'verdict': lines, 'command': command(),
                   'versions': versions(), **comparison.to_json()}
        atomic_write(os.path.join(args.out, 'analysis.json'),
                     json.dumps(content, indent=1).encode())
        print('\n'.join(lines))
        print(f'Written to {args.out}')


def measure(args: argparse.Namespace, settings: Settings) -> Comparison:
    """The comparison of both runs.

    Raises:
        NotComparable: They cannot be compared.
    """
    first = read_run(args.run, args.config)
    second = read_run(args.baseline, args.config)
    remarks = check_comparable(first, second)
    scope = first.student.config.get('default_scope') or 'mmdet'
    if DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance('mtpd', scope_name=scope)
    with progress_bar('Loss around two students') as progress:
        return compare_runs(first, second, settings, remarks, progress)
