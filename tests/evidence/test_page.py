"""docs/results.md matches the results, and so do the pages that quote it."""
import csv
import io
import json
import re
from dataclasses import asdict
from itertools import permutations

import numpy as np
import pytest
from evidence import comparisons, store
from evidence.design import ALONE, DATASETS, ON_ALL, SHARE_4, TAUGHT
from evidence.jobs.students import Node
from evidence.report import cells, page
from evidence.report.labels import runs_of
from evidence.report.orders import orders
from evidence.results import Evidence, aps_of
from evidence.statistics import interval


@pytest.fixture(scope='module')
def composed():
    return page.compose()


def test_the_page_matches_the_results(
        composed, repository):
    text, _ = composed
    assert (repository / 'docs/results.md').read_text() == text, (
        'python benchmarks/evidence.py --report writes it')


def test_the_plots_match_the_results(composed, repository):
    _, plots = composed
    folder = repository / 'docs/results'
    assert {file.name for file in folder.glob('*')} == set(plots)
    for name, svg in plots.items():
        assert (folder / name).read_text() == svg, name


@pytest.fixture
def section_of_the_readme(repository):
    readme = (repository / 'README.md').read_text()
    text = readme.split('## Should I use it?')[1].split('\n## ')[0]
    return text.split('Measured by us')[1]  # above: what is published


def test_the_readme_has_the_main_comparison(section_of_the_readme):
    """Its table, row by row, against the results."""
    rows = {}
    for line in section_of_the_readme.splitlines():
        if line.startswith('|'):
            name, *cells = (cell.strip() for cell in
                            line.strip('|').split('|'))
            rows[name] = cells
    columns = []
    for dataset, student, taught in (
            ('txl', 'labels_85', TAUGHT), ('deeppcb', 'labels_100', SHARE_4)):
        few = runs_of(Evidence(dataset), dataset, student)
        columns.append({start: aps_of(few[arm]) for start, arm in (
            ('trained on alone', ALONE), ('direct', taught),
            ('the same', ON_ALL))})
    for results in map(Evidence, ('bccd', 'drawn')):
        columns.append({start: results.aps(results.arms[arm]) for start, arm in
                        (('trained on alone', 'alone'), ('direct', 'direct'),
                         ('progression', 'progression'))})
    for place, column in enumerate(columns):
        alone = column['trained on alone']
        for start, aps in column.items():
            cells = next(v for k, v in rows.items() if k.startswith(start))
            assert cells[2 * place] == f'{np.mean(list(aps.values())):.1f}'
            if start != 'trained on alone':
                mean, half = interval([aps[s] - alone[s] for s in aps], .1)
                assert cells[2 * place + 1] == f'{mean:+.1f} ± {half:.1f}'


def test_the_rows_in_published_match_the_results(repository):
    published = (repository / 'docs/published.md').read_text()
    lines = [line for line in published.splitlines()
             if '(results.md#main' in line]
    for dataset, line in zip(('bccd', 'drawn'), lines, strict=True):
        results = Evidence(dataset)
        arms = results.arms
        means = [np.mean(list(results.aps(stages).values()))
                 for stages in ([], arms['alone'], arms['progression'])]
        assert re.findall(r'\b\d\d\.\d\b', line) == [
            f'{mean:.1f}' for mean in means]


def test_the_figures_of_the_readme_stand_on_the_page(
        composed, section_of_the_readme):
    text = composed[0].replace('±', ' ± ')
    figures = set(re.findall(
        r'[+-]\d+\.\d ± \d+\.\d|\b\d\d\.\d\b|\d+%|\d+ of \d\d\b',
        section_of_the_readme))
    assert len(figures) > 10
    assert not {figure for figure in figures if figure not in text}


def write_results(dataset: str, results: dict) -> None:
    store.results_file(dataset).write_text(''.join(
        json.dumps({'job': job, **result}) + '\n'
        for job, result in results.items()))


