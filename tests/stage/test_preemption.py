"""SIGTERM, block by block."""
import os
import signal
import subprocess
import sys
import time

import pytest

from mtpd.stage.preemption import (EXIT_CODE, Preempted, Stop, agreed_stop,
                                   interruptible, preemptible,
                                   stop_is_requested, stops_between_iterations)


def told():
    os.kill(os.getpid(), signal.SIGTERM)


def test_outside_of_training_it_stops_at_once():
    done = []
    with pytest.raises(Preempted) as stop, preemptible():
        told()
        done.append('continued')
    assert stop.value.code == EXIT_CODE and not stop.value.agreed
    assert done == []


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
        'import time\n'
        'from mtpd.command_line import plain_errors\n'
        'from mtpd.stage.preemption import preemptible\n'
        'with plain_errors(), preemptible():\n'
        '    print("ready", flush=True)\n'
        '    time.sleep(60)\n')
    process = subprocess.Popen([sys.executable, str(script)], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.stdout.readline() != 'ready\n':
        assert process.poll() is None, process.stderr.read()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == EXIT_CODE
    assert time.monotonic() - began < 20
    assert 'Traceback' not in process.stderr.read()
