"""What cannot be exported is refused by name, and leaves nothing behind."""
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from commands import run_command
from mtpd.deploy import NotExportable, export, export_onnx, support
from mtpd.deploy.agreement import EIGHT_BITS, ROUNDING, Agreement
from mtpd.deploy.network import dense_head
from mtpd.distill.detector import CheckpointMismatch
from mtpd.predict import OnnxDetector, OnnxPredictor, UnusableInput


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """Where nothing may be left."""
    os.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.glob('*.onnx*'))


def changed(trained, path: str, **changes) -> str:
    """A copy of a detector's config with other values."""
    cfg = Config.fromfile(trained.config)
    cfg.merge_from_dict(changes)
    cfg.dump(path)
    return path


@pytest.mark.parametrize('name,why', [
    ('cascade', 'CascadeRCNN cannot be exported: its roi_head '
                'CascadeRoIHead predicts in another way'),
    ('dcn', r"is DeformConv2dPack, an operator of mmcv's own"),
    ('swin', r'is WindowMSA: Swin\'s windows are counted in Python'),
    ('detr', 'DETR cannot be exported: it predicts neither in one stage nor')])
def test_other_detectors_are_named(detector_of, name, why):
    trained = detector_of(name)
    with pytest.raises(NotExportable, match=why):
        export_onnx(trained.config, trained.checkpoint, 'a.onnx', images=1)


def test_settings_that_a_file_cannot_follow(detector_of):
    trained = detector_of('retinanet')
    for key, value, why in (
            ('model.test_cfg.nms.type', 'soft_nms', "'type': 'soft_nms'"),
            ('model.test_cfg.min_bbox_size', 3, 'min_bbox_size is 3'),
            ('val_dataloader.dataset.pipeline.1',
             dict(type='RandomFlip', prob=1.), 'images by RandomFlip'),
            ('val_dataloader.dataset.pipeline', [],
             'has to begin with LoadImageFromFile')):
        config = changed(trained, 'other.py', **{key: value})
        with pytest.raises(UnusableInput, match=why):
            export_onnx(config, trained.checkpoint, 'a.onnx', images=1)


def test_sizes_that_a_trace_has_fixed_are_found(detector_of, monkeypatch):
    trained = detector_of('swin')
    monkeypatch.setattr(support, '_FOR_ONE_SIZE', {})
    with pytest.raises(NotExportable, match='onnxruntime fails on 1 image of '
                       r'\d+x\d+ .*works only for what it was traced with'):
        export_onnx(trained.config, trained.checkpoint, 'a.onnx', images=1)


def test_a_file_that_finds_other_boxes_is_not_written(detector_of,
                                                      monkeypatch):
    trained = detector_of('retinanet')
    monkeypatch.setattr(dense_head, 'clip', lambda boxes, size: boxes)
    with pytest.raises(NotExportable, match='finds other boxes than the '
                       r'detector in test images: \d+ and \d+, of which \d+ '):
        export_onnx(trained.config, trained.checkpoint, 'a.onnx', images=1)


def test_how_far_apart_is_too_far():
    def row(matched: int, pixels=None) -> Agreement:
        return Agreement('test images', 8, 100, 100, matched, .2, .001, pixels)
    refuse = export._refuse_other_boxes
    refuse([row(99), row(100, (990, 1000)), row(100, (0, 0))], ROUNDING)
    refuse([row(50), row(50, (500, 1000))], EIGHT_BITS)
    for rows, within, why in (
            ([row(100), row(98)], ROUNDING, 'in test images: 100 and 100, of '
             'which 98 are the same. It was not written. A part'),
            ([row(100, (980, 1000))], ROUNDING, 'with 98% of their masks'),
            ([row(49)], EIGHT_BITS, 'more than 8 bits should change')):
        with pytest.raises(NotExportable, match=why):
            refuse(rows, within)


