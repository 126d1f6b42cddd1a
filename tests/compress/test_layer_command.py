"""tools/compress.py --conv-cfg and --merge: files, training, refusals."""
import copy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.compress.layers import (BinaryWeightConv2d, LowRankConv2d,
                                  XNORConv2d)
from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import load_config
from mtpd.progression import check, run_progression


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_three_files_are_written_and_merged_again(mine, tool, tmp_path,
                                                  capsys):
    folder, _ = mine
    tool('my.py', 'my.pth', '--conv-cfg', 'LowRankConv2d', '--rank', .25,
         '--scheme', 'spatial', '--parts', 'backbone', 'bbox_head', '--images',
         4, '--out', tmp_path)
    out = capsys.readouterr().out
    assert 'Batch norms measured on 4 training images.' in out
    assert '22 convolutions changed' in out
    name = 'my_lowrank_spatial_r25'
    assert names(tmp_path) == {f'{name}.py', f'{name}_start.pth',
                               f'{name}_mtpd.py'}
    cfg = Config.fromfile(str(tmp_path / f'{name}.py'))
    assert cfg.custom_imports.imports == ['mtpd']
    assert cfg.model.backbone.conv_cfg == cfg.model.bbox_head.conv_cfg == dict(
        type='LowRankConv2d', rank=.25, scheme='spatial', plain_channels=3)
    assert not cfg.model.neck.get('conv_cfg')
    weights = read_checkpoint(cfg.load_from)
    layered = MODELS.build(copy.deepcopy(cfg.model)).eval()
    layered.load_state_dict(weights['state_dict'], strict=True)
    assert weights['meta']['dataset_meta']['classes'][0] == 'disc'
    taught = load_config(str(tmp_path / f'{name}_mtpd.py'))
    assert list(taught.mtpd.teachers) == ['original']
    assert check(taught).problems == []

    tool(tmp_path / f'{name}.py', cfg.load_from, '--merge')
    plain = Config.fromfile(str(tmp_path / f'{name}_plain.py'))
    assert 'mtpd' not in plain.pretty_text.replace(str(tmp_path), '')
    assert plain.model.backbone.conv_cfg is None
    merged = build_detector(plain.model, plain.load_from).eval()
    assert not any(isinstance(one, LowRankConv2d) for one in merged.modules())
    original = load_config(str(folder / 'my.py')).model
    assert merged.state_dict().keys() == \
        build_detector(original).state_dict().keys()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for one, other in zip(merged(x), layered(x)):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_what_was_merged_gets_other_convolutions(mine, tool, tmp_path):
    """Its config has ``conv_cfg=None``, where mmengine merges no dict."""
    tool('my.py', 'my.pth', '--conv-cfg', 'LowRankConv2d', '--images', 4,
         '--out', tmp_path)
    tool(tmp_path / 'my_lowrank.py', tmp_path / 'my_lowrank_start.pth',
         '--merge', '--out', tmp_path)
    with open(tmp_path / 'my_lowrank_plain.py', 'a') as file:
        file.write('custom_imports = None\n')
    tool(tmp_path / 'my_lowrank_plain.py', tmp_path / 'my_lowrank_plain.pth',
         '--conv-cfg', 'BinaryWeightConv2d', '--images', 4, '--out', tmp_path)
    taught = load_config(str(tmp_path / 'my_lowrank_plain_binary_mtpd.py'))
    assert taught.model.backbone.conv_cfg == dict(type='BinaryWeightConv2d',
                                                  plain_channels=3)
    assert taught.custom_imports == dict(imports=['mtpd'])
    assert check(taught).problems == []


