"""The runner of the measurements on a GPU; it runs here without one."""
import json
import os
import shlex
import time

import pytest
from on_gpu import COMMANDS, ROOT, Command, run


def test_all_fit_into_ten_minutes_and_exist():
    assert sum(command.limit for command in COMMANDS) <= 600
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
    for command in COMMANDS:
        first, *others = shlex.split(command.words)
        assert first == '-m' or (ROOT / first).is_file()
        for word in others:
            if word.startswith('configs/'):
                assert (ROOT / word).is_file()
            # Flags are the tool's own.
            if word.startswith('--') and first != '-m':
                assert f"'{word}'" in (ROOT / first).read_text()


def test_what_is_late_or_wrong_is_said_and_run_again(tmp_path, capsys):
    script = tmp_path / 'script.py'
    script.write_text('import sys, time\nprint(sys.argv[1], flush=True)\n'
                      'if float(sys.argv[2]):\n'
                      '    import subprocess\n'
                      '    child = subprocess.Popen([sys.executable, "-c",'
                      ' "import time; time.sleep(60)"])\n'
                      '    print(child.pid, flush=True)\n'
                      'time.sleep(float(sys.argv[2]))\n'
                      'sys.exit(int(sys.argv[3]))\n')

    def commands(wait, code):
        return (Command('good', f'{script} {{out}} 0 0', 60),
                Command('late', f'{script} b {wait} 0', 3),
                Command('wrong', f'{script} c 0 {code}', 60))

    out = tmp_path / 'out'
    run(commands(60, 3), out, 'a GPU')
    printed = capsys.readouterr().out.splitlines()
    assert [line.rsplit(',')[0] for line in printed] == [
        'good: done', 'late: not done in 3 s', 'wrong: failed with exit code 3'
    ]
    assert (out / 'good.txt').read_text() == f'{out}\n'
    word, child = (out / 'late.txt').read_text().split()
    assert word == 'b'
    with pytest.raises(ProcessLookupError):  # ended with its parent
        for _ in range(100):
            os.kill(int(child), 0)
            time.sleep(.05)
    results = json.loads((out / 'summary.json').read_text())
    assert [one['exit_code'] for one in results.values()] == [0, None, 3]
    assert {one['device'] for one in results.values()} == {'a GPU'}

    run(commands(0, 0), out, 'another GPU')
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(',')[0] for line in printed] == [
        'late: done', 'wrong: done']
    results = json.loads((out / 'summary.json').read_text())
    assert results['good']['device'] == 'a GPU'
    assert results['late']['seconds'] == pytest.approx(0, abs=3)
