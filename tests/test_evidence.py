"""The evidence: docs/results.md is what its JSON says, each result starts from
the one that it names, and the statistics are what they are called."""
import json
import math
from argparse import Namespace
from itertools import permutations
from pathlib import Path

import evidence
import evidence_report
import numpy as np
import pytest
import torch
from evidence_report import (EPOCHS, PILOT_SEED, SHORT, Evidence, arms,
                             bootstrap, concordance, interval,
                             rank_correlation, smallest_difference)
from evidence_runs import Node, Stage, alignment, changes
from scipy import stats

from mtpd.order.moments import FeatureMoments

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture(scope='module')
def composed():
    return evidence_report.compose()


@pytest.fixture(scope='module', params=evidence_report.DATASETS)
def results(request):
    found = Evidence(request.param)
    if not found.runs:
        pytest.skip(f'no results on {request.param}')
    return found


# ------------------------------------------------------------------- the page


def test_the_page_is_what_the_results_say(composed):
    text, _ = composed
    assert (REPOSITORY / 'docs/results.md').read_text() == text, (
        'python benchmarks/evidence.py --report writes it anew')


def test_the_plots_are_what_the_results_say(composed):
    _, plots = composed
    folder = REPOSITORY / 'docs/results'
    assert {p.name for p in folder.glob('*')} == set(plots)
    for name, svg in plots.items():
        assert (folder / name).read_text() == svg, name


def test_every_result_starts_from_the_one_it_names(results):
    by_name = {run['name']: run for run in results.runs}
    pool = {run['name']: run['weights'] for run in results.pool}
    assert len(by_name) == len(results.runs)
    for run in results.runs:
        node = as_node(run)
        assert node.name == run['name']
        assert run['seed'] == node.seed
        if not node.stages:
            continue
        before = by_name[node.before.name]
        assert run['start'] == before['AP'], run['name']
        assert run['start_weights'] == before['weights'], run['name']
        assert run['teachers'] == {
            name: pool[name] for name in node.teachers}, run['name']


def test_every_result_says_how_it_was_made(results):
    for run in (*results.runs, *results.pool):
        assert {'AP', 'AP50', 'AP75', 'minutes', 'seed', 'config'} <= set(run)
        assert {'mtpd', 'mmdet', 'mmengine', 'torch', 'python', 'threads',
                'hardware'} <= set(run['made_with'])
        assert Path(run['config']['file']).is_file()


def test_the_pool_is_above_the_student(results):
    """The gap that the evidence is to have: 8 AP."""
    best = max(run['AP'] for run in results.pool)
    assert best - np.mean(list(results.aps([]).values())) >= 8


def as_node(run: dict) -> Node:
    said = run['node']
    return Node(said['dataset'], said['seed'], tuple(Stage(
        tuple(s['teachers']), s['epochs'], s['decay'],
        tuple((k, v) for k, v in s['changes'])) for s in said['stages']),
        said['student'])


# ----------------------------------------------------------------- the design


@pytest.fixture
def small_budget(monkeypatch):
    """jobs(item): of a pool of four whose order is known."""
    costs = {'aps': dict(a=50., b=48., c=52., d=49.),
             'orders': {'1': ['c'], '2': ['a', 'c'], '3': ['d', 'a', 'c'],
                        '4': ['b', 'd', 'a', 'c']}}
    monkeypatch.setattr(Evidence, '__init__', lambda self, dataset:
                        self.__dict__.update(dataset=dataset, costs=costs))
    monkeypatch.setattr(evidence, 'pool_of', lambda dataset: dict(
        a=0, b=0, c=0, d=0))

    def jobs(item: str) -> list:
        return list(evidence.ITEM[item]('bccd', evidence.SEEDS['small']))

    return jobs


