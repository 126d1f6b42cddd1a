"""What cannot be exported is refused by name, and leaves nothing behind."""
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config

from commands import run_command
from mtpd.deploy import (NotExportable, export, export_onnx, support,
                         validation)
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
    ('rpn', 'RPN cannot be exported: it is a region proposal network by '
            'itself'),
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
            ('model.test_cfg.max_per_img', -1, 'the test_cfg of its bbox_head '
             'has max_per_img=-1, with which mmdet keeps all boxes but the l'),
            ('model.test_cfg.max_per_img', 0, 'max_per_img=0, with which mmdet'
             ' keeps no box'),
            ('model.test_cfg.nms_pre', 0, 'nms_pre=0, with which mmdet '),
            ('val_dataloader.dataset.pipeline.1',
             dict(type='RandomFlip', prob=1.), 'images by RandomFlip'),
            ('val_dataloader.dataset.pipeline.0',
             dict(type='LoadImageFromFile', color_type='grayscale'),
             "color_type='grayscale', and an exported detector"),
            ('val_dataloader.dataset.pipeline.0',
             dict(type='LoadImageFromFile', color_type='unchanged'),
             "color_type='unchanged'"),
            ('val_dataloader.dataset.pipeline', [],
             'has to begin with LoadImageFromFile')):
        config = changed(trained, 'other.py', **{key: value})
        with pytest.raises(UnusableInput, match=why):
            export_onnx(config, trained.checkpoint, 'a.onnx', images=1)


def test_an_rpn_that_proposes_nothing_is_named(detector_of):
    trained = detector_of('faster_rcnn')
    config = changed(trained, 'other.py', **{
        'model.test_cfg.rpn.max_per_img': 0})
    with pytest.raises(NotExportable, match='the test_cfg of its rpn_head has '
                       'max_per_img=0, with which mmdet keeps no box'):
        export_onnx(config, trained.checkpoint, 'a.onnx', images=1)


def test_soft_masks_and_sizes_that_mmdet_cannot_take(detector_of,
                                                     monkeypatch):
    trained = detector_of('mask_rcnn')
    config = changed(trained, 'soft.py', **{
        'model.test_cfg.rcnn.mask_thr_binary': -1})
    with pytest.raises(NotExportable, match='mask_thr_binary is -1.*to 0.5'):
        export_onnx(config, trained.checkpoint, 'a.onnx', images=1)
    trained = detector_of('retinanet')

    def fails(self, data):
        raise ValueError('Expected more than 1 value per channel')

    monkeypatch.setattr(BaseDetector, 'test_step', fails)
    with pytest.raises(NotExportable, match=r'mmdet itself fails on 1 image '
                       r'of \d+x\d+.*ValueError: Expected more than 1 value'):
        export_onnx(trained.config, trained.checkpoint, 'a.onnx', images=1)


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


@pytest.mark.parametrize('of_detector, of_file, decides, why', [
    ({'coco/bbox_mAP': .4, 'coco/bbox_mAP_s': -1}, {'coco/bbox_mAP': .385},
     True, ''),
    ({'coco/bbox_mAP': .4}, {'coco/bbox_mAP': .379}, None,
     'coco/bbox_mAP is 0.379 by the file and 0.400 by the detector, more '),
    # No box in the whole set: mmdet gives no metric.
    ({'coco/bbox_mAP': .4}, {}, None, 'is 0.000 by the file and 0.400'),
    ({}, {'coco/segm_mAP': .4}, None, 'is 0.400 by the file and 0.000'),
    ({}, {}, False, ''),  # or format_only
    ({'lvis/bbox_AP': .4, 'lvis/bbox_AP50': .6},
     {'lvis/bbox_AP': .3, 'lvis/bbox_AP50': .6}, None,
     'lvis/bbox_AP is 0.300'),
    ({'lvis/bbox_AP': .4}, {'lvis/bbox_AP': .41}, True, ''),
    ({'pascal_voc/mAP': .4}, {'pascal_voc/mAP': .3}, None, 'pascal_voc/mAP'),
    ({'mAP': .4}, {'mAP': float('nan')}, None, 'mAP is nan by the file'),
    ({'mAP': .4}, {'mAP': -1}, None, 'mAP is -1.000 by the file'),
    ({'mAP': float('nan')}, {'mAP': .4}, None, 'and nan by the detector'),
    # Of a test set without boxes.
    ({'coco/bbox_mAP': -1}, {'coco/bbox_mAP': -1}, False, ''),
    ({'mAP': float('nan')}, {'mAP': float('nan')}, False, ''),
    ({'mAP': 0.}, {'mAP': 0.}, True, ''),
    ({'coco/bbox_mAP_50': .9, 'coco/AR@100': .9},
     {'coco/bbox_mAP_50': .1, 'coco/AR@100': .1}, False, '')])
