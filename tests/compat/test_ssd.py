"""SSD predicts: mmdet 3.3.0 alone ends with an AttributeError."""
import pytest
import torch
from mmdet.models.dense_heads import SSDHead
from mmdet.testing import demo_mm_inputs

from mtpd.compat.ssd import let_ssd_predict
from mtpd.distill import build_detector
from mtpd.plan.detectors import load_config

SSDLITE = 'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py'


@pytest.fixture(scope='module')
def ssd():
    model = load_config(SSDLITE).model
    model.backbone.widen_factor = .25
    model.neck.update(in_channels=(24, 1280),
                      out_channels=(24, 1280, 32, 16, 16, 16))
    model.bbox_head.update(in_channels=(24, 1280, 32, 16, 16, 16),
                           num_classes=3)
    model.test_cfg.update(score_thr=0., max_per_img=20)
    torch.manual_seed(0)
    return build_detector(model).eval()


def test_its_scores_are_the_softmax_without_the_background(ssd):
    data = ssd.data_preprocessor(demo_mm_inputs(1, [(3, 320, 320)]), False)
    with torch.no_grad():
        found, = ssd.predict(data['inputs'], data['data_samples'])
        scores, _ = ssd.bbox_head(ssd.extract_feat(data['inputs']))
    by_anchor = torch.cat([level[0].permute(1, 2, 0).reshape(-1, 4)
                           for level in scores])
    # Class 3 is the background; NMS keeps the highest score of each class.
    highest = by_anchor.softmax(1)[:, :3].max(0).values
    instances = found.pred_instances
    assert len(instances) == 20
    torch.testing.assert_close(instances.scores[0], highest.max())
    assert set(instances.labels.tolist()) <= {0, 1, 2}


def test_an_attribute_of_mmdet_itself_stays(monkeypatch):
    monkeypatch.setattr(SSDHead, 'loss_cls', 'of mmdet')
    let_ssd_predict()
    assert SSDHead.loss_cls == 'of mmdet'
