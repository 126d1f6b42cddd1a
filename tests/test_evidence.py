"""The evidence: docs/results.md is what its JSON says, each result starts from
the one that it names, and the statistics are what they are called."""
import json
import math
import re
from argparse import Namespace
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path

import evidence
import evidence_report
import evidence_store
import numpy as np
import pytest
import torch
from evidence_report import (EPOCHS, PILOT_SEED, SHORT, WEIGHT,
                             WITHOUT_ADAPTERS, Evidence, arms,
                             at_scale, concordance, interval, noise_of_orders,
                             permutation_chance, rank_correlation, relabelled,
                             smallest_difference, with_mechanism)
from evidence_runs import (Job, Node, Stage, alignment, changes, config_of,
                           pool_of, said_config)
from mmdet.registry import MODELS
from scipy import stats

from mtpd.distill.losses import Mechanism
from mtpd.order.moments import FeatureMoments
from mtpd.progression import make_plan

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture(scope='module')
def composed():
    return evidence_report.compose()


@pytest.fixture(scope='module', params=evidence_report.DATASETS)
def results(request):
    return Evidence(request.param)


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


def test_the_readme_has_the_main_comparison_of_the_page(composed):
    """The table in the README, row by row, against the JSON."""
    readme = (REPOSITORY / 'README.md').read_text()
    said = readme.split('## Does it help?')[1].split('\n## ')[0]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in
            (line.strip('|').split('|') for line in said.splitlines()
             if line.startswith('|'))}
    for at, dataset in enumerate(('bccd', 'drawn')):
        of = Evidence(dataset)
        alone = of.aps(arms(of)['alone'])
        for arm, start in (('alone', 'trained on alone'),
                           ('direct', 'direct'), ('together', 'all teachers'),
                           ('progression', 'progression')):
            aps = of.aps(arms(of)[arm])
            cells = next(v for k, v in rows.items() if k.startswith(start))
            assert cells[2 * at] == f'{np.mean(list(aps.values())):.1f}'
            if arm != 'alone':
                mean, half = interval([aps[s] - alone[s] for s in aps], .1)
                assert cells[2 * at + 1] == f'{mean:+.1f} ± {half:.1f}'


def test_the_published_rows_are_those_of_the_page():
    lines = [line for line in (REPOSITORY / 'docs/published.md').read_text()
             .splitlines() if '(results.md#main' in line]
    for dataset, line in zip(('bccd', 'drawn'), lines, strict=True):
        of = Evidence(dataset)
        means = [np.mean(list(aps.values())) for aps in (of.aps([]), *(
            of.aps(arms(of)[arm]) for arm in ('alone', 'progression')))]
        assert re.findall(r'\b\d\d\.\d\b', line) == [
            f'{mean:.1f}' for mean in means]


def test_what_the_readme_says_stands_on_the_page(composed):
    readme = (REPOSITORY / 'README.md').read_text()
    said = readme.split('## Does it help?')[1].split('\n## ')[0]
    figures = set(re.findall(
        r'[+-]\d+\.\d ± \d+\.\d|\b\d\d\.\d\b|\d+%|\d+ of \d\d\b', said))
    assert len(figures) > 10
    missing = {f for f in figures if f not in composed[0]}
    assert not missing


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


def test_a_result_is_of_the_config_that_its_name_stands_for_today(results):
    for run in results.runs:
        assert run['config']['sha256'] == said_config(
            as_node(run).config())['sha256'], run['name']
    for run in results.pool:
        spec = pool_of(results.dataset)[run['name']]
        assert run['config']['sha256'] == said_config(
            spec.config)['sha256'], run['name']


def test_the_pool_is_above_the_student(results):
    """The gap that the evidence is to have: 8 AP."""
    assert len(results.pool) == len(POOL)
    best = max(run['AP'] for run in results.pool)
    assert best - np.mean(list(results.aps([]).values())) >= 8


def test_what_is_made_of_results_is_made_of_todays(results):
    by_name = {run['name']: run for run in results.runs}
    pool = {run['name']: run['AP'] for run in results.pool}
    assert results.costs['aps'] == pytest.approx(pool, abs=.051)
    assert results.costs['student_ap'] == pytest.approx(
        results.aps([])[0], abs=.051)
    assert results.explained
    for run in results.explained:
        seed, of = run['seed'], arms(results)
        assert run['nodes'] == [results.runs_of(of[arm])[seed]['name']
                                for arm in (run['arm'], 'alone')]
        assert [side['ap'] for side in run['runs']] == pytest.approx(
            [by_name[name]['AP'] for name in run['nodes']], abs=.051)


