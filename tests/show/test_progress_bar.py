"""The bar and its estimates, by a clock that the tests set."""
import io
import re

import pytest
from rich.console import Console

from mtpd.show import progress_bar as progress
from mtpd.show.progress_bar import progress_bar


class Clock:
    now = 1000.

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, 'monotonic', clock)
    return clock


@pytest.fixture
def lines(monkeypatch) -> list[str]:
    """What is logged; there is no terminal."""
    lines = []
    monkeypatch.setattr(progress, 'Console',
                        lambda stderr: Console(file=io.StringIO()))

    def print_log(line: str, logger: str) -> None:
        assert logger == 'current'
        lines.append(line)

    monkeypatch.setattr(progress, 'print_log', print_log)
    return lines


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    """What stands on a terminal."""
    monkeypatch.setenv('TERM', 'xterm')
    file = io.StringIO()
    monkeypatch.setattr(progress, 'Console', lambda stderr: Console(
        file=file, force_terminal=True, color_system=None, width=100))
    return file


def frames(terminal: io.StringIO) -> list[str]:
    plain = re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', terminal.getvalue())
    return [frame.strip() for frame in re.split(r'[\r\n]+', plain)
            if frame.strip()]


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(clock, lines):
    with progress_bar('Costs') as update:
        update(0, 100)
        for done in range(4, 101, 4):  # 4 images in 3 seconds
            clock.now += 3
            update(done, 100)
    assert lines[:2] == [
        'Costs: 16 of 100 images, 1.33 images/s, 0:01:03 left',
        'Costs: 32 of 100 images, 1.33 images/s, 0:00:51 left']
    assert lines[-1] == ('Costs: 100 of 100 images, 1.33 images/s, '
                         '0:00:00 left')
    # 75 seconds, a line every fourth call of 3 seconds, and the end.
    assert len(lines) == 7


def test_what_was_done_before_is_not_taken_as_speed(clock, lines):
    with progress_bar('Costs') as update:
        update(9000, 10000)
        clock.now += 20
        update(9010, 10000)
    assert lines == [
        'Costs: 9010 of 10000 images, 0.5 images/s, 0:33:00 left']


def test_before_the_first_image_no_time_is_shown(clock, lines):
    with progress_bar('Costs') as update:
        update(5, 50)
        clock.now += 30
        update(5, 50)
    with progress_bar('Costs') as update:
        update(50, 50)
    assert lines == ['Costs: 5 of 50 images', 'Costs: 50 of 50 images']


def test_the_total_may_change(clock, lines):
    with progress_bar('Costs') as update:
        update(0, 20)
        for done, total in ((10, 20), (20, 40), (40, 40)):
            clock.now += 10
            update(done, total)
    assert [re.search('of.* images,|[0-9:]+ left', line)[0]
            + line.split(', ')[-1] for line in lines] == [
        'of 20 images,0:00:10 left', 'of 40 images,0:00:20 left',
        'of 40 images,0:00:00 left']


def test_a_terminal_has_a_bar(clock, terminal):
    with progress_bar('Costs') as update:
        update(40, 200)
        first = frames(terminal)[-1]
        clock.now += 10
        update(80, 200)
        second = frames(terminal)[-1]
        clock.now += 30
        update(200, 200)
    last = frames(terminal)[-1]
    assert first.startswith('Costs') and first.endswith('40 of 200 images')
    assert second.endswith('80 of 200 images, 4 images/s, 0:00:30 left')
    assert last.endswith('200 of 200 images, 4 images/s, 0:00:00 left')
    # Of 40 columns, without colour, those that are done.
    assert [frame.count('━')
            for frame in (first, second, last)] == [8, 16, 40]


def test_the_bar_ends_with_an_error(clock, terminal):
    with pytest.raises(KeyError), progress_bar('Costs') as update:
        update(1, 2)
        raise KeyError
    assert terminal.getvalue().endswith('\x1b[?25h')  # the cursor is back


def test_only_the_main_process_shows_anything(clock, lines, monkeypatch):
    monkeypatch.setattr(progress, 'is_main_process', lambda: False)
    with progress_bar('Costs') as update:
        update(0, 1)
        clock.now += 100
        update(1, 1)
    assert lines == []
