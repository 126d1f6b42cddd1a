"""SIGTERM, block by block."""
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest
from mmdet.evaluation import eval_map

from commands import run_command
from mtpd.stage import preemption
from mtpd.stage.preemption import (EXIT_CODE, Preempted, Stop, agreed_stop,
                                   interruptible, preemptible,
                                   stop_is_requested, stops_between_iterations,
                                   workers_may_end)


def told():
    os.kill(os.getpid(), signal.SIGTERM)


def test_outside_of_training_it_stops_at_once():
    done = []
    with pytest.raises(Preempted) as stop, preemptible():
        told()
        done.append('continued')
    assert stop.value.code == EXIT_CODE and not stop.value.agreed
    assert done == []


@pytest.mark.parametrize('number, end', [
    (signal.SIGTERM, Preempted), (signal.SIGINT, KeyboardInterrupt)])
def test_how_to_resume_is_said_as_each_tool_takes_it(monkeypatch, number, end):
    """tools/from_scratch.py has no --resume."""
    said = []
    monkeypatch.setattr(preemption, 'print_log',
                        lambda text, **_: said.append(text))
    # A shell's background job ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(end), preemptible():
            os.kill(os.getpid(), number)
    finally:
        signal.signal(signal.SIGINT, before)
    message, = said
    assert message.endswith(
        'The same command continues (tools/train.py with --resume).')


def test_training_continues_until_it_asks():
    done = []
    with pytest.raises(Preempted), preemptible():
        with stops_between_iterations():
            assert agreed_stop() is Stop.NO
            told()
            done.append('continued')
            assert stop_is_requested() and agreed_stop() is Stop.SOON
            assert agreed_stop(now=True) is Stop.NOW
        done.append('nobody acted, and the block has ended')
    assert done == ['continued']


def test_a_validation_within_training_is_interrupted():
    with preemptible(), stops_between_iterations(), interruptible():
        pass
    for early in (True, False):
        with pytest.raises(Preempted), preemptible(), \
                stops_between_iterations():
            if early:  # between the last question and the validation
                told()
            with interruptible():
                told()
                raise AssertionError('continued')


def test_whoever_catches_everything_does_not_hide_it():
    with pytest.raises(Preempted) as stop, preemptible():
        try:
            told()
        except:  # noqa: E722  as mmengine's Config.pretty_text does
            raise SyntaxError(  # noqa: B904  and this, too
                'Failed to format the config file')
    assert isinstance(stop.value.__cause__, SyntaxError)
    # Without a signal an error is what it is.
    with pytest.raises(SyntaxError), preemptible():
        raise SyntaxError


def test_the_former_handler_is_back():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        with pytest.raises(Preempted), preemptible():
            told()
        told()
        assert seen == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_process_ends_with_the_code(tmp_path):
    script = tmp_path / 'waits.py'
    script.write_text(
        'import os, signal, threading, time\n'
        'from mtpd.command_line import plain_errors\n'
        'from mtpd.stage.preemption import preemptible\n'
        'with plain_errors(), preemptible():\n'
        '    told = threading.Timer(.5, os.kill, (os.getpid(), '
        'signal.SIGTERM))\n'
        '    told.start()\n'
        '    time.sleep(60)\n')
    began = time.monotonic()
    done = run_command(script, cwd=tmp_path)
    assert done.returncode == EXIT_CODE, done.stderr
    assert time.monotonic() - began < 40
    assert 'Traceback' not in done.stderr


def ended_by(child: int) -> int:
    """The signal that has ended a child; it gets five seconds."""
    for _ in range(500):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert os.WIFSIGNALED(status), status
            return os.WTERMSIG(status)
        time.sleep(.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError('The child ignored SIGTERM.')


def forked_and_told() -> int:
    """A child that waits for ever. Most of them have not run at all when they
    are told to end, which is when Python would forget a signal."""
    child = os.fork()
    if not child:
        while True:
            time.sleep(60)
    os.kill(child, signal.SIGTERM)
    return child


def test_a_forked_process_ends_at_sigterm_as_without_mtpd(capfd):
    for _ in range(8):
        with preemptible():
            assert ended_by(forked_and_told()) == signal.SIGTERM
        with preemptible(), stops_between_iterations():
            assert ended_by(forked_and_told()) == signal.SIGTERM
            with interruptible():
                assert ended_by(forked_and_told()) == signal.SIGTERM
    # Pools replace lost workers in a thread.
    with preemptible(), stops_between_iterations(), workers_may_end():
        children = []
        thread = threading.Thread(
            target=lambda: children.append(forked_and_told()))
        thread.start()
        thread.join()
        assert ended_by(*children) == signal.SIGTERM
        assert not stop_is_requested()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    assert 'SIGTERM' not in ''.join(capfd.readouterr())


def test_a_child_does_not_inherit_the_request():
    def inherited(pipe):
        pipe.send((stop_is_requested(), signal.getsignal(signal.SIGTERM),
                   signal.pthread_sigmask(signal.SIG_BLOCK, [])))

    ours, childs = multiprocessing.Pipe()
    with pytest.raises(Preempted), preemptible(), stops_between_iterations():
        told()
        child = multiprocessing.get_context('fork').Process(
            target=inherited, args=(childs,))
        child.start()
        child.join()
    assert ours.recv() == (False, signal.SIG_DFL, set())


def test_pools_of_a_validation_end_at_once(capfd):
    """VOCMetric's, whose eval_map leaves its pool to the garbage collector."""
    generator = np.random.default_rng(0)
    boxes = generator.uniform(0, 50, (4, 3, 4))
    boxes[..., 2:] += boxes[..., :2]
    results = [[np.c_[each, np.ones(3)]] for each in boxes]
    annotations = [dict(bboxes=each, labels=np.zeros(3, int))
                   for each in boxes]
    began = time.monotonic()
    with preemptible(), stops_between_iterations():
        for _ in range(8):
            with interruptible():
                ap, _ = eval_map(results, annotations, logger='silent',
                                 nproc=4)
            assert ap == 1
        with interruptible(), multiprocessing.Pool(3) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
        pool.join()
    assert multiprocessing.active_children() == []
    assert time.monotonic() - began < 60
    assert 'SIGTERM' not in ''.join(capfd.readouterr())
