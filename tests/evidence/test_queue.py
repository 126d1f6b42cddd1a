"""Jobs run after those that they start from, and weights are made again only
as they were."""
from dataclasses import dataclass
from pathlib import Path

import pytest
from evidence.jobs import queue as job_queue
from evidence.jobs.job import Job


class Fake(Job):
    """A job, and its process, which ends the third time it is asked."""

    dataset = 'bccd'

    def __init__(self, name: str, *needs: Job, code: int = 0,
                 done: bool = False, usable: bool = False) -> None:
        self.name, self.needs, self.code = name, needs, code
        self.is_done, self.is_usable = done, usable
        self.asked, self.terminated = 0, False

    @property
    def done(self) -> bool:
        return self.is_done

    @property
    def usable(self) -> bool:
        return self.is_usable

    @property
    def exitcode(self) -> int | None:
        self.asked += 1
        if self.asked < 3:
            return None
        self.is_done = self.is_usable = self.code == 0
        return self.code

    def terminate(self) -> None:
        self.terminated = True

    def join(self) -> None:
        assert self.terminated


@pytest.fixture
def queue(monkeypatch):
    """queue(jobs, processes, minutes=1): the jobs in the order of their
    starts, each with those that were running."""
    def run(jobs: list[Fake], processes: int, minutes: float = 1.) -> list:
        starts: list = []
        at_work: list[Fake] = []

        def start(job):
            starts.append((job.name, [
                other.name for other in at_work if other.asked < 3]))
            at_work.append(job)
            return job

        monkeypatch.setattr(job_queue, 'start', start)
        monkeypatch.setattr(job_queue.time, 'sleep', lambda seconds: None)
        job_queue.run_jobs(lambda: jobs, processes,
                           job_queue.time.monotonic() + 60 * minutes)
        return starts

    return run


def test_a_job_starts_when_what_it_needs_has_a_result(queue):
    a = Fake('a')
    b, c = Fake('b', a), Fake('c')
    assert queue([b, a, c], 1) == [('a', []), ('b', []), ('c', [])]
    a = Fake('a')
    assert queue([Fake('b', a), a, Fake('c')], 2) == [
        ('a', []), ('c', ['a']), ('b', [])]


def test_no_more_run_at_a_time_than_were_asked_for(queue):
    starts = queue([Fake(name) for name in 'abcde'], 2)
    assert [name for name, _ in starts] == [*'abcde']
    assert max(len(beside) for _, beside in starts) == 1


def test_a_result_is_measured_again_only_where_its_weights_are_needed(queue):
    """As in a fresh clone: results are there, checkpoints are not."""
    needed, idle = Fake('needed', done=True), Fake('idle', done=True)
    before = Fake('before', needed, done=True)
    assert queue([needed, idle, before, Fake('new', before),
                  Fake('newer', before)], 2) == [
        ('needed', []), ('before', []), ('new', []), ('newer', ['new'])]


def test_none_is_started_after_the_end(queue):
    assert queue([Fake('a')], 2, minutes=0) == []


def test_a_failure_ends_the_others(queue):
    bad, other = Fake('bad', code=1), Fake('other')
    other.asked = -100
    with pytest.raises(SystemExit, match='bad failed; see .*bad.txt'):
        queue([bad, other], 2)
    assert other.terminated


@dataclass(frozen=True)
class Made(Job):
    """A job that leaves a file, whose digest is its text."""
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


def test_weights_that_are_made_again_must_be_the_same(tmp_path):
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
    # Most of a process's time here is this import.
    job_queue.PROCESSES.set_forkserver_preload(['mmengine.registry'])
    first, other = Made(tmp_path, 'these'), Made(tmp_path, 'others')
    for job, code, message in ((first, 0, 'at work'),
                               (other, 1, 'came out as others')):
        process = job_queue.start(job)
        process.join(60)
        assert process.exitcode == code
        assert message in (tmp_path / job.log).read_text()
    assert first.read() == {'weights': 'these'}
