"""Files of every family find what mmdet finds."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample

from commands import run_command
from mtpd.deploy import export_onnx
from mtpd.deploy.int8 import quantize
from mtpd.deploy.metadata import lower_threshold, write_metadata
from mtpd.deploy.network import test_cfg_of as cfg_of
from mtpd.deploy.network.candidates import best
from mtpd.deploy.trace import trace_file
from mtpd.distill.detector import load_weights
from mtpd.predict import (OnnxDetector, OnnxPredictor, Predictor,
                          UnusableInput)

IMAGES = {'one': (1, 96, 160), 'other': (1, 128, 96), 'two': (2, 64, 128)}


def built(trained):
    from mmdet.registry import MODELS
    detector = MODELS.build(trained.cfg.model.copy())
    load_weights(detector, trained.checkpoint, 'the checkpoint')
    return detector.eval()


def by_mmdet(detector, images):
    samples = [DetDataSample(metainfo=dict(
        img_shape=images.shape[2:], ori_shape=images.shape[2:],
        scale_factor=(1., 1.))) for _ in images]
    with torch.no_grad():
        results = detector.test_step(dict(
            inputs=list(torch.from_numpy(images)), data_samples=samples))
    return [one.pred_instances for one in results]


@pytest.fixture(scope='session')
def exported(detector_of, tmp_path_factory):
    """A family's detector and its file, with what the export returned."""
    made = {}

    def export(name):
        if name not in made:
            trained = detector_of(name)
            out = str(tmp_path_factory.mktemp('onnx') / f'{name}.onnx')
            trained.result = export_onnx(trained.config, trained.checkpoint,
                                         out, images=2)
            trained.file = out
            made[name] = trained
        return made[name]
    return export


@pytest.mark.parametrize('name', [
    'retinanet', 'fcos', 'gfl', 'atss', 'rtmdet', 'faster_rcnn', 'mask_rcnn'])
def test_boxes_are_those_of_mmdet_in_any_batch_and_size(exported, name):
    trained = exported(name)
    rows = trained.result.rows['float32']
    assert [row.name for row in rows] == ['test images', 'another size',
                                          'a batch of two']
    assert [row.images for row in rows] == [2, 1, 2]
    for row in rows:
        assert row.expected > 0
        assert 2 * row.matched >= .99 * (row.expected + row.found)
        assert row.box < .01 and row.score < 1e-4
    model, detector = OnnxDetector(trained.file), built(trained)
    assert model.about['classes'] == ['disc', 'triangle', 'square', 'star',
                                      'cross']
    assert model.about['input'].startswith('uint8, (batch, 3, height, width)')
    rng = np.random.default_rng(1)
    found_any = 0
    for shape in IMAGES.values():
        images = rng.integers(0, 256, (shape[0], 3, *shape[1:]), np.uint8)
        for one, expected in zip(model(images), by_mmdet(detector, images)):
            assert len(one.boxes) == len(expected)
            np.testing.assert_array_equal(one.labels, expected.labels)
            np.testing.assert_allclose(one.scores, expected.scores, atol=1e-4)
            np.testing.assert_allclose(one.boxes, expected.bboxes, atol=1e-2)
            found_any += len(expected)
    assert found_any > 20


def test_predict_takes_both_alike(exported, drawn, tmp_path):
    """With resize, scale and masks."""
    image = cv2.imread(str(sorted((drawn / 'val').glob('*.png'))[0]))
    image = cv2.resize(image, (111, 83))
    for name in ('mask_rcnn', 'rtmdet'):
        trained = exported(name)
        samples = [predictor.predict(image).pred_instances for predictor in (
            Predictor(trained.config, trained.checkpoint, 'cpu', .05),
            OnnxPredictor(trained.file, 'cpu', .05))]
        expected, found = samples
        assert len(expected) == len(found) > 5
        np.testing.assert_allclose(found.bboxes, expected.bboxes, atol=1e-2)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        if name == 'mask_rcnn':
            assert found.masks.shape == (len(found), 83, 111)
            assert (found.masks == expected.masks).float().mean() > .9999
            assert found.masks.any()