def as_node(run: dict) -> Node:
    said = run['node']
    return Node(said['dataset'], said['seed'], tuple(Stage(
        tuple(s['teachers']), s['epochs'], s['decay'],
        as_tuples(s['changes'])) for s in said['stages']), said['student'])


def as_tuples(value):
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


# ----------------------------------------------------------------- the design


POOL = ('deformable', 'resnext', 'swin', 'two_stage')


@pytest.fixture
def budget(monkeypatch):
    """jobs(item, budget): where the order of the pool is known."""
    costs = {'aps': dict(zip(POOL, (48., 50., 49., 52.))),
             'orders': {'1': ['two_stage'], '2': ['resnext', 'two_stage'],
                        '3': ['swin', 'resnext', 'two_stage'],
                        '4': ['deformable', 'swin', 'resnext', 'two_stage']}}
    monkeypatch.setattr(Evidence, '__init__', lambda self, dataset:
                        self.__dict__.update(dataset=dataset, costs=costs))

    def jobs(item: str, name: str = 'small') -> list:
        return list(evidence.ITEM[item]('bccd', evidence.SEEDS[name]))

    return jobs


def test_all_arms_are_as_long(budget):
    nodes = budget('main')
    assert len(nodes) == 3 * 4
    assert {(len(n.stages), *(s.epochs for s in n.stages))
            for n in nodes} == {(2, EPOCHS, EPOCHS)}
    taught = [tuple(s.teachers for s in n.stages) for n in nodes
              if n.seed == 1]
    assert taught == [((), ()), (('two_stage',), ('two_stage',)),
                      (POOL, POOL), (('resnext',), ('two_stage',))]


def test_all_sequences_are_one_tree_of_64_stages(budget):
    nodes = {n for n in budget('orders') if n.seed == 0 and n.teachers}
    assert {tuple(s.teachers[0] for s in n.stages) for n in nodes} == {
        order for k in range(1, 5) for order in permutations(POOL, k)}
    assert len(nodes) == 64
    assert all(n.before in nodes or not n.before.stages for n in nodes)
    assert {s.epochs for n in nodes for s in n.stages} == {SHORT}


@pytest.mark.parametrize('item', ['pilot', 'mechanisms', 'gaps', 'sweeps'])
def test_every_setting_that_is_compared_can_be_planned(budget, item):
    for node in {(job.student, job.stages[-1].changes): job
                 for job in budget(item, 'full')}.values():
        plan = make_plan(node.config())
        assert plan.order == (node.teachers or (POOL[1],),)
        assert issubclass(MODELS.get(plan.distill['type']), Mechanism)


@pytest.mark.parametrize('item, number', [
    # Of mechanisms, gaps, why and sweeps 3 seeds; the pilot has its own.
    ('pilot', 1 + 4), ('main', 5 * 4), ('orders', 64 + 4 + 4 * (4 + 12 + 2)),
    ('cost', 5 * 4), ('mechanisms', 3 * (5 + 4) * 2),
    ('gaps', 3 * (2 + 2 + 3)), ('why', 3 * 2),
    ('sweeps', 3 * (4 + 4 + 1 + 4 + 4 + 3 + 2 * 12))])
def test_every_job_of_the_full_budget_can_be_told_from_the_others(
        budget, item, number):
    jobs = budget(item, 'full')
    assert len(jobs) == number
    assert len({job.name for job in jobs}) == len(set(jobs)) == number


@pytest.mark.parametrize('equal, weight', [
    (True, dict(loss_weight=dict(share=.5, iterations=20))), (False, {})])
def test_mechanisms_are_changed_as_a_whole(equal, weight):
    for name, settings in (('CWDLoss', {}),
                           ('FeatureL2Loss', dict(normalise=True))):
        node = Node('bccd', 0, (Stage(('swin',), 6, changes=with_mechanism(
            name, equal)),))
        assert node.config().mtpd.distill == dict(
            type=name, **settings, **weight)


def test_settings_are_changed_one_by_one():
    node = Node('bccd', 0, (Stage(('swin',), 6, changes=(
        ('distill.loss_weight', 'auto'), ('adapter', 'conv'),
        *at_scale('swin', 1))),))
    mtpd = node.config().mtpd
    assert mtpd.distill == dict(type='FeatureL2Loss', loss_weight='auto',
                                normalise=True)
    assert mtpd.adapter == 'conv'
    assert mtpd.teachers.swin.scale == 1 and mtpd.teachers.resnext.scale == 2


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
    for item in (evidence.of_orders, evidence.of_gaps, evidence.of_sweeps,
                 evidence.of_mechanisms, evidence.of_why):
        assert list(item('bccd', (0,))) == []


