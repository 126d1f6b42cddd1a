"""Results as JSON Lines: no result is lost, whoever writes or is killed."""
import json
import multiprocessing
import os
import signal
import time

import pytest
from evidence.store import append_result, read_results

PROCESSES = multiprocessing.get_context('fork')


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'folder' / 'cells.jsonl'


def test_results_are_read_as_they_were_appended(path):
    assert read_results(path) == {}
    values = {'AP': 38.6, 'small': -0.1, 'large': None, 'name': 'ä',
              'node': {'stages': [[1, 2e-17]]}}
    append_result(path, 'second', values)
    append_result(path, 'first', {})
    assert read_results(path) == {'first': {}, 'second': values}
    assert list(read_results(path)) == ['first', 'second']
    assert [json.loads(line)['job'] for line in path.read_text().splitlines()
            ] == ['second', 'first']


def test_a_later_line_replaces_an_earlier_one(path):
    for ap in (1, 2):
        append_result(path, 'again', {'AP': ap})
        append_result(path, 'other', {'AP': 0})
        assert read_results(path)['again'] == {'AP': ap}
    assert len(path.read_text().splitlines()) == 4


def test_what_json_cannot_hold_is_a_string(path, tmp_path):
    append_result(path, 'job', {'folder': tmp_path})
    assert read_results(path)['job'] == {'folder': str(tmp_path)}


def append_results(path, process: int) -> None:
    for number in range(25):
        append_result(path, f'{process}_{number}', {
            'text': str(process) * 5000, 'number': number})


def test_processes_append_at_once(path):
    processes = [PROCESSES.Process(target=append_results, args=(path, n))
                 for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert read_results(path) == {
        f'{process}_{number}': {'text': str(process) * 5000, 'number': number}
        for process in range(4) for number in range(25)}
    assert len(path.read_text().splitlines()) == 100


@pytest.mark.parametrize('share', [0, .01, .5, .99])
def test_the_incomplete_line_of_a_killed_job_is_ignored_and_removed(
        path, share):
    append_result(path, 'before', {'AP': 1})
    whole = path.read_bytes()
    torn = json.dumps({'job': 'torn', 'AP': 2, 'last_epoch': {'loss': 1.5}})
    path.write_bytes(whole + torn[:round(share * len(torn))].encode())
    assert read_results(path) == {'before': {'AP': 1}}
    append_result(path, 'after', {'AP': 3})
    assert read_results(path) == {'before': {'AP': 1}, 'after': {'AP': 3}}
    assert path.read_bytes().startswith(whole)
    assert len(path.read_text().splitlines()) == 2


def test_a_killed_process_leaves_whole_lines(path):
    """Killed while it appends; what it had appended stays."""
    process = PROCESSES.Process(target=append_results, args=(path, 1))
    process.start()
    while len(read_results(path)) < 3:
        time.sleep(.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    left = dict(read_results(path))
    assert list(left.values()) == [
        {'text': '1' * 5000, 'number': int(job[2:])} for job in left]
    append_result(path, 'after', {})
    assert read_results(path) == {**left, 'after': {}}


def test_a_last_line_without_its_end_stays(path):
    """An editor may have removed the end."""
    append_result(path, 'before', {'AP': 1})
    path.write_bytes(path.read_bytes().rstrip(b'\n'))
    assert read_results(path) == {'before': {'AP': 1}}
    append_result(path, 'after', {'AP': 2})
    assert read_results(path) == {'before': {'AP': 1}, 'after': {'AP': 2}}


def test_a_line_that_the_disk_does_not_take_leaves_nothing(path, monkeypatch):
    append_result(path, 'before', {'AP': 1})
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError('No space left on device')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='No space'):
        append_result(path, 'after', {'AP': 2})
    assert path.read_bytes() == before


@pytest.mark.parametrize('line', ['', '{"job": "a"', '{"AP": 1}', '["job"]'])
def test_any_other_line_is_an_error_with_its_place(path, line):
    append_result(path, 'before', {})
    path.write_text(path.read_text() + line + '\n')
    append_result(path, 'after', {})
    with pytest.raises(ValueError, match=r'cells.jsonl, line 2: expected'):
        read_results(path)