def test_channels_are_in_the_order_that_the_network_was_trained_with(
        exported):
    """FCOS in caffe style takes BGR, RetinaNet RGB; both files take BGR."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (1, 3, 64, 96), np.uint8)
    images[:, 0] //= 4  # hardly blue
    for name, flips in (('fcos', False), ('retinanet', True)):
        trained = exported(name)
        model, detector = OnnxDetector(trained.file), built(trained)
        assert detector.data_preprocessor._channel_conversion == flips
        assert model.about['pad_size_divisor'] == 32
        right, = model(images)
        wrong, = model(np.ascontiguousarray(images[:, ::-1]))
        expected, = by_mmdet(detector, images)
        np.testing.assert_allclose(right.scores, expected.scores, atol=1e-4)
        assert len(wrong.scores) != len(right.scores) or \
            np.abs(wrong.scores - right.scores).max() > .005


def test_the_commands(exported, detector_of, drawn, repository, tmp_path):
    """Eight bits with the AP of both, and boxes for files without a config."""
    trained = detector_of('retinanet')
    done = run_command(
        repository / 'tools/export_onnx.py', trained.config,
        trained.checkpoint, '--out', 'small/s.onnx', '--int8', '--calibrate',
        30, '--images', 2, '--validate', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ('float32, a batch of two', 'int8, test images',
                 'coco/bbox_mAP ', 'small/s.onnx: 0.',
                 '8 bits: calibrated with 24 training images; there are no '
                 'more, and 30 were asked for.'):
        assert text in done.stdout
    assert 'Traceback' not in done.stderr and 'WARNING' not in done.stderr
    assert [path.name for path in (tmp_path / 'small').iterdir()] == ['s.onnx']
    import onnx
    model = onnx.load(tmp_path / 'small' / 's.onnx')
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count('QuantizeLinear') > 10 and 'QLinearConv' not in kinds
    signed = {one.data_type for one in model.graph.initializer
              if one.name.endswith('_quantized') and len(one.dims) == 4}
    assert signed == {onnx.TensorProto.INT8}
    about = {one.key: json.loads(one.value) for one in model.metadata_props}
    assert about['precision'] == 'int8'
    assert about['input_size'] == [120, 72]
    assert about['strides'] == [8, 16, 32, 64, 128]
    assert about['mmdet'] == '3.3.0'

    image = sorted((drawn / 'val').glob('*.png'))[0]
    boxes = []
    for detector in ([exported('retinanet').file],
                     [trained.config, trained.checkpoint]):
        done = run_command(repository / 'tools/predict.py', *detector, image,
                           '--threshold', .05, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        content = json.loads(
            (tmp_path / 'predictions' / 'predictions.json').read_text())
        boxes.append(content['images'][0]['detections'])
        assert Path(tmp_path, 'predictions', image.name).exists()
    assert len(boxes[0]) == len(boxes[1]) > 5
    for one, other in zip(*boxes):
        assert one['class'] == other['class']
        assert one['box'] == pytest.approx(other['box'], abs=.02)
    done = run_command(repository / 'tools/predict.py', 's.onnx',
                       cwd=tmp_path)
    assert done.returncode == 2 and 'expected a config, a checkpoint and an ' \
        'input, or an .onnx file and an input' in done.stderr


@pytest.mark.parametrize('name, threshold', [
    ('retinanet', 0.), ('faster_rcnn', .5), ('fcos', 1.)])
def test_a_threshold_is_a_constant_of_its_own(detector_of, tmp_path, name,
                                              threshold):
    """Though others of the file have its value: 0, a half, a scale's 1."""
    import onnx
    trained = detector_of(name)
    detector = built(trained)
    cfg_of(detector).score_thr = threshold
    for scale in detector.bbox_head.scales if name == 'fcos' else ():
        scale.scale.data.fill_(1.)
    images = np.random.default_rng(5).integers(0, 256, (2, 3, 64, 96),
                                               np.uint8)
    trace_file(detector, images, tmp_path / 'float.onnx')
    quantize(tmp_path / 'float.onnx', tmp_path / 'int8.onnx', images,
             threshold)
    for kind in ('float', 'int8'):
        path = tmp_path / f'{kind}.onnx'
        found = []
        for value in (threshold, 0., .25):
            lower_threshold(path, tmp_path / 'new.onnx', value)
            model = onnx.load(tmp_path / 'new.onnx')
            constants = {one.name: onnx.numpy_helper.to_array(one)
                         for one in model.graph.initializer}
            assert constants.pop('score_threshold') == np.float32(value)
            found.append(constants)
            used = [node.op_type for node in model.graph.node
                    if 'score_threshold' in node.input]
            assert set(used) == {'Greater'}
        for constants in found[1:]:
            np.testing.assert_equal(constants, found[0])


