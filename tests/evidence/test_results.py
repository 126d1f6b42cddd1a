"""Each result starts from the result that it names, and its config is still
the same."""
from pathlib import Path

import numpy as np
import pytest
from evidence.design import DATASETS
from evidence.jobs.students import Node, Stage
from evidence.store import read_results, results_file
from evidence.jobs.training import describe_config, pool_of


def test_every_result_starts_from_the_result_it_names(results):
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


def test_every_result_records_how_it_was_made(results):
    for run in (*results.runs, *results.pool):
        assert {'AP', 'AP50', 'AP75', 'minutes', 'seed', 'config'} <= set(run)
        assert {'mtpd', 'mmdet', 'mmengine', 'torch', 'python', 'threads',
                'hardware'} <= set(run['made_with'])
        # The configs of the runs were named mtpd.py then.
        config = Path(run['config']['file'].replace('/mtpd.py',
                                                    '/progression.py'))
        assert config.is_file()


def test_the_config_of_every_result_is_still_the_same(results):
    for run in results.runs:
        assert run['config']['sha256'] == describe_config(
            as_node(run).config())['sha256'], run['name']
    for run in results.pool:
        spec = pool_of(results.dataset)[run['name']]
        assert run['config']['sha256'] == describe_config(
            spec.config)['sha256'], run['name']


def test_the_pool_is_above_the_student(results):
    """The evidence needs a gap of at least 8 AP."""
    assert len(results.pool) == 4
    best = max(run['AP'] for run in results.pool)
    assert best - np.mean(list(results.aps([]).values())) >= 8


def test_costs_and_explanations_are_of_the_same_results(results):
    by_name = {run['name']: run for run in results.runs}
    pool = {run['name']: run['AP'] for run in results.pool}
    assert results.costs['aps'] == pytest.approx(pool, abs=.051)
    assert results.costs['student_ap'] == pytest.approx(
        results.aps([])[0], abs=.051)
    assert results.explained
    for run in results.explained:
        assert run['nodes'] == [
            results.runs_of(results.arms[arm])[run['seed']]['name']
            for arm in (run['arm'], 'alone')]
        assert [side['ap'] for side in run['runs']] == pytest.approx(
            [by_name[name]['AP'] for name in run['nodes']], abs=.051)


def as_node(run: dict) -> Node:
    node = run['node']
    return Node(node['dataset'], node['seed'], tuple(Stage(
        tuple(s['teachers']), s['epochs'], s['decay'],
        as_tuples(s['changes'])) for s in node['stages']), node['student'])


def as_tuples(value):
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def test_results_are_plain_json_without_absolute_paths():
    results = [(job, result) for dataset in DATASETS for job, result
               in read_results(results_file(dataset)).items()]
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
