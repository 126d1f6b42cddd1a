"""What the tests of the evidence share: configs that are read once, the
results, and the jobs of a comparison."""
import copy
from functools import lru_cache

import pytest
from evidence import comparisons
from evidence.design import DATASETS
from evidence.results import Evidence
from mmengine.config import Config

POOL = ('deformable', 'resnext', 'swin', 'two_stage')


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch, repository):
    monkeypatch.chdir(repository)
    # The results' hashes are of configs with the folder that it is by default.
    monkeypatch.delenv('MTPD_DATA', raising=False)


@lru_cache
def _config(read, file: str) -> Config:
    return read(file)


@pytest.fixture(scope='module', autouse=True)
def _configs_are_read_once():
    # For each base in mmdet, mmengine parses all metafiles of mmdet: half a
    # second for each teacher of each plan.
    read = Config.fromfile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, 'fromfile', staticmethod(
            lambda file, **_: copy.deepcopy(_config(read, str(file)))))
        yield


@pytest.fixture(scope='module', params=DATASETS)
def results(request):
    return Evidence(request.param)


@pytest.fixture
def budget(monkeypatch):
    """budget(comparison, name): its jobs, where the order of the pool is
    known."""
    costs = {'aps': dict(zip(POOL, (48., 50., 49., 52.))),
             'orders': {'1': ['two_stage'], '2': ['resnext', 'two_stage'],
                        '3': ['swin', 'resnext', 'two_stage'],
                        '4': ['deformable', 'swin', 'resnext', 'two_stage']}}
    monkeypatch.setattr(Evidence, '__init__', lambda self, dataset:
                        self.__dict__.update(dataset=dataset, costs=costs))

    def jobs(comparison: str, name: str = 'small') -> list:
        return list(comparisons.COMPARISONS[comparison](
            'bccd', comparisons.SEEDS[name]))

    return jobs
