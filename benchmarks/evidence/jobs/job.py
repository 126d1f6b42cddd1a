"""Something to be measured once, with its line of results."""
import os
import sys
from pathlib import Path
from typing import Any, Iterator

from ..store import append_result, read_results, results_file

WEIGHTS = Path('work_dirs/evidence')


class Job:
    """Something to be measured, once.

    Attributes:
        dataset: A folder below configs/evidence.
        name: Names its line of results and its folder in :data:`WEIGHTS`.
        weights: The checkpoint that it leaves, which is not committed; None
            if it leaves none.
        needs: The jobs whose weights it starts from.
    """
    dataset: str
    name: str
    weights: str | None = None
    needs: 'tuple[Job, ...]' = ()

    @property
    def results(self) -> Path:
        """The file that its result is a line of."""
        return results_file(self.dataset)

    @property
    def folder(self) -> Path:
        """Its work directory."""
        return WEIGHTS / self.dataset / self.name

    @property
    def log(self) -> Path:
        """What its process printed."""
        return WEIGHTS / self.dataset / 'log' / f'{self.name}.txt'

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return self.name in read_results(self.results)

    @property
    def usable(self) -> bool:
        """Whether others can start from it."""
        return self.done and (self.weights is None
                              or os.path.isfile(self.weights))

    def steps(self) -> 'Iterator[Job]':
        """The jobs to run for it, itself last: also a job that has a result
        but whose weights are gone, as in a fresh clone."""
        for need in self.needs:
            if not need.usable:
                yield from need.steps()
        yield self

    def read(self) -> dict[str, Any]:
        """Its result, to be read only.

        Raises:
            KeyError: It was not run.
        """
        return read_results(self.results)[self.name]

    def measure(self) -> dict[str, Any]:
        """Do the work; returns the result."""
        raise NotImplementedError

    def run(self) -> None:
        """Measure and add the result; or, where there is one already, make
        the weights once more.

        Raises:
            SystemExit: They differ from the weights that the results are of.
        """
        result = self.measure()
        if not self.done:
            append_result(self.results, self.name, result)
        elif result['weights'] != self.read()['weights']:
            assert self.weights is not None
            os.remove(self.weights)
            sys.exit(
                f'{self.name} was trained once more, as its weights are not '
                f'here, and came out as {result["weights"]}; the results in '
                f'{self.results} are of {self.read()["weights"]} (with other '
                'hardware or versions, or another number of threads). New '
                'jobs cannot start from them here: move that file away, and '
                'everything is measured anew.')
