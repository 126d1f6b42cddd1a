"""AP against direct computations, and what is remembered of it."""
import copy
import json
from collections import Counter
from pathlib import Path
from typing import Sequence

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.pool import build_pool
from mtpd.plan.predictions import unmeasurable_aps
from mtpd.progression import PlanError, make_plan
from mtpd.search.latency import latency
from mtpd.search.measure import (box_ap, class_labels, known_measures,
                                 mean_ap, measured_aps, measured_latencies,
                                 pool_aps, validation_config)


def test_a_detector_that_cannot_predict_is_told_with_its_field(
        toy, tmp_path, monkeypatch):
    """As mmdet's CenterNet, which reads 'border', and GA-Faster R-CNN, whose
    assertion says nothing."""
    plan = make_plan(toy())
    pool = build_pool(plan)
    for error, text in ((KeyError('border'), "KeyError: 'border'"),
                        (AssertionError(), 'AssertionError: raise error')):
        def fails(*args, error=error, **options):
            raise error

        for name, declare in (('student', ''), ('wide', ', or declare ap')):
            monkeypatch.setattr(pool[name], 'predict', fails)
            with pytest.raises(PlanError) as told:
                measured_aps(plan.specs, {name: pool[name]},
                             plan.student.config, str(tmp_path / 'a.json'))
            assert told.value.problems == [
                f'{plan.specs[name].field}: RetinaNet cannot predict 8 images '
                f'of val_dataloader, by which its AP is measured ({text}). '
                'Compare the model, the test pipeline (also PackDetInputs\' '
                'meta_keys) and val_dataloader.batch_size with the '
                f"detector's own mmdet config{declare}."]


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


class Boxes(torch.nn.Module):
    """Predicts the first seven of ten boxes of each class rightly, and names
    the classes as the second argument does."""

    def __init__(self, truth: dict, names: Sequence[str]) -> None:
        super().__init__()
        self.dataset_meta = dict(classes=tuple(names))
        of_category = {c['id']: c['name'] for c in truth['categories']}
        self.boxes: dict[int, list] = {}
        seen: Counter = Counter()
        for a in truth['annotations']:
            name = of_category[a['category_id']]
            seen[name] += 1
            if seen[name] % 10 < 7:
                self.boxes.setdefault(a['image_id'], []).append(
                    (*a['bbox'], names.index(name)))

    def val_step(self, batch):
        for sample in batch['data_samples']:
            boxes = torch.tensor(self.boxes.get(sample.img_id, [])) \
                .reshape(-1, 5)
            sample.pred_instances = sample.gt_instances.new(
                bboxes=torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]],
                                 1),
                scores=torch.ones(len(boxes)), labels=boxes[:, 4].long())
        return batch['data_samples']


def test_a_teachers_classes_are_compared_by_name(toy, drawn, tmp_path,
                                                 retinanet):
    """The same detections, whatever the order of the classes' numbers."""
    cfg = toy()
    names = tuple(cfg.val_dataloader.dataset.metainfo.classes)
    truth = json.load(open(drawn / 'annotations/instances_val.json'))
    orders = {'same': names, 'reversed': names[::-1],
              'more': ('cat', *names[2:], 'dog', *names[:2])}
    specs, detectors = {}, {}
    for key, order in orders.items():
        model = copy.deepcopy(retinanet)
        model.bbox_head.num_classes = len(order)
        specs[key] = DetectorSpec(key, Config(dict(model=model)), None)
        detectors[key] = Boxes(truth, order)
    aps = measured_aps(specs, detectors, cfg, str(tmp_path / 'aps.json'))
    assert aps['same'] > 50
    assert aps == dict.fromkeys(orders, aps['same'])
    # By number, as it was measured before.
    assert box_ap(detectors['reversed'], validation_config(cfg)) \
        < aps['same'] / 2
    assert class_labels(specs['more'], cfg, detectors['more']) \
        == (-1, 2, 3, 4, -1, 0, 1)