def test_a_student_of_all_three_trains_resumes_and_is_exported(
        mine, tool, toy_in, tmp_path, capsys):
    folder, _ = mine
    tool('my.py', 'my.pth', '--conv-cfg', 'XNORConv2d', '--images', 8, '--out',
         tmp_path)
    cfg = Config.fromfile(str(tmp_path / 'my_xnor.py'))
    weights = read_checkpoint(cfg.load_from)['state_dict']
    key = 'backbone.layer1.0.conv1.norm.running_mean'
    assert weights[key].abs().max() > .01  # of what comes after a ReLU
    with pytest.raises(SystemExit, match='XNORConv2d, which take the sign'):
        tool(tmp_path / 'my_xnor.py', cfg.load_from, '--merge')
    assert 'my_xnor_plain.py' not in names(tmp_path)

    cfg = toy_in(tmp_path / 'work', order=['wide'],
                 student=dict(checkpoint=None))
    cfg.train_cfg.max_epochs = 1
    cfg.model.backbone.conv_cfg = dict(type='XNORConv2d', plain_channels=3)
    cfg.model.neck.conv_cfg = dict(type='LowRankConv2d', rank=.5)
    cfg.model.bbox_head.conv_cfg = dict(type='BinaryWeightConv2d')
    before = build_detector(cfg.model)
    assert {type(one) for one in before.modules()} >= {
        XNORConv2d, LowRankConv2d, BinaryWeightConv2d}
    done = run_progression(copy.deepcopy(cfg), with_probe=False)
    again = run_progression(copy.deepcopy(cfg), resume=True)
    assert again.student == done.student
    student = read_checkpoint(done.student)['state_dict']
    assert student.keys() == before.state_dict().keys()

    pytest.importorskip('onnx')
    from mtpd.deploy import export_onnx
    from mtpd.predict import OnnxDetector
    plain = Config(dict(cfg._cfg_dict))
    plain.pop('mtpd')
    plain.dump(str(tmp_path / 'student.py'))
    out = str(tmp_path / 's.onnx')
    exported = export_onnx(str(tmp_path / 'student.py'),
                           done.student, out, images=2)
    assert [row.name for row in exported.rows['float32']] == [
        'test images', 'another size', 'a batch of two']
    for row in exported.rows['float32']:
        assert 2 * row.matched >= .99 * (row.expected + row.found) > 0
    import onnx
    graph = onnx.load(out).graph
    constant = {one.name for one in graph.initializer}
    # Weights are numbers, but for the signs of XNOR's.
    assert {node.name.split('/')[1] for node in graph.node
            if node.op_type == 'Conv' and node.input[1] not in constant} == {
        'backbone'}
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 160),
                                              np.uint8)
    assert len(OnnxDetector(out)(image)) == 1


WRONG = {
    'rank 0': (['my.py', 'my.pth', '--conv-cfg', 'LowRankConv2d', '--rank', 0],
               'is 0.0; it has to be above 0'),
    'rank 2': (['my.py', 'my.pth', '--conv-cfg', 'LowRankConv2d', '--rank', 2],
               'is 2.0; it has to be above 0 and at most 1'),
    'type': (['my.py', 'my.pth', '--conv-cfg', 'LowRank'], '2'),
    'part': (['my.py', 'my.pth', '--conv-cfg', 'XNORConv2d', '--parts',
              'roi_head'], '--parts: the model has no roi_head'),
    'architecture': (['my.py', 'WIDE', '--conv-cfg', 'XNORConv2d'],
                     'is not a checkpoint of this RetinaNet'),
    'nothing to merge': (['my.py', 'my.pth', '--merge'], 'so there is nothing '
                         'to merge'),
    'no backbone': (['SEMI', 'my.pth', '--conv-cfg', 'XNORConv2d'],
                    'model is a SoftTeacher without a backbone'),
    'no backbone to merge': (['SEMI', 'my.pth', '--merge'],
                             'model is a SoftTeacher without a backbone'),
    'no checkpoint': (['my.py', 'our.pth', '--merge'], 'There is no '
                      'file our.pth'),
    'no config': (['our.py', 'my.pth', '--merge'], 'There is no config '
                  'our.py'),
    'both': (['my.py', 'my.pth', '--merge', '--width', .5], '2'),
    'rank of signs': (['my.py', 'my.pth', '--conv-cfg', 'XNORConv2d', '--rank',
                       .5], '2'),
    'parts of a slice': (['my.py', 'my.pth', '--width', .5, '--parts',
                          'neck'], '2')}
USAGE = {'type': 'invalid choice', 'both': 'stand alone',
         'rank of signs': '--rank needs --conv-cfg LowRankConv2d',
         'parts of a slice': '--parts needs --conv-cfg'}


@pytest.mark.parametrize('case', WRONG)
def test_what_is_wrong_is_said_and_nothing_is_written(case, mine, tool,
                                                      capsys):
    folder, teachers = mine
    words, message = WRONG[case]
    Config(dict(model=dict(type='SoftTeacher', detector=dict()))).dump(
        str(folder / 'semi.py'))
    words = [dict(WIDE=teachers.wide.checkpoint, SEMI='semi.py').get(
        word, word) for word in words]
    before = names(folder)
    with pytest.raises(SystemExit) as error:
        tool(*words, '--out', 'new')
    assert error.match(message) and 'Traceback' not in str(error.value)
    assert USAGE.get(case, '') in capsys.readouterr().err
    assert names(folder) == before


@pytest.mark.parametrize('conv_cfg, message', [
    (dict(type='LowRankConv2d', rank=0), 'LowRankConv2d is 0; it has to be'),
    (dict(type='LowRankConv'), "'LowRankConv' is not known; did you mean "
     "'LowRankConv2d'")])
def test_a_config_with_a_wrong_layer_is_refused_before_training(
        toy, conv_cfg, message):
    cfg = toy()
    cfg.model.backbone.conv_cfg = conv_cfg
    problems = check(cfg).problems
    assert message in ' '.join(problems)