@pytest.mark.parametrize('dataset', evidence_report.DATASETS)
def test_constants_are_those_of_the_configs(dataset):
    cfg = config_of(dataset)
    assert cfg.mtpd.distill.loss_weight == WEIGHT
    channels = {of.model.neck.out_channels for of in (
        cfg, *(spec.config for spec in pool_of(dataset).values()))}
    assert (len(channels) == 1) == (dataset in WITHOUT_ADAPTERS)


# ------------------------------------------------------------------ the queue


class Fake(Job):
    """A job, and the process that does it at its third look."""

    dataset = 'bccd'

    def __init__(self, name: str, *needs: Job, code: int = 0,
                 done: bool = False, usable: bool = False) -> None:
        self.name, self.needs, self.code = name, needs, code
        self.is_done, self.is_usable = done, usable
        self.looks, self.terminated = 0, False

    @property
    def done(self) -> bool:
        return self.is_done

    @property
    def usable(self) -> bool:
        return self.is_usable

    @property
    def exitcode(self) -> int | None:
        self.looks += 1
        if self.looks < 3:
            return None
        self.is_done = self.is_usable = self.code == 0
        return self.code

    def terminate(self) -> None:
        self.terminated = True

    def join(self) -> None:
        assert self.terminated


@pytest.fixture
def queue(monkeypatch):
    """queue(jobs, processes, minutes=1): what was begun, beside what."""
    def run(jobs: list[Fake], processes: int, minutes: float = 1.) -> list:
        begun: list = []

        def begin(job):
            begun.append((job.name, [
                other.name for other in at_work if other.looks < 3]))
            at_work.append(job)
            return job

        at_work: list[Fake] = []
        monkeypatch.setattr(evidence, 'jobs', lambda args: jobs)
        monkeypatch.setattr(evidence, 'begin', begin)
        monkeypatch.setattr(evidence.time, 'sleep', lambda seconds: None)
        evidence.go_on(Namespace(jobs=processes),
                       evidence.time.monotonic() + 60 * minutes)
        return begun

    return run


def test_a_process_begins_when_what_it_starts_from_is_there(queue):
    a = Fake('a')
    b, c = Fake('b', a), Fake('c')
    assert queue([b, a, c], 1) == [('a', []), ('b', []), ('c', [])]
    a = Fake('a')
    assert queue([Fake('b', a), a, Fake('c')], 2) == [
        ('a', []), ('c', ['a']), ('b', [])]


def test_so_many_run_at_a_time(queue):
    begun = queue([Fake(name) for name in 'abcde'], 2)
    assert [name for name, _ in begun] == [*'abcde']
    assert max(len(beside) for _, beside in begun) == 1


def test_what_is_done_is_made_again_only_where_its_weights_are_needed(queue):
    """As in a fresh clone: results are there, checkpoints are not."""
    needed, idle = Fake('needed', done=True), Fake('idle', done=True)
    before = Fake('before', needed, done=True)
    assert queue([needed, idle, before, Fake('new', before),
                  Fake('newer', before)], 2) == [
        ('needed', []), ('before', []), ('new', []), ('newer', ['new'])]


def test_none_is_begun_too_late(queue):
    assert queue([Fake('a')], 2, minutes=0) == []


def test_a_failure_ends_the_others(queue):
    bad, other = Fake('bad', code=1), Fake('other')
    other.looks = -100
    with pytest.raises(SystemExit, match='bad failed; see .*bad.txt'):
        queue([bad, other], 2)
    assert other.terminated


@dataclass(frozen=True)
class Made(Job):
    """A job that leaves a file, whose hash is its text."""
    folder_of_results: Path
    text: str
    dataset: str = 'bccd'
    name: str = 'made'

    @property
    def results(self) -> Path:
        return self.folder_of_results / 'made.jsonl'

    @property
    def weights(self) -> str:
        return str(self.folder_of_results / 'made.pth')

    def measure(self) -> dict:
        print('at work')
        Path(self.weights).write_text(self.text)
        return {'weights': self.text}


def test_weights_that_are_made_again_have_to_be_the_same(tmp_path):
    Made(tmp_path, 'these').run()
    Path(Made(tmp_path, 'these').weights).unlink()
    assert not Made(tmp_path, 'these').usable
    Made(tmp_path, 'these').run()
    assert Made(tmp_path, 'these').usable
    with pytest.raises(SystemExit, match='other hardware or versions'):
        Made(tmp_path, 'others').run()
    assert not Made(tmp_path, 'others').usable
    assert Made(tmp_path, 'others').read() == {'weights': 'these'}