def test_classes_that_cannot_be_told_are_not_measured(toy, tmp_path, drawn):
    cfg = toy()
    for teacher in cfg.mtpd.teachers.values():
        teacher.ap = None
    plan = make_plan(cfg)
    names = tuple(cfg.val_dataloader.dataset.metainfo.classes)

    def problems(*classes, config=None) -> list[str]:
        if config is not None:
            plan.teachers['wide'].config['train_dataloader'] = config
        detector = torch.nn.Module()
        detector.dataset_meta = dict(classes=classes)
        return unmeasurable_aps(plan, {'wide': detector})

    assert problems(*names) == problems(*names[::-1]) == problems() == []
    problem, = problems('ring', *names[1:])
    assert problem.startswith('mtpd.teachers.wide.ap is not known') \
        and "'disc' of the validation set's is not among them" in problem
    # What is wrong with the student's own classes is the data check's to say.
    plan.student.config.val_dataloader.dataset.metainfo.classes = 'disc'
    assert problems(*names) == []
    plan.student.config.val_dataloader.dataset.metainfo.classes = names
    # The names of other classes than the head has say nothing about it.
    assert problems(*names, 'circle') == []
    # Its own training set has its file in another order than it is named.
    own = copy.deepcopy(cfg.train_dataloader)
    assert problems(*names, config=own) == []
    content = json.load(open(drawn / 'annotations/instances_train.json'))
    content['categories'].reverse()
    own.dataset.ann_file = str(tmp_path / 'reversed.json')
    (tmp_path / 'reversed.json').write_text(json.dumps(content))
    problem, = problems(*names, config=own)
    assert 'not certain which of its outputs' in problem
    assert own.dataset.ann_file in problem
    own.dataset.metainfo.classes = names[::-1]
    problem, = problems(*names, config=own)
    assert 'its checkpoint' in problem and 'Declare ap' in problem
    assert problems(*names[::-1], config=own) == []


def test_nothing_to_measure_is_no_ap(toy, drawn, tmp_path, monkeypatch):
    """pycocotools says -1 then, which is not -100 percent."""
    import mtpd.search.measure as measure
    assert mean_ap({'coco/bbox_mAP': -1.}) is None
    assert mean_ap({'pascal_voc/mAP': float('nan')}) is None
    cfg = toy()
    truth = json.load(open(drawn / 'annotations/instances_val.json'))
    names = tuple(cfg.val_dataloader.dataset.metainfo.classes)
    detector = Boxes(truth, names)
    (tmp_path / 'crowds.json').write_text(json.dumps({
        **truth, 'annotations': [dict(a, iscrowd=1)
                                 for a in truth['annotations']]}))
    cfg.val_evaluator.ann_file = str(tmp_path / 'crowds.json')
    assert box_ap(detector, validation_config(cfg)) is None
    for teacher in cfg.mtpd.teachers.values():
        teacher.ap = None
    plan, cache = make_plan(cfg), tmp_path / 'measured.json'
    pool = build_pool(plan)
    monkeypatch.setattr(measure, 'box_ap', lambda *_: None)
    with pytest.raises(PlanError, match='AP of wide, swin could not be'):
        pool_aps(plan, pool, str(cache))
    entries = json.loads(cache.read_text())
    assert {entry['ap'] for entry in entries.values()} == {None}
    # What an earlier version wrote.
    cache.write_text(json.dumps({key: {'ap': -100.} for key in entries}))
    assert measured_aps(plan.teachers, {'wide': pool['wide']}, cfg,
                        str(cache)) == {'wide': None}


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
    monkeypatch.setattr(measure, 'box_ap', lambda detector, *_: (
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
    # What a full disk has left is nothing.
    whole = Path(cache).read_text()
    Path(cache).write_text(whole[:len(whole) // 2])
    said = []
    monkeypatch.setattr(measure, 'print_log', lambda text, *_: said.append(
        text))
    assert known_measures(plan.teachers['wide'], cfg, cache) == {}
    assert measured_aps(plan.teachers, pool, cfg, cache) == {
        'wide': 5., 'swin': 6.}
    assert len(said) == 1 and said[0].startswith(f'{cache} is no JSON (')
    assert known_measures(plan.teachers['wide'], cfg, cache)['ap'] == 5


def test_a_damaged_file_of_measurements_is_none(toy, tmp_path):
    cfg = toy()
    plan = make_plan(cfg)
    cache = tmp_path / 'measured.json'
    for damaged in (b'{"a":', b'\xff', b'[]', b'{"a": 3}',
                    b'{"a": {"ap": "x"}}'):
        cache.write_bytes(damaged)
        assert known_measures(plan.teachers['wide'], cfg, str(cache)) == {}
    cache.write_text('{"a": {"ap": null, "seconds on x": 1}}')
    assert known_measures(plan.teachers['wide'], cfg, str(cache)) == {}


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
