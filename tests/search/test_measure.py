"""AP against direct computations, and what is remembered of it."""
import copy
import json

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS

from mtpd.plan.pool import build_pool
from mtpd.progression import PlanError, make_plan
from mtpd.search.measure import (box_ap, latency, mean_ap, measured_aps,
                                 measured_latencies, validation_config)

def test_box_ap_is_that_of_mmdets_own_validation(toy, tmp_path, drawn):
    """On predictions that are right by construction, for a value above 0."""
    cfg = toy()
    truth = json.load(open(drawn / 'annotations/instances_val.json'))

    class Oracle(torch.nn.Module):
        """Predicts the truth for every second image, nothing else."""

        def val_step(self, batch):
            for sample in batch['data_samples']:
                boxes = [(*a['bbox'], a['category_id'])
                         for a in truth['annotations']
                         if a['image_id'] == sample.img_id] \
                    if sample.img_id % 2 else []
                box = torch.tensor([b[:4] for b in boxes]).reshape(-1, 4)
                labels = torch.tensor([b[4] for b in boxes], dtype=torch.long)
                sample.pred_instances = sample.gt_instances.new(
                    bboxes=torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], 1),
                    scores=torch.ones(len(boxes)), labels=labels - min(
                        c['id'] for c in truth['categories']))
            return batch['data_samples']

    ap = box_ap(Oracle(), validation_config(cfg))
    found = [a['image_id'] % 2 for a in truth['annotations']]
    # Recall is the share of objects in those images, at precision 1, class
    # by class; COCO samples it at 101 points.
    per_class = []
    for category in truth['categories']:
        own = [f for f, a in zip(found, truth['annotations'])
               if a['category_id'] == category['id']]
        if own:
            per_class.append(
                (np.arange(101) / 100 <= np.mean(own) + 1e-9).mean()
                if any(own) else 0.)
    assert ap == pytest.approx(100 * np.mean(per_class), abs=0.1)


def test_mean_ap_takes_the_boxes():
    assert mean_ap({'coco/segm_mAP': .1, 'coco/bbox_mAP': .2,
                    'coco/bbox_mAP_50': .3}) == .2
    assert mean_ap({'pascal_voc/mAP': .4, 'pascal_voc/AP50': .5}) == .4
    assert mean_ap({}) == 0  # CocoMetric says nothing where nothing was found
    with pytest.raises(PlanError, match='accuracy'):
        mean_ap({'accuracy': 1.})


def test_ap_is_measured_once_per_checkpoint(toy, tmp_path, monkeypatch):
    import mtpd.search.measure as measure
    cfg = toy()
    for teacher in cfg.mtpd.teachers.values():
        teacher.ap = None
    plan = make_plan(cfg)
    pool = build_pool(plan)
    pool.pop('student')
    measured = []
    monkeypatch.setattr(measure, 'box_ap', lambda detector, _: (
        measured.append(detector), float(len(measured)))[1])
    cache = str(tmp_path / 'measured.json')
    first = measured_aps(plan.teachers, pool, cfg, cache)
    assert first == {'wide': 1., 'swin': 2.} and len(measured) == 2
    assert measured_aps(plan.teachers, pool, cfg, cache) == first
    assert len(measured) == 2
    # Another validation set is another measurement.
    other = copy.deepcopy(cfg)
    other.val_dataloader.dataset.indices = 4
    measured_aps(plan.teachers, pool, other, cache)
    assert len(measured) == 4


def test_segmentation_is_not_asked_of_a_mixed_pool(toy):
    cfg = toy()
    cfg.val_evaluator.metric = ['bbox', 'segm']
    assert validation_config(cfg).evaluator.metric == 'bbox'
    assert cfg.val_evaluator.metric == ['bbox', 'segm']


def test_latency_is_a_time(toy, retinanet):
    cfg = toy()
    seconds = latency(MODELS.build(retinanet), validation_config(cfg))
    assert 1e-4 < seconds < 10


def test_latencies_are_remembered_beside_the_aps(toy, tmp_path, monkeypatch):
    import mtpd.search.measure as measure
    cfg = toy()
    plan = make_plan(cfg)
    pool = build_pool(plan)
    pool.pop('student')
    calls = []
    monkeypatch.setattr(measure, 'box_ap', lambda *_: 40.)
    monkeypatch.setattr(measure, 'latency', lambda *args: (
        calls.append(args), .01 * len(calls))[1])
    cache = str(tmp_path / 'measured.json')
    for _ in range(2):
        assert measured_latencies(plan.teachers, pool, cfg, cache) == {
            'wide': .01, 'swin': .02}
        assert measured_aps(plan.teachers, pool, cfg, cache) == {
            'wide': 40., 'swin': 40.}
    assert len(calls) == 2
    # Another machine is another measurement.
    monkeypatch.setattr(measure, 'latency_key', lambda: 'seconds on another')
    assert measured_latencies(plan.teachers, pool, cfg, cache) == {
        'wide': .03, 'swin': .04}