def test_a_job_runs_in_a_process_of_its_own_that_prints_into_its_log(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job, other = Made(tmp_path, 'these'), Made(tmp_path, 'others')
    for of, code, said in ((job, 0, 'at work'),
                           (other, 1, 'came out as others')):
        process = evidence.begin(of)
        process.join(60)
        assert process.exitcode == code
        assert said in (tmp_path / evidence.log_of(of)).read_text()
    assert job.read() == {'weights': 'these'}


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


@pytest.mark.parametrize('deviation', [.02, .1, .5])
def test_an_interval_of_rounded_values_holds(deviation):
    """Simulated: three seeds whose true difference is 0, rounded to 0.1."""
    random = np.random.default_rng(0)
    sides = random.normal(30, deviation, (2, 4000, 3)).round(1)
    missed = [abs(mean) > half + 1e-12 for mean, half in (
        interval(d, .1) for d in sides[0] - sides[1])]
    assert np.mean(missed) < .06
    assert interval([.7, .7, .7], .1)[1] == pytest.approx(
        stats.t(2).ppf(.975) * .1 / math.sqrt(6 * 3))


def test_permutation_chance_counts_all_pairings():
    assert permutation_chance([(x, x) for x in range(4)]) == 2 / 24
    assert permutation_chance([(1, 1), (2, 3), (3, 2)]) == 1
    pairs = [(0, 2), (1, 0), (2, 1), (3, 4), (4, 5), (5, 3)]
    expected = stats.permutation_test(
        ([x for x, _ in pairs],), lambda x: stats.spearmanr(
            x, [y for _, y in pairs]).statistic, permutation_type='pairings')
    assert permutation_chance(pairs) == pytest.approx(expected.pvalue)


def test_noise_of_orders_is_that_of_a_two_way_analysis_of_variance():
    """Simulated: seeds shift all orders alike, orders mean nothing, and a
    seed moves an order by 0.4."""
    random = np.random.default_rng(0)
    found = [noise_of_orders(random.normal(0, 2, (3, 1))
                             + random.normal(0, .4, (3, 12)))
             for _ in range(2000)]
    noise, chance = np.array(found).T
    assert np.sqrt((noise**2).mean()) == pytest.approx(.4, rel=.02)
    assert (chance < .05).mean() == pytest.approx(.05, abs=.015)
    different = np.tile(np.arange(12.), (3, 1)) + random.normal(0, .4, (3, 12))
    assert noise_of_orders(different)[1] < 1e-6
    assert noise_of_orders(np.tile(np.arange(3.), (2, 1))) == (0, 0)
    assert noise_of_orders(np.full((2, 3), 31.)) == (0, 1)


def test_concordance_counts_pairs_within_groups_only():
    # 1 of 1; 1 of 3; a tie
    assert concordance([[(1, 5), (2, 6)]]) == 1
    assert concordance([[(1, 1), (2, 3), (3, 2)]]) == pytest.approx(2 / 3)
    assert concordance([[(1, 5), (2, 6)], [(0, 9), (1, 8)]]) == .5
    assert concordance([[(1, 5), (1, 6)]]) == .5
    assert math.isnan(concordance([[(1, 5)], [(2, 3)]]))


def test_rank_correlation_is_none_of_a_constant():
    assert rank_correlation([(x, x**3) for x in range(8)]) == pytest.approx(1)
    assert math.isnan(rank_correlation([(1, 2), (1, 3)]))


def test_relabelled_counts_all_names():
    """Simulated: a measure that says nothing is below 5% one time in twenty
    at most, and one that says all is as far out as 24 relabellings allow."""
    random = np.random.default_rng(0)
    pairs = list(permutations('abcd', 2))
    gains = dict(zip(pairs, random.normal(size=12)))

    def agreement(measure):
        return float(np.corrcoef([measure[p] for p in pairs],
                                 [gains[p] for p in pairs])[0, 1])

    assert relabelled(gains, agreement, 0) == pytest.approx((1, 1 / 24))
    chances = [relabelled(dict(zip(pairs, random.normal(size=12))), agreement,
                          0)[1] for _ in range(400)]
    assert np.mean(np.array(chances) < .05) < .075
    assert np.mean(chances) == pytest.approx(.52, abs=.06)
    assert relabelled(gains, lambda of: math.nan, 0)[1] == 1


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
    results = [(job, result) for dataset in evidence_report.DATASETS
               for job, result in evidence_store.read_results(
                   evidence_store.results_file(dataset)).items()]
    assert len(results) > 200
    for job, result in results:
        assert not [text for text in texts(result)
                    if text.startswith(('/', '~'))], job


def texts(value):
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def test_the_pilot_is_in_no_comparison(budget):
    assert {node.seed for node in budget('pilot', 'full')} == {PILOT_SEED}
    for item in evidence.ITEM.keys() - {'pilot', 'why'}:
        assert PILOT_SEED not in {node.seed for node in budget(item, 'full')}


def write_results(dataset: str, results: dict) -> None:
    evidence_store.results_file(dataset).write_text(''.join(
        json.dumps({'job': job, **result}) + '\n'
        for job, result in results.items()))


@pytest.fixture
def everything(tmp_path, monkeypatch):
    """everything(pair): results of all jobs of the full budget, of random
    APs, where the order found for two teachers is this one; Evidence."""
    def write(pair: list[str]) -> dict[str, Evidence]:
        random = np.random.default_rng(0)
        real = {dataset: evidence_store.read_results(
            evidence_store.results_file(dataset))
            for dataset in evidence_report.DATASETS}
        monkeypatch.setattr(evidence_store, 'FOLDER', tmp_path)
        for dataset, measured in real.items():
            orders = {**measured['costs']['orders'], '2': pair}
            results = {job: result for job, result in measured.items()
                       if job.startswith('pool_')}
            results['costs'] = {**measured['costs'], 'orders': orders}
            write_results(dataset, results)  # before jobs are listed
            for job in {job for item in evidence.ITEM.values()
                        for job in item(dataset, evidence.SEEDS['full'])}:
                ap = round(random.normal(30, 2), 1)
                side = {'training_loss': ap / 100, 'ap': ap,
                        'sharpness': {'common': .01, 'own': ap / 999}}
                made_with = {'torch': '0', 'hardware': 'none', 'threads': 1}
                results[job.name] = {
                    'node': asdict(job), 'name': job.name, 'seed': job.seed,
                    'AP': ap, 'start': ap, 'minutes': 2.,
                    'last_epoch': {'distill_ratio': .5},
                    'made_with': made_with} if isinstance(job, Node) else {
                    'arm': job.arm, 'seed': job.first.seed,
                    'runs': [side, dict(side, ap=ap - 1)]}
            for seed in evidence.SEEDS['full']:
                node = Node(dataset, seed)
                results[node.name] = {
                    'node': asdict(node), 'name': node.name, 'seed': seed,
                    'AP': 25., 'minutes': 2., 'last_epoch': {},
                    'made_with': made_with}
            write_results(dataset, results)
        return {name: Evidence(name) for name in evidence_report.DATASETS}
    return write


@pytest.mark.parametrize('pair', [['swin', 'two_stage'], ['two_stage']])
def test_the_page_of_a_full_budget(everything, pair):
    """Also where the order found stops at one teacher."""
    everything(pair)
    text, plots = evidence_report.compose()
    assert not re.search(r'\bnan\b|\binf\b|Not run|not run|too few', text[
        text.index('## How it was measured'):])
    for section in ('Mechanisms', 'Crossing gaps', 'Sweeps', 'Why'):
        assert text.count(f'### {section}\n') == 2
    assert text.count('With a trained 1x1 convolution') == 1
    assert text.count('With a fifth of the weight') == 1
    assert ('| progression (' in text) == (len(pair) == 2)
    assert len(plots) == 4


def test_orders_are_tried_again_with_a_change(everything):
    """The table against the results themselves."""
    of = everything(['swin', 'two_stage'])['bccd']
    text, _ = evidence_report.orders(of)
    again = text[text.index('With a trained 1x1 convolution'):]
    for first, last in permutations(POOL, 2):
        mean = np.mean([run['AP'] for run in of.runs
                        if [s['teachers'] for s in run['node']['stages']]
                        == [[first], [last]]
                        and run['node']['stages'][0]['changes']
                        == [['adapter', 'conv']]])
        assert f'| {first} > {last} | {mean:.1f} |' in again


def test_the_page_can_be_written_at_any_moment(results, tmp_path, monkeypatch):
    """With any part of the results: of some seeds, some lengths, without
    costs, without pool."""
    lines = evidence_store.results_file(results.dataset).read_text(
        ).splitlines(keepends=True)
    order = np.random.default_rng(0).permutation(len(lines))
    monkeypatch.setattr(evidence_store, 'FOLDER', tmp_path)
    for share in (.03, .1, .2, .4, .6, .8):
        evidence_store.results_file(results.dataset).write_text(''.join(
            lines[at] for at in order[:int(share * len(lines))]))
        text, _ = evidence_report.compose()
        assert not re.search(r'\bnan\b|\binf\b', text)
