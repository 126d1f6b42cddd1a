"""tools/analyze.py on two toy runs, as a user types it."""
import json
import runpy
import sys

import numpy as np
import pytest
import torch

SMALL = ('--images', '3', '--grid', '3', '--directions', '2')


@pytest.fixture
def analyze(repository, monkeypatch, capsys):
    def run(*words) -> str:
        monkeypatch.setattr(sys, 'argv', list(map(str, (
            'tools/analyze.py', *words))))
        runpy.run_path(str(repository / 'tools/analyze.py'),
                       run_name='__main__')
        return capsys.readouterr().out
    return run


def test_two_runs_are_measured_alike(two_runs, analyze, tmp_path):
    out = tmp_path / 'out'
    weights = {path: path.read_bytes()
               for path in two_runs[0].rglob('*.pth')}
    printed = analyze(*two_runs, '--out', out, *SMALL, '--radius', '.05')
    content = json.loads((out / 'analysis.json').read_text())
    assert content['verdict'] == printed.splitlines()[-1 - len(
        content['verdict']):-1]
    for words in ('distilled (wide > swin) against trained on alone',
                  'Training detection loss on 3 training images',
                  'Validation box AP', 'at 0.05 of', 'One run each'):
        assert words in printed
    assert {'trajectory.png', 'landscape.png', 'analysis.json'} == {
        path.name for path in out.iterdir()}
    assert content['command'][1:3] == list(map(str, two_runs))
    assert content['versions']['torch'] == torch.__version__
    assert content['settings'] == dict(images=3, grid=3, range=1.,
                                       radius=.05, directions=2, seed=0)
    first, second = content['runs']
    for run, folder in ((first, two_runs[0]), (second, two_runs[1])):
        # The surface's middle, the last epoch and the student are one.
        end = np.mean(run['training_loss_by_batch'])
        assert run['training_loss'] == run['surface'][1][1] == end
        assert run['trajectory'][-1]['loss_measured'] == end
        assert len(run['trajectory']) == 4
        assert run['ap'] == pytest.approx(torch.load(
            folder / 'student.pth')['meta']['mtpd']['end_ap'])
        rises = np.array(run['rise_by_direction_and_batch']['own'])
        assert rises.shape == (2, 3)
        assert run['sharpness']['own'] == pytest.approx(rises.mean())
    differences = content['differences']
    assert differences['training_loss']['value'] == pytest.approx(
        first['training_loss'] - second['training_loss'])
    assert differences['sharpness']['common']['value'] == pytest.approx(
        first['sharpness']['common'] - second['sharpness']['common'])
    assert weights == {path: path.read_bytes()
                       for path in two_runs[0].rglob('*.pth')}


@pytest.mark.slow  # two analyses more
def test_an_analysis_is_the_same_again_and_of_a_run_beside_itself(
        two_runs, analyze, tmp_path):
    contents = []
    for name in ('one', 'again'):
        analyze(*two_runs, '--out', tmp_path / name, *SMALL)
        contents.append(json.loads(
            (tmp_path / name / 'analysis.json').read_text()))
    assert contents[0]['runs'] == contents[1]['runs']
    analyze(two_runs[0], two_runs[0], '--out', tmp_path / 'same', *SMALL)
    same = json.loads((tmp_path / 'same' / 'analysis.json').read_text())
    for found in (same['differences']['training_loss'],
                  same['differences']['ap'],
                  *same['differences']['sharpness'].values()):
        assert found['value'] == 0 and found['sign'] == 0
    assert same['norm_ratio'] == 1
    assert same['runs'][0]['surface'] == same['runs'][1]['surface']


def test_mistakes_end_with_a_message(two_runs, analyze, tmp_path):
    (tmp_path / 'file').touch()
    for words, flags in (
            ('--grid 4: expected an odd number', ['--grid', 4]),
            ('--images 1: expected at least 2', ['--images', 1]),
            ('--directions 1: expected at least 2', ['--directions', 1]),
            ('--seed -1: expected 0 or more', ['--seed', -1]),
            ('--radius 0.0: expected a number above 0', ['--radius', 0]),
            ('--out .* cannot be written', ['--out', tmp_path / 'file/x'])):
        with pytest.raises(SystemExit, match=words):
            analyze(*two_runs, '--out', tmp_path / 'out', *flags)
    with pytest.raises(SystemExit, match='holds no progression'):
        analyze(two_runs[0], tmp_path, '--out', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
