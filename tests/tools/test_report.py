"""The command as a user types it."""
import runpy
import sys

import pytest


@pytest.fixture
def report(repository, monkeypatch):
    """Runs tools/report.py with these words."""
    def run(*words) -> None:
        monkeypatch.setattr(sys, 'argv', ['report.py', *map(str, words)])
        runpy.run_path(str(repository / 'tools/report.py'),
                       run_name='__main__')
    return run


def test_a_page_of_a_progression_that_has_not_begun(toy, report, tmp_path,
                                                    capsys):
    cfg = toy()
    (tmp_path / 'work').mkdir()
    with pytest.raises(SystemExit, match='UnreadableHistory: .*no file '
                                         '.*config.py.*--config FILE'):
        report(tmp_path / 'work', '--no-measure')
    cfg.dump(str(tmp_path / 'user.py'))
    report(tmp_path / 'work', '--config', tmp_path / 'user.py',
           '--no-measure', '--images', 0)
    out = tmp_path / 'work' / 'report.html'
    assert capsys.readouterr().out.endswith(f'{out}\n')
    assert 'none of 2 stages has started' in out.read_text()
    with pytest.raises(SystemExit, match='--control .* holds no progres'):
        report(tmp_path / 'work', '--config', tmp_path / 'user.py',
               '--control', tmp_path)
    other = tmp_path / 'pages' / 'one.html'
    cfg.dump(str(tmp_path / 'work' / 'config.py'))
    report(tmp_path / 'work', '--out', other, '--no-measure')
    assert 'ground truth' in other.read_text()


def test_mistakes_end_with_a_message(report, tmp_path, capsys):
    with pytest.raises(SystemExit, match='no folder .*gone'):
        report(tmp_path / 'gone')
    with pytest.raises(SystemExit):
        report(tmp_path, '--images', -1)
    assert '--images is -1' in capsys.readouterr().err
