"""Pairs at full size, and that docs/pairs.md says what the code finds."""
import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


def load_benchmark():
    """benchmarks/pairs.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location(
        'benchmark_pairs', REPOSITORY / 'benchmarks/pairs.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


benchmark = load_benchmark()


@pytest.fixture(scope='module')
def documented() -> dict[tuple[str, str], list[str]]:
    """(student, teacher) -> the cells of its row in docs/pairs.md."""
    lines = (REPOSITORY / 'docs/pairs.md').read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in lines if line.startswith('|')]
    assert rows[0] == list(benchmark.COLUMNS)
    return {(row[0], row[1]): row for row in rows[2:]}


def test_documented_pairs_are_the_benchmarks(documented):
    assert list(documented) == [tuple(map(benchmark.name_of, pair))
                                for pair in benchmark.PAIRS]


@pytest.mark.parametrize('student, teacher', benchmark.PAIRS, ids=[
    '-'.join(map(benchmark.name_of, pair)) for pair in benchmark.PAIRS])
def test_one_step_at_full_size(student, teacher, documented):
    step = benchmark.take_step(student, teacher)
    assert step.finite and step.distillation > 0
    row = documented[step.student, step.teacher]
    assert row[:5] == list(step.row()[:5])