def test_what_is_missing_is_said_before_any_work(detector_of, monkeypatch,
                                                 folder):
    trained = detector_of('retinanet')
    other = detector_of('cascade')
    Path('file').touch()
    no_train = changed(trained, 'no_train.py', train_dataloader=None)
    no_labels = changed(trained, 'no_labels.py', **{
        'train_dataloader.dataset.ann_file': 'annotations/gone.json'})
    no_images = changed(trained, 'no_images.py', **{
        'train_dataloader.dataset.data_prefix.img': 'gone/'})
    Path('empty.py').write_text('')
    given = dict(config=trained.config, checkpoint=trained.checkpoint,
                 out='a.onnx')
    for changes, kind, why in (
            (dict(config='gone.py'), FileNotFoundError, 'gone.py'),
            (dict(config='empty.py'), UnusableInput, 'has no model'),
            (dict(checkpoint='gone.pth'), FileNotFoundError,
             'There is no checkpoint at'),
            (dict(checkpoint=other.checkpoint), CheckpointMismatch,
             'is not a checkpoint of this RetinaNet'),
            (dict(out='a.pth'), UnusableInput, 'ends in .onnx'),
            (dict(out='file/a.onnx'), UnusableInput, 'cannot be written to'),
            (dict(out='/proc/a.onnx'), UnusableInput, 'cannot be written to'),
            (dict(config=no_train, calibrate=2), UnusableInput,
             'no_train.py has no train_dataloader.dataset'),
            (dict(config=no_labels, calibrate=2), UnusableInput,
             'train_dataloader.dataset cannot be read .*gone.json'),
            (dict(config=no_images, calibrate=2), UnusableInput,
             r'gone/\S+ is missing')):
        with pytest.raises(kind, match=why):
            export_onnx(**{**given, **changes})
    for package in ('onnx', 'onnxruntime'):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(UnusableInput, match=f"{package}.*Install them:"
                               r" pip install 'mtpd\[onnx\]'"):
                export_onnx(**given)


def test_the_command_shows_no_traceback(detector_of, repository, folder):
    trained = detector_of('cascade')
    done = run_command(
        repository / 'tools/export_onnx.py', trained.config,
        trained.checkpoint, '--out', 'a.onnx', cwd=folder)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert done.stderr.startswith('NotExportable: CascadeRCNN cannot be')


def model_of(opset: int = 17, **texts) -> bytes:
    """An ONNX file that passes its input on."""
    from onnx import TensorProto, helper
    values = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1])
              for name in ('images', 'boxes')]
    model = helper.make_model(
        helper.make_graph([helper.make_node('Identity', ['images'],
                                            ['boxes'])],
                          'graph', values[:1], values[1:]),
        opset_imports=[helper.make_opsetid('', opset)])
    model.ir_version = 8
    helper.set_model_props(model, texts)
    return model.SerializeToString()


def test_files_that_cannot_be_predicted_with(folder, monkeypatch):
    from onnxruntime import __version__
    path = folder / 'model'
    whole = model_of(pipeline='[]', classes='[]')
    with pytest.raises(UnusableInput, match='There is no file'):
        OnnxDetector(str(path))
    for content, why in (
            (b'', f'onnxruntime {__version__} cannot read .* is incomplete'),
            (whole[:len(whole) // 2], 'is incomplete, or needs a newer'),
            (np.random.default_rng(0).bytes(300), 'is incomplete'),
            (model_of(opset=99), 'needs a newer onnxruntime'),
            (model_of(), 'was not written by tools/export_onnx.py'),
            (model_of(pipeline='{', classes='[]'), 'was not written by'),
            (model_of(pipeline='[3]', classes='[]'), 'was not written by')):
        path.write_bytes(content)
        with pytest.raises(UnusableInput, match=why):
            OnnxDetector(str(path))
    path.write_bytes(model_of(classes='["a"]', pipeline=json.dumps(
        [dict(type='LoadImageFromFile'), dict(type='os.system')])))
    with pytest.raises(UnusableInput, match='changes images by system'):
        OnnxPredictor(str(path), 'cpu', .3)
    for device in ('cuda:0', 'gpu', 'cpu:1'):
        with pytest.raises(UnusableInput, match=f'--device {device}: the '
                           'installed onnxruntime has'):
            OnnxDetector(str(path), device)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(UnusableInput,
                       match=r"Install it: pip install 'mtpd\[onnx\]'"):
        OnnxDetector(str(path))