def test_an_image_without_boxes(exported, tmp_path):
    """Alone and beside one that has some."""
    for name in ('retinanet', 'faster_rcnn', 'mask_rcnn'):
        trained = exported(name)
        path = tmp_path / 'none.onnx'
        rng = np.random.default_rng(3)
        images = rng.integers(0, 256, (2, 3, 64, 96), np.uint8)
        images[0] = 128
        flat, noise = OnnxDetector(trained.file)(images)
        one = min(flat.scores.max(), noise.scores.max())
        lower_threshold(Path(trained.file), path, float(one))
        model = OnnxDetector(str(path))
        together = model(images)
        counts = [len(found.boxes) for found in together]
        assert min(counts) == 0 < max(counts)
        for number, found in enumerate(together):
            alone, = model(images[number:number + 1])
            for values, expected in zip(found[:3], alone[:3]):
                np.testing.assert_allclose(values, expected, atol=1e-3)
        lower_threshold(Path(trained.file), path, 1.)
        model = OnnxDetector(str(path))
        for found in model(images):
            assert found.boxes.shape == (0, 4) and found.labels.shape == (0,)
            assert (found.masks is None) == (name != 'mask_rcnn')


@pytest.mark.parametrize('threshold, most, kept', [
    (None, 3, 3), (None, -1, 5), (None, 9, 5),
    (.5, 3, 3), (.5, -1, 4), (.75, 9, 2),
    (.95, 9, 1), (1., -1, 1)])  # one, though none is above
def test_no_more_scores_are_kept_than_pass(threshold, most, kept):
    scores = torch.tensor([[.1, .9, .2, .5, .7], [.6, .8, .75, .5, .9]])
    values, places = best(
        scores, most, None if threshold is None else torch.tensor(threshold))
    assert values.tolist() == scores.sort(descending=True)[0][
        :, :kept].tolist()
    assert torch.equal(scores.gather(1, places), values)


@pytest.mark.parametrize('damage', [
    lambda data, at: data.__setitem__(at, data[at] ^ 0x80),
    lambda data, at: data.__setitem__(at, data[at] ^ 1)])
def test_damaged_metadata_is_said(exported, tmp_path, damage):
    data = bytearray(Path(exported('retinanet').file).read_bytes())
    damage(data, data.rfind(b'keep_ratio') + 1)
    path = tmp_path / 'damaged.onnx'
    path.write_bytes(data)
    with pytest.raises(UnusableInput, match='damaged.onnx .*Export the '
                       'detector'):
        OnnxPredictor(str(path), 'cpu', .3)


def test_a_trace_without_boxes_finds_the_same(exported, tmp_path):
    """As one of a trained detector is, which is given a black image."""
    trained = exported('mask_rcnn')
    model, detector = OnnxDetector(trained.file), built(trained)
    images = np.random.default_rng(4).integers(0, 256, (2, 3, 64, 96),
                                               np.uint8)
    threshold = detector.roi_head.test_cfg.score_thr
    detector.roi_head.test_cfg.score_thr = 1.
    path = tmp_path / 'traced.onnx'
    trace_file(detector, images, path)
    write_metadata(path, model.about)
    assert [len(one.boxes) for one in OnnxDetector(str(path))(images)] == \
        [0, 0]
    lower_threshold(path, path, threshold)
    for one, other in zip(OnnxDetector(str(path))(images), model(images)):
        assert len(one.boxes) > 5
        for values, expected in zip(one, other):
            np.testing.assert_allclose(values, expected, atol=1e-3)
