"""What --budget-ms measures, with a clock of the test's own."""
import runpy
import sys
from pathlib import Path

import pytest
from mmdet.registry import MODELS

from mtpd.analysis.sizes import network_pass
from mtpd.deploy import latency
from mtpd.deploy.latency import Milliseconds

TOOL = Path(__file__).parents[2] / 'tools' / 'compress.py'


@pytest.fixture
def seconds(monkeypatch):
    """The passes take these seconds, and are run."""
    given = [.5, .004, .7]

    def timed(run):
        run()
        given.append(given.pop(0))
        return given[-1]

    monkeypatch.setattr(latency, 'timed', timed)


def test_the_fastest_pass_counts_in_onnxruntime(retinanet, seconds):
    measure = Milliseconds(lambda: (96, 64), network_pass)
    assert measure.runtime == ''
    assert measure(MODELS.build(retinanet)) == pytest.approx(4.)
    assert measure.runtime == 'onnxruntime'
    run = latency.file_pass(MODELS.build(retinanet), (96, 64))
    assert len(run()) == 4  # as a file of boxes without masks has


@pytest.mark.parametrize('missing', ['onnx', 'onnxruntime'])
def test_pytorch_measures_without_a_package(
        retinanet, seconds, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    measure = Milliseconds(lambda: (96, 64), network_pass)
    assert measure(MODELS.build(retinanet)) == pytest.approx(4.)
    assert measure.runtime.startswith('PyTorch (not onnxruntime: import of '
                                      f'{missing} halted')
    monkeypatch.undo()  # the first detector decides
    assert measure(MODELS.build(retinanet)) > 0
    assert measure.runtime.startswith('PyTorch')


def test_the_widest_slice_within_milliseconds(
        toy_in, tmp_path, monkeypatch, capsys):
    cfg = toy_in(tmp_path / 'work')
    checkpoint = cfg.pop('mtpd').student.checkpoint
    cfg.dump(str(tmp_path / 'my.py'))

    def pass_of(detector, size):
        assert tuple(size) == (96, 64)
        parameters = sum(one.numel() for one in detector.parameters())
        return lambda: parameters

    monkeypatch.setattr(latency, 'file_pass', pass_of)
    monkeypatch.setattr(latency, 'timed', lambda run: run() / 1e6)
    monkeypatch.chdir(tmp_path)

    def tool(budget):
        monkeypatch.setattr(sys, 'argv', [
            str(TOOL), 'my.py', checkpoint, '--budget-ms', str(budget)])
        runpy.run_path(str(TOOL), run_name='__main__')
        return capsys.readouterr()

    whole = sum(one.numel()
                for one in MODELS.build(cfg.model).parameters()) / 1e3
    printed = tool(whole / 2).out
    assert 'Milliseconds of one image: by onnxruntime.' in printed
    made, = tmp_path.glob('my_w*_start.pth')
    width = int(made.name.removeprefix('my_w').partition('_')[0])
    from mtpd.compress.narrow import narrowed
    from mtpd.compress.slicing import built
    sizes = [sum(one.numel() for one in built(narrowed(
        cfg.model, percent / 100).model).parameters()) / 1e3
        for percent in (width, width + 1)]
    assert sizes[0] <= whole / 2 < sizes[1]
    with pytest.raises(SystemExit) as stopped:
        tool(whole / 1e6)
    assert 'The nearest, with 5% of the channels, has' in str(
        stopped.value.code)
