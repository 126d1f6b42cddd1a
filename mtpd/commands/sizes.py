"""Measures detectors in turn and prints one table."""
import argparse
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

import torch
from mmengine.registry import DefaultScope
from torch import nn

from mtpd.analysis.sizes import (MultiplyAdds, multiply_adds, network_pass,
                                 parameters, test_size, zoo_ap)
from mtpd.command_line import plain_errors
from mtpd.compat.atomic_files import atomic_write
from mtpd.distill.detector import build_detector
from mtpd.error_text import summary
from mtpd.plan.detectors import DetectorSpec, load_config
from mtpd.plan.errors import PlanError
from mtpd.provenance import versions
from mtpd.randomness import isolate_rng
from mtpd.search.latency import timed
from mtpd.show.tables import text_table
from mtpd.statistics import median_interval

COLUMNS = ('detector', 'input', 'parameters, M', 'GMACs', 'of it backbone',
           'latency, ms', 'relative', 'box AP')


@dataclass(frozen=True)
class Row:
    """What the table shows of a detector.

    Attributes:
        name: Of its config.
        size: Width and height of the image.
        parameters: Number of parameters.
        macs: Multiply-adds for one image.
        seconds: For one image, round by round.
        ap: Box AP in percent from a model zoo; None if no zoo has it.
    """
    name: str
    size: tuple[int, int]
    parameters: int
    macs: MultiplyAdds
    seconds: tuple[float, ...]
    ap: float | None

    def cells(self, first: 'Row') -> tuple[str, ...]:
        """One for each of :data:`COLUMNS`; ``relative`` is to ``first``."""
        ratios = [own / other for own, other in zip(
            self.seconds, first.seconds, strict=True)]
        return (self.name, '{}x{}'.format(*self.size),
                f'{self.parameters / 1e6:.2f}',
                f'{self.macs.network / 1e9:.2f}',
                f'{self.macs.backbone / 1e9:.2f}',
                _with_interval([1000 * s for s in self.seconds], '.0f'),
                _with_interval(ratios, '.3f'),
                '-' if self.ap is None else f'{self.ap:.1f}')


def _with_interval(values: Sequence[float], form: str) -> str:
    low, high = median_interval(values)
    return (f'{statistics.median(values):{form}} '
            f'[{low:{form}}, {high:{form}}]')


def sizes(args: argparse.Namespace) -> None:
    """Print the table, and write it as Markdown; errors have no traceback.

    Args:
        args: The tool's.
    """
    torch.set_num_threads(args.threads)
    if DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance('mtpd', scope_name='mmdet')
    with plain_errors():
        rows, problems = measure(
            args.config, args.shape, args.rounds, time.process_time
            if args.processor_time else time.perf_counter)
        if not rows:
            raise PlanError(problems)
        cells = [row.cells(rows[0]) for row in rows]
        how = describe_conditions(args.threads, args.rounds,
                                  args.processor_time)
        print(text_table('Sizes', COLUMNS, cells))
        print(how)
        if args.markdown:
            atomic_write(args.markdown,
                         f'{markdown(cells)}\n\n{how}\n'.encode())
        if problems:
            sys.exit('\n'.join(problems))


def measure(configs: Sequence[str], shape: Sequence[int] | None,
            rounds: int, clock: Callable[[], float]
            ) -> tuple[list[Row], list[str]]:
    """Count every detector once, then time all of them in turn.

    Args:
        configs: Files, or ``mmdet::family/name.py``.
        shape: Width and height of the image; None for each config's own test
            size.
        rounds: Number of timed passes of each detector.
        clock: In seconds.

    Returns:
        The rows, and why detectors have none.

    Raises:
        PlanError: A config has no detector, or no test size.
    """
    counted, built, passes, problems = [], [], [], []
    loaded = [load(name, shape) for name in configs]
    for name, (detector, size) in zip(configs, loaded, strict=True):
        run = network_pass(detector, size)
        try:
            # The pass that counts also warms up.
            macs = multiply_adds(detector, run)
        except (AssertionError, RuntimeError, ValueError) as error:
            problems.append(_describe_failure(name, size, error))
            continue
        counted.append(name)
        built.append((Path(name).stem, size, parameters(detector), macs))
        passes.append(run)
        print(f'{name}: {macs.network / 1e9:.2f} GMACs', file=sys.stderr)
    seconds = []
    for i in range(rounds):
        seconds.append([timed(run, clock) for run in passes])
        print(f'round {i + 1} of {rounds}: {sum(seconds[-1]):.0f} s',
              file=sys.stderr)
    return [Row(*facts, times, zoo_ap(name)) for name, facts, times
            in zip(counted, built, zip(*seconds, strict=True), strict=True)
            ], problems


def _describe_failure(name: str, size: Sequence[int],
                      error: Exception) -> str:
    return ('{}: the detector takes no image of {}x{} ({}). Set --shape W H.'
            .format(name, *size, summary(error)))


def load(name: str, shape: Sequence[int] | None
         ) -> tuple[nn.Module, tuple[int, int]]:
    """A config's detector as constructed, and the size of its image.

    Raises:
        PlanError: The config has no detector, or no test size.
    """
    cfg = load_config(name)
    if 'model' not in cfg:
        raise PlanError([f'{name} has no model. Name the config of a '
                         'detector.'])
    size = (shape[0], shape[1]) if shape else test_size(cfg)
    if size is None:
        raise PlanError([f'{name}: val_dataloader does not resize its '
                         'images to one size. Set --shape W H.'])
    with isolate_rng(0):
        return build_detector(DetectorSpec(name, cfg, None).model), size


def describe_conditions(threads: int, rounds: int,
                        processor_time: bool) -> str:
    """The conditions under which the table was made."""
    installed = versions()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else \
        f'{platform.machine()} CPU, {threads} thread(s)'
    spread = '95% interval' if rounds >= 6 else 'range'
    clock = 'processor time of ' if processor_time else ''
    return (f'GMACs: 1e9 multiply-adds. Latency: {clock}one image, float32, '
            f'{where}; median of {rounds} rounds with its {spread}. '
            f'torch {installed["torch"]}, mmdet {installed["mmdet"]}.')


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """The table as Markdown."""
    lines = [COLUMNS, ('---', '---', *['---:'] * 6), *cells]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