def test_all_arms_are_as_long(small_budget):
    nodes = small_budget('main')
    assert len(nodes) == 3 * 4
    assert {(len(n.stages), *(s.epochs for s in n.stages))
            for n in nodes} == {(2, EPOCHS, EPOCHS)}
    taught = [tuple(s.teachers for s in n.stages) for n in nodes
              if n.seed == 1]
    assert taught == [((), ()), (('c',), ('c',)),
                      (('a', 'b', 'c', 'd'),) * 2, (('a',), ('c',))]


def test_all_sequences_are_one_tree_of_64_stages(small_budget):
    nodes = {n for n in small_budget('orders') if n.seed == 0}
    assert {tuple(s.teachers[0] for s in n.stages) for n in nodes} == {
        order for k in range(1, 5) for order in permutations('abcd', k)}
    assert len(nodes) == 64
    assert all(n.before in nodes or not n.before.stages for n in nodes)
    assert {s.epochs for n in nodes for s in n.stages} == {SHORT}


def test_a_job_waits_for_what_it_starts_from(small_budget):
    args = Namespace(only=['main'], budget='small', dataset=['bccd'])
    names = [job.name for job in evidence.jobs(args)]
    assert len(set(names)) == len(names)
    for job in evidence.jobs(args):
        if isinstance(job, Node) and job.stages:
            assert names.index(job.before.name) < names.index(job.name)


@pytest.mark.parametrize('teachers, weight', [((), 0), (('swin',), None)])
def test_a_stage_restarts_the_rate_from_the_student_before(teachers, weight):
    node = Node('bccd', 3, (Stage(('resnext',), 8), Stage(teachers, 8)))
    cfg = node.config()
    assert cfg.mtpd.student.checkpoint == node.before.weights
    assert cfg.mtpd.order == [teachers or ('resnext',)]
    if weight is not None:
        assert cfg.mtpd.distill.loss_weight == weight
    assert cfg.randomness.seed == 3
    assert [s.type for s in cfg.param_scheduler] == [
        'LinearLR', 'CosineAnnealingLR']
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].T_max == 8


def test_changes_name_every_difference():
    assert dict(changes({'a': {'b': 1, 'c': 2}, 'd': 3},
                        {'a': {'b': 1, 'c': 4, 'e': 5}})) == {
        'a.c': 4, 'a.e': 5, 'd': None}


def test_before_there_is_an_order_only_the_student_alone_can_be_trained(
        monkeypatch):
    monkeypatch.setattr(Evidence, '__init__', lambda self, dataset:
                        self.__dict__.update(dataset=dataset, costs=None))
    assert list(arms(Evidence('bccd'))) == ['alone']
    assert list(evidence.of_orders('bccd', (0,))) == []


# ------------------------------------------------------------------ the queue


class Fake:
    """A job, and the process that does it at its third look."""

    def __init__(self, name: str, after: 'Fake | None' = None,
                 code: int = 0) -> None:
        self.name, self.dataset, self.after, self.code = \
            name, 'bccd', after, code
        self.done, self.looks, self.terminated = False, 0, False
        self.returncode: int | None = None

    @property
    def ready(self) -> bool:
        return self.after is None or self.after.done

    def poll(self) -> int | None:
        self.looks += 1
        if self.looks < 3:
            return None
        self.done, self.returncode = self.code == 0, self.code
        return self.code

    def terminate(self) -> None:
        self.terminated = True


@pytest.fixture
def queue(monkeypatch):
    """queue(jobs, processes, minutes=1): what was begun, beside what."""
    def run(jobs: list[Fake], processes: int, minutes: float = 1.) -> list:
        begun: list = []

        def begin(args, job):
            begun.append((job.name, sorted(
                other.name for other in jobs if other.looks
                and not other.done and other is not job)))
            return job

        monkeypatch.setattr(evidence, 'jobs', lambda args: jobs)
        monkeypatch.setattr(evidence, 'begin', begin)
        monkeypatch.setattr(evidence.time, 'sleep', lambda seconds: None)
        evidence.go_on(Namespace(jobs=processes),
                       evidence.time.monotonic() + 60 * minutes)
        return begun

    return run


