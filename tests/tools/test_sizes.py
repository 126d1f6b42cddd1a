"""tools/sizes.py on thin detectors, and the light students it is for."""
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mtpd.analysis.sizes import parameters, test_size
from mtpd.distill.detector import build_detector
from mtpd.distill.inherit import inherit
from mtpd.distill.pyramid import pyramid_channels
from mtpd.plan.detectors import load_config
from shrink import shrunk

REPOSITORY = Path(__file__).parents[2]
# One of each kind: timm and torchvision, both heads, maps that end at 16.
STUDENTS = ('retinanet_mobilenetv3-small', 'retinanet_squeezenet',
            'gfl_shufflenetv2')


@pytest.fixture
def sizes(monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, 'argv', ['sizes.py', *map(str, words)])
        runpy.run_path(str(REPOSITORY / 'tools/sizes.py'),
                       run_name='__main__')
    return run


def written(tmp_path, name, model) -> Path:
    path = tmp_path / f'{name}.py'
    Config(dict(model=model)).dump(str(path))
    return path


def test_the_table(sizes, tmp_path, retinanet, swin_mask_rcnn, capsys):
    configs = [written(tmp_path, 'plain', retinanet),
               written(tmp_path, 'swin', swin_mask_rcnn)]
    out = tmp_path / 'table.md'
    sizes(*configs, '--shape', 96, 64, '--rounds', 3, '--processor-time',
          '--markdown', out)
    head, rule, *lines = out.read_text().split('\n\n')[0].splitlines()
    columns = [[cell.strip() for cell in line.strip('|').split('|')]
               for line in (head, *lines)]
    assert columns[0] == ['detector', 'input', 'parameters, M', 'GMACs',
                          'of it backbone', 'latency, ms', 'relative',
                          'box AP']
    assert [row[:2] + row[-1:] for row in columns[1:]] == [
        ['plain', '96x64', '-'], ['swin', '96x64', '-']]
    for row, model in zip(columns[1:], (retinanet, swin_mask_rcnn)):
        assert row[2] == f'{parameters(build_detector(model)) / 1e6:.2f}'
        assert 0 <= float(row[4]) <= float(row[3]) < 1
        for cell in row[5:7]:
            middle, low, high = (float(word.strip('[],'))
                                 for word in cell.split())
            assert 0 < low <= middle <= high
    assert columns[1][6] == '1.000 [1.000, 1.000]'
    printed = capsys.readouterr().out
    assert 'median of 3 rounds with its range' in printed
    assert printed.splitlines()[-1] in out.read_text()


def test_a_detector_that_takes_no_such_image_costs_no_other_its_row(
        sizes, tmp_path, retinanet, capsys):
    rtmdet = written(tmp_path, 'rtmdet', shrunk(load_config(
        'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py').model))
    plain = written(tmp_path, 'plain', retinanet)
    why = ('rtmdet.py: the detector takes no image of 100x100 '
           '.*Sizes of tensors must match.* Set --shape W H')
    with pytest.raises(SystemExit, match=why):
        sizes(rtmdet, plain, '--shape', 100, 100, '--rounds', 1)
    printed = capsys.readouterr().out
    assert 'plain' in printed and 'rtmdet' not in printed
    with pytest.raises(SystemExit, match=why):
        sizes(rtmdet, '--shape', 100, 100, '--rounds', 1)


def test_wrong_flags_and_configs_are_reported(sizes, tmp_path, retinanet,
                                              capsys):
    plain = written(tmp_path, 'plain', retinanet)
    with pytest.raises(SystemExit, match='Set --shape W H'):
        sizes(plain)
    (tmp_path / 'empty.py').write_text('a = 1')
    with pytest.raises(SystemExit, match='empty.py has no model'):
        sizes(tmp_path / 'empty.py')
    with pytest.raises(SystemExit):
        sizes(plain, '--processor-time', '--threads', 2)
    assert 'it needs --threads 1' in ' '.join(capsys.readouterr().err.split())
    for flags in (('--rounds', 0), ('--shape', 0, 64), ('--threads', 0)):
        with pytest.raises(SystemExit):
            sizes(plain, *flags)
        assert 'at least 1' in ' '.join(capsys.readouterr().err.split())


@pytest.mark.parametrize('name', STUDENTS)
def test_a_light_student_has_its_heads_levels(name):
    cfg = load_config(str(REPOSITORY / f'configs/light/{name}.py'))
    detector = build_detector(cfg.model)
    fast = name.startswith('gfl')
    assert pyramid_channels(detector) == dict.fromkeys(
        (8, 16, 32, 64, 128), 96 if fast else 128)
    assert test_size(cfg) == ((640, 400) if fast else (1333, 800))
    assert 1e6 < parameters(detector) < 5e6


@pytest.mark.parametrize('name', ['retinanet_r50_inherit_x101_swin',
                                  'mask-rcnn_r50_inherit_swin'])
def test_a_recipe_inherits_whole_parts(name):
    cfg = load_config(str(REPOSITORY / f'configs/recipes/{name}.py'))
    first = cfg.mtpd.teachers[cfg.mtpd.order[0]]
    weights = [build_detector(model).state_dict() for model in (
        cfg.model, load_config(first.config).model)]
    found = inherit(*weights, cfg.mtpd.inherit)
    assert found.taken and not found.left