def test_which_metrics_tell_a_file_from_its_detector(
        monkeypatch, of_detector, of_file, decides, why):
    loop = SimpleNamespace(run=lambda: of_file)
    monkeypatch.setattr(
        validation, 'test_runner', lambda *_: SimpleNamespace(
            test=lambda: of_detector, test_loop=loop))
    monkeypatch.setattr(validation, 'OnnxDetector', lambda _: None)

    def compared():
        cfg = Config(dict(model={}, test_dataloader=dict(batch_size=4)))
        return validation.both_metrics(cfg, 'a.pth', Path('a.onnx'), .02)

    if decides is None:
        with pytest.raises(NotExportable, match=re.escape(why)):
            compared()
        return
    metrics = compared()
    assert metrics.keys() == {*of_detector, *of_file}
    assert validation.decide(metrics) is decides


def test_8_bits_are_always_checked(detector_of, monkeypatch):
    """The boxes are, where the AP of the test set tells nothing."""
    trained = detector_of('retinanet')
    config = changed(trained, 'format.py', **{
        'val_evaluator.format_only': True,
        'val_evaluator.outfile_prefix': 'results'})
    refused = []
    monkeypatch.setattr(
        export, '_refuse_other_boxes', lambda rows, within: refused.append(
            [within, len(rows)]))
    for metrics, checks in (({}, [ROUNDING, EIGHT_BITS]),
                            ({'mAP': (-1., -1.)}, [ROUNDING, EIGHT_BITS]),
                            ({'mAP': (.4, .39)}, [ROUNDING])):
        if metrics:
            monkeypatch.setattr(export, 'both_metrics', lambda *_: metrics)
        made = export_onnx(config, trained.checkpoint, 'a.onnx', calibrate=1,
                           images=1, validate=True, overwrite=True)
        assert made.metrics == metrics and made.calibrated == 1
        assert refused == [[within, 3] for within in checks]
        refused.clear()
    Path('a.onnx').unlink()


def test_a_torn_image_is_said_before_any_work(detector_of, drawn, folder,
                                              monkeypatch):
    trained = detector_of('retinanet')
    shutil.copytree(drawn, 'data')
    monkeypatch.setattr(export.MODELS, 'build', None)
    for split, part in (('train', 'train_dataloader.dataset names'),
                        ('val', 'The test set names')):
        image = sorted(Path('data', split).glob('*.png'))[0]
        whole = image.read_bytes()
        config = changed(trained, 'torn.py', **{
            f'{name}_dataloader.dataset.data_root': str(folder / 'data')
            for name in ('train', 'val')})
        cv2.imwrite(str(folder / 'thin.png'), np.zeros((2, 3000, 3), np.uint8))
        for content in (b'', whole[:40], (folder / 'thin.png').read_bytes()):
            image.write_bytes(content)
            with pytest.raises(UnusableInput, match=f'{part} .*{image.name}, '
                               'which cannot be read and resized'):
                export_onnx(config, trained.checkpoint, 'a.onnx',
                            calibrate=24)
        image.write_bytes(whole)


def test_a_file_is_replaced_only_if_asked_for(detector_of, folder):
    trained = detector_of('retinanet')
    path = folder / 'a.onnx'
    path.write_text('before')
    with pytest.raises(UnusableInput, match='a.onnx exists already. Add '
                       '--overwrite to replace it, or choose another name'):
        export_onnx(trained.config, trained.checkpoint, 'a.onnx')
    assert path.read_text() == 'before'
    path.unlink()
    path.symlink_to('elsewhere')
    with pytest.raises(UnusableInput, match='a.onnx exists already'):
        export_onnx(trained.config, trained.checkpoint, 'a.onnx')
    path.unlink()


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
                               r' pip install onnx onnxruntime .*\[onnx\]'):
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
                       match='Install it: pip install onnx onnxruntime '):
        OnnxDetector(str(path))