def test_a_process_begins_when_what_it_starts_from_is_done(queue):
    a = Fake('a')
    b, c = Fake('b', a), Fake('c')
    assert queue([b, a, c], 1) == [('a', []), ('b', []), ('c', [])]


def test_so_many_run_at_a_time(queue):
    a, b, c = Fake('a'), Fake('b'), Fake('c')
    begun = dict(queue([a, b, c], 2))
    assert begun['a'] == begun['b'] == []
    assert len(begun['c']) < 2


def test_none_is_begun_too_late(queue):
    assert queue([Fake('a')], 2, minutes=0) == []


def test_a_failure_ends_the_others(queue):
    bad, other = Fake('bad', code=1), Fake('other')
    other.looks = -100
    with pytest.raises(SystemExit, match='bad failed; see .*bad.txt'):
        queue([bad, other], 2)
    assert other.terminated


# ------------------------------------------------------------- the statistics


@pytest.mark.parametrize('seeds', [2, 3, 5, 20])
def test_the_smallest_difference_is_found_four_times_in_five(seeds):
    """Simulated."""
    random = np.random.default_rng(0)
    drawn = random.normal(smallest_difference(seeds, 2.), 2., (40000, seeds))
    found = stats.ttest_1samp(drawn, 0, axis=1).pvalue < .05
    assert found.mean() == pytest.approx(.8, abs=.008)


def test_interval_is_that_of_the_t_test():
    values = [.3, .7, -.1, .4]
    mean, half = interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert interval([.3])[1] == math.inf


def test_concordance_counts_pairs_within_groups_only():
    # 1 of 1; 1 of 3; a tie
    assert concordance([[(1, 5), (2, 6)]]) == 1
    assert concordance([[(1, 1), (2, 3), (3, 2)]]) == pytest.approx(2 / 3)
    assert concordance([[(1, 5), (2, 6)], [(0, 9), (1, 8)]]) == .5
    assert concordance([[(1, 5), (1, 6)]]) == .5
    assert math.isnan(concordance([[(1, 5)], [(2, 3)]]))


def test_rank_correlation_and_its_interval():
    pairs = [(x, x**3) for x in range(8)]
    assert rank_correlation(pairs) == pytest.approx(1)
    assert bootstrap(pairs, rank_correlation) == pytest.approx((1, 1))
    random = np.random.default_rng(1).normal(size=(30, 2)).tolist()
    low, high = bootstrap(random, rank_correlation)
    assert low < rank_correlation(random) < high
    # Of independent ranks the deviation is 1 / sqrt(n - 1).
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(29), rel=.25)


def test_alignment_is_centred_kernel_alignment():
    """Against the kernels themselves: tr(KHLH) / sqrt(tr(KHKH) tr(LHLH))."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 3, 4, 5, generator=generator)
    b = torch.randn(2, 6, 4, 5, generator=generator) + 3 + a.repeat(1, 2, 1, 1)
    sums = FeatureMoments({8: {'a': 3, 'b': 6}})
    sums.add({'a': {8: a}, 'b': {8: b}}, [0, 1])

    def kernel(maps):
        rows = maps.double().movedim(1, -1).flatten(0, 2)
        rows = rows - rows.mean(0)
        return rows @ rows.T

    k, m = kernel(a), kernel(b)
    expected = (k * m).sum() / (k.norm() * m.norm())
    assert alignment(sums, 8, 'a', 'b') == pytest.approx(float(expected))
    assert alignment(sums, 8, 'b', 'a') == pytest.approx(float(expected))


def test_results_are_plain_json_without_absolute_paths():
    for path in (REPOSITORY / 'benchmarks/evidence').rglob('*.json'):
        text = path.read_text()
        json.loads(text)
        assert str(REPOSITORY) not in text, path.name


def test_the_pilot_is_in_no_comparison(results):
    assert PILOT_SEED not in results.aps([])
    assert PILOT_SEED not in evidence.SEEDS['full']