@pytest.fixture
def everything(tmp_path, monkeypatch):
    """everything(pair): results of all jobs of the full budget, of random
    APs, where the order found for two teachers is this one; Evidence."""
    def write(pair: list[str]) -> dict[str, Evidence]:
        random = np.random.default_rng(0)
        real = {dataset: store.read_results(
            store.results_file(dataset))
            for dataset in DATASETS}
        monkeypatch.setattr(store, 'FOLDER', tmp_path)
        for dataset, measured in real.items():
            orders = {**measured['costs']['orders'], '2': pair}
            results = {job: result for job, result in measured.items()
                       if job.startswith('pool_')}
            results['costs'] = {**measured['costs'], 'orders': orders}
            write_results(dataset, results)  # before jobs are listed
            seeds = comparisons.SEEDS['full']
            names = {*comparisons.COMPARISONS} - {'compress', 'labels'}
            for job in {job for name in names for job in
                        comparisons.COMPARISONS[name](dataset, seeds)}:
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
            for seed in seeds:
                node = Node(dataset, seed)
                results[node.name] = {
                    'node': asdict(node), 'name': node.name, 'seed': seed,
                    'AP': 25., 'minutes': 2., 'last_epoch': {},
                    'made_with': made_with}
            write_results(dataset, results)
        return {name: Evidence(name) for name in DATASETS}
    return write


@pytest.mark.parametrize('pair', [['swin', 'two_stage'], ['two_stage']])
def test_the_page_of_a_full_budget(everything, pair):
    """Also where the order found stops at one teacher."""
    everything(pair)
    text, plots = page.compose()
    sections = dict(zip(*[iter(re.split(
        r'^## (.*)\n', text, flags=re.MULTILINE)[1:])] * 2))
    assert not re.search(r'\bnan\b|\binf\b|Not run|not run|too few', ''.join(
        part for title, part in sections.items() if title != 'In short'))
    for title in page.SECTIONS:
        assert sections[title].count('|**bccd'), title
        assert sections[title].count('|**drawn'), title
    rows = csv.DictReader(io.StringIO(plots['sequences_of_two.csv']))
    assert list(dict.fromkeys(row['group'] for row in rows)) == [
        'bccd', 'bccd, a fifth of the weight', 'bccd, with adapters', 'drawn']
    assert ('|progression (' in text) == (len(pair) == 2)
    rows = list(csv.DictReader(io.StringIO(plots['rules.csv'])))
    assert {row['group'] for row in rows} == {'bccd', 'drawn'}
    assert {row['rank'] != '' for row in rows} == {True}
    assert len(plots) == 6


def test_orders_are_also_shown_with_a_changed_setting(everything):
    """The table against the results themselves."""
    results = everything(['swin', 'two_stage'])
    _, files = orders(results)
    rows = csv.DictReader(io.StringIO(files['sequences_of_two.csv']))
    shown = {(row['first'], row['last']): row['mean AP'] for row in rows
             if row['group'] == 'bccd, with adapters' and row['first']}
    bccd = results['bccd']
    assert shown == {
        (first, last): f"""{np.mean([
            run['AP'] for run in bccd.runs
            if [s['teachers'] for s in run['node']['stages']]
            == [[first], [last]]
            and run['node']['stages'][0]['changes']
            == [['adapter', 'conv']]]):.1f}"""
        for first, last in permutations(bccd.teachers, 2)}
    for first in range(0, 12, 3):  # those with one last teacher
        costs = [bccd.adaptation.cost(*pair)
                 for pair in list(shown)[first:first + 3]]
        assert costs == sorted(costs)


def test_the_page_can_be_written_at_any_moment(results, tmp_path, monkeypatch):
    """With any part of the results: of some seeds, some lengths, without
    costs, without pool."""
    lines = store.results_file(results.dataset).read_text(
        ).splitlines(keepends=True)
    order = np.random.default_rng(0).permutation(len(lines))
    monkeypatch.setattr(store, 'FOLDER', tmp_path)
    for share in (.03, .1, .2, .4, .6, .8):
        store.results_file(results.dataset).write_text(''.join(
            lines[at] for at in order[:int(share * len(lines))]))
        text, _ = page.compose()
        assert not re.search(r'\bnan\b|\binf\b', text)
        for table in re.findall(r'(?:^\|.*\n)+', text, re.MULTILINE):
            assert len({row.count('|') for row in table.splitlines()}) == 1


@pytest.mark.parametrize('values, text, words', [
    ((1., 1.2, 1.1), '**+1.1±0.2**', '+1.1±0.2, higher'),
    ((-1., -1.2, -1.1), '**-1.1±0.2**', '-1.1±0.2, lower'),
    ((-1., 1.2, .1), '+0.1±2.7', '+0.1±2.7, within noise'),
    ((1., 1.2), '+1.1', '+1.1, too few seeds'), ((), '', '')])
def test_only_more_than_noise_is_bold(values, text, words):
    values, others = dict(enumerate(values)), dict.fromkeys(range(9), 0.)
    assert cells.difference(values, others) == text
    assert cells.difference_in_words(values, others) == words
