"""Files of every family find what mmdet finds."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample

from mtpd.deploy import export_onnx
from mtpd.distill.detector import load_weights
from mtpd.predict import OnnxDetector, OnnxPredictor, Predictor

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
