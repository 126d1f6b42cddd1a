"""All results of one data set, by arm and by sequence of teachers."""
import json
from collections import defaultdict
from functools import cached_property
from typing import Any, Iterable, Mapping, Sequence

from mtpd.order.costs import AdaptationCosts

from .design import EPOCHS, FEWEST, PILOT_SEED, SHORT, SPLITS, Changes
from .store import read_results, results_file

Run = dict[str, Any]
"""The result of one training."""
Order = tuple[str, ...]
"""One teacher for each stage."""
Stages = Sequence[tuple[str, ...]]
"""The teachers of each stage."""
StageKey = tuple[tuple[str, ...], int, str, str]
"""Teachers, epochs, decay, changes as JSON."""


def full_stage(teachers: Sequence[str], changes: Changes = ()) -> StageKey:
    """A stage of full length."""
    return tuple(teachers), EPOCHS, 'cosine', json.dumps(changes)


def short_stage(teachers: Sequence[str], changes: Changes = ()) -> StageKey:
    """A stage as orders are tried in."""
    return tuple(teachers), SHORT, 'linear', json.dumps(changes)


class Evidence:
    """All results of one data set.

    Args:
        dataset: One of :data:`evidence.design.DATASETS`.

    Attributes:
        runs: Trainings of students.
        pool: Trainings of teachers.
        explained: Results of the comparison ``why``.
        limits: Students with some of the labels, tested on both splits.
        arrivals: Name of a run -> what of its teacher arrived.
        costs: The order's JSON, None while it is not measured.
        choices: Split -> the same for the student with few labels.
    """

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        results = read_results(results_file(dataset))

        def named(prefix: str) -> list[Run]:
            return [result for job, result in results.items()
                    if job.startswith(prefix)]

        self.runs = named('seed')
        self.pool = named('pool_')
        self.explained = named('why_')
        self.limits = named('limit_')
        self.arrivals = {one['node']: one for one in named('arrives_')}
        self.costs = results.get('costs')
        self.choices = {split: found for split in SPLITS if (
            found := results.get(f'costs_{FEWEST}_{split}'))}

    @cached_property
    def adaptation(self) -> AdaptationCosts:
        """The costs that the order was found from."""
        return AdaptationCosts.from_json(self.costs['costs'])

    @property
    def student(self) -> str:
        """Its name among the costs."""
        return next(name for name in self.adaptation.names
                    if name not in self.costs['aps'])

    @property
    def teachers(self) -> list[str]:
        """Their names, sorted."""
        return sorted(self.costs['aps'])

    @property
    def best(self) -> str:
        """The teacher with the highest AP, where every order ends."""
        return self.costs['orders']['1'][-1]

    @property
    def pair(self) -> list[str]:
        """The order found for a maximum of two teachers."""
        orders = self.costs['orders']
        return orders.get('2', orders['1'])

    @property
    def arms(self) -> dict[str, list[tuple[str, ...]]]:
        """Arm of the main comparison -> the teachers of each of its stages.

        Only training on alone while there is no order; no progression where
        the order found is of one teacher.
        """
        if self.costs is None:
            return {'alone': [(), ()]}
        length = len(self.pair)
        arms = {'alone': [()] * length,
                'direct': [(self.best,)] * length,
                'together': [tuple(self.costs['aps'])] * length}
        if length > 1:  # else it is direct
            arms['progression'] = [(name,) for name in self.pair]
        return arms

    @cached_property
    def by_path(self) -> dict[tuple[str, tuple[StageKey, ...]],
                              dict[int, Run]]:
        """(Student, its stages) -> seed -> run; without the pilot's."""
        runs: dict[tuple, dict[int, Run]] = defaultdict(dict)
        for run in self.runs:
            node = run['node']
            if node['seed'] != PILOT_SEED:
                stages = tuple(
                    (tuple(stage['teachers']), stage['epochs'],
                     stage['decay'], json.dumps(stage['changes']))
                    for stage in node['stages'])
                runs[node['student'], stages][node['seed']] = run
        return runs

    def runs_of(self, stages: Stages, changes: Changes = (),
                student: str = 'mtpd') -> dict[int, Run]:
        """Seed -> run of the student after stages of full length."""
        path = tuple(full_stage(teachers, changes) for teachers in stages)
        return self.by_path.get((student, path), {})

    def aps(self, stages: Stages, changes: Changes = (),
            student: str = 'mtpd') -> dict[int, float]:
        """Seed -> AP of the same."""
        return aps_of(self.runs_of(stages, changes, student))

    def short_runs(self, changes: Changes = ()
                   ) -> dict[int, dict[Order, Run]]:
        """Seed -> sequence of single teachers -> run, of short stages."""
        by_seed: dict[int, dict[Order, Run]] = defaultdict(dict)
        for (_, stages), runs in self.by_path.items():
            order = tuple(stage[0][0] for stage in stages if stage[0])
            if stages and stages == tuple(
                    short_stage((name,), changes) for name in order):
                for seed, run in runs.items():
                    by_seed[seed][order] = run
        return dict(by_seed)

    def short_aps(self, changes: Changes = ()
                  ) -> dict[int, dict[Order, float]]:
        """Seed -> sequence -> AP, of the same."""
        return {seed: aps_of(runs)
                for seed, runs in self.short_runs(changes).items()}

    def short_alone(self, length: int) -> dict[int, float]:
        """Seed -> AP after short stages without a teacher.

        Args:
            length: The number of stages.
        """
        return aps_of(self.by_path.get(
            ('mtpd', (short_stage(()),) * length), {}))


def aps_of(runs: Mapping[Any, Run]) -> dict[Any, float]:
    """The AP of each run."""
    return {key: run['AP'] for key, run in runs.items()}


def complete_seeds(by_seed: Mapping[int, Mapping[Order, Any]],
                   orders: Iterable[Order]) -> list[int]:
    """The seeds that have all these sequences."""
    wanted = set(orders)
    return [seed for seed, values in sorted(by_seed.items())
            if wanted <= set(values)]
