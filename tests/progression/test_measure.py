"""AP and moments against direct computations."""
import copy
import json

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.runner import Runner

from mtpd.order.adaptation_cost import adaptation_costs
from mtpd.order.moments import fold_of
from mtpd.progression import PlanError, make_plan
from mtpd.progression import measure as measure_module
from mtpd.progression.measure import (FOLDS, box_ap, gather_moments, latency,
                                      mean_ap, measured_aps,
                                      validation_config)
from mtpd.progression.search import build_pool

STRIDES = (8, 16, 32, 64)


def test_box_ap_is_what_mmdets_own_validation_says(toy, tmp_path, drawn):
    """On predictions that are right by construction, for a value above 0."""
    cfg = toy()
    truth = json.load(open(drawn / 'annotations/instances_val.json'))

    class Oracle(torch.nn.Module):
        """Predicts the truth for every second picture, nothing else."""

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
    # Recall is the share of objects in those pictures, at precision 1, class
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
    import mtpd.progression.measure as measure
    cfg = toy()
    for teacher in cfg.mtpd.teachers.values():
        teacher.ap = None
    plan = make_plan(cfg)
    pool = build_pool(plan)
    pool.pop('student')
    measured = []
    monkeypatch.setattr(measure, 'box_ap', lambda detector, _: (
        measured.append(detector), float(len(measured)))[1])
    cache = str(tmp_path / 'ap.json')
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


@pytest.fixture(scope='module')
def gathered(toy_in, tmp_path_factory):
    cfg = toy_in(tmp_path_factory.mktemp('gathered'))
    plan = make_plan(cfg)
    pool = build_pool(plan)
    seen = []
    return cfg, pool, gather_moments(pool, cfg, STRIDES,
                                     lambda *p: seen.append(p))[1], seen


def maps_of_all(cfg, pool):
    """The same maps, one picture at a time, by hand: {name: {stride: list of
    (positions, C)}}, and each picture's fold."""
    loader = copy.deepcopy(cfg.val_dataloader)
    loader.batch_size = 1
    loader.dataset.ann_file = cfg.train_dataloader.dataset.ann_file
    loader.dataset.data_prefix = cfg.train_dataloader.dataset.data_prefix
    loader.sampler.shuffle = False
    folds, maps = [], {n: {s: [] for s in STRIDES} for n in pool}
    for batch in Runner.build_dataloader(loader):
        folds.append(fold_of(str(batch['data_samples'][0].img_id), FOLDS))
        height, width = batch['inputs'][0].shape[-2:]
        for name, detector in pool.items():
            with torch.no_grad():
                inputs = detector.data_preprocessor(
                    copy.deepcopy(batch))['inputs']
                levels = detector.extract_feat(inputs)
            for level in levels:
                stride = inputs.shape[-1] // level.shape[-1]
                if stride in STRIDES:
                    rows = int(np.ceil(height / stride - 0.5))
                    columns = int(np.ceil(width / stride - 0.5))
                    maps[name][stride].append(
                        level[0, :, :rows, :columns].flatten(1).T.double())
    return maps, folds


def test_costs_of_a_real_pool_against_lstsq(gathered):
    """From pictures to costs, against least squares on the maps themselves,
    fold by fold. Strides 8 and 16 have enough positions to be well posed."""
    cfg, pool, moments, seen = gathered
    costs = adaptation_costs(moments)
    maps, folds = maps_of_all(cfg, pool)
    assert seen[-1] == (24, 24)
    assert len(folds) == 24
    for stride in (8, 16):
        assert costs.positions[stride] == sum(
            len(m) for m in maps['student'][stride])
        for source, target in (('student', 'swin'), ('swin', 'wide')):
            error, count = 0., 0
            for fold in set(folds):
                def side(name, held_out):
                    return torch.cat([m for m, f in zip(
                        maps[name][stride], folds)
                        if (f == fold) == held_out])

                def with_one(x):
                    return torch.cat([x, torch.ones(len(x), 1).double()], 1)

                fit = torch.linalg.lstsq(
                    with_one(side(source, False)), side(target, False),
                    driver='gelsd').solution
                rest = side(target, True) - with_one(side(source, True)) @ fit
                error += (rest ** 2).sum().item()
                count += rest.numel()
            assert costs.mse[source, target][stride] == pytest.approx(
                error / count, rel=1e-3)


def test_no_label_and_no_chance_enters_the_costs(gathered, monkeypatch):
    cfg, pool, moments, _ = gathered
    cfg = copy.deepcopy(cfg)
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=3, dataset=cfg.train_dataloader.dataset)
    torch.manual_seed(123)
    again = gather_moments(pool, cfg, STRIDES)[1]
    for stride in STRIDES:
        one, other = (m.over(stride, range(FOLDS)) for m in (moments, again))
        assert one.count == other.count  # repeated pictures are the same ones
        torch.testing.assert_close(one.total, other.total)
        torch.testing.assert_close(one.outer, other.outer)


def test_latency_is_a_time(toy, retinanet):
    cfg = toy()
    seconds = latency(MODELS.build(retinanet), validation_config(cfg))
    assert 1e-4 < seconds < 10


def test_a_search_may_stop_when_its_pictures_have_doubled(gathered,
                                                          monkeypatch):
    """Looks fall at 4, 8, 16 and at the end; the sums of a whole pass in
    random order are those of the ordinary one."""
    cfg, pool, moments, _ = gathered
    monkeypatch.setattr(measure_module, 'FIRST_LOOK', 4)
    counts = []

    def enough(total) -> bool:
        counts.append(total[1].over(8, range(FOLDS)).count)
        return len(counts) == stop

    stop = 0
    whole = gather_moments(pool, cfg, STRIDES, enough=enough)[1]
    everything = moments.over(8, range(FOLDS))
    assert [24 * n / everything.count for n in counts] == [4, 8, 16]
    other = whole.over(8, range(FOLDS)).about(everything.shift)
    assert other.count == everything.count
    torch.testing.assert_close(other.outer, everything.outer, rtol=1e-5,
                               atol=1e-3)
    counts.clear()
    stop = 2
    part = gather_moments(pool, cfg, STRIDES, enough=enough)[1]
    assert part.over(8, range(FOLDS)).count == counts[-1] == \
        everything.count // 3
    limited = gather_moments(pool, cfg, STRIDES, limit=6)[1]
    assert limited.over(8, range(FOLDS)).count == everything.count // 4
