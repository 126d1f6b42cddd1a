"""Nothing is read or run again that one process has read or run already."""
from collections import Counter

import torch
from mmdet.models.detectors import BaseDetector

from mtpd.distill import detector as detector_module
from mtpd.plan import pool as pool_module, predictions
from mtpd.plan.data_check import check
from mtpd.progression import make_plan, prepare, run_progression


def reads(monkeypatch) -> Counter:
    """Files -> how often their content was read to build a detector."""
    counts = Counter()
    for module in (detector_module, predictions):
        whole = module.read_checkpoint

        def count(path, *args, whole=whole, **options):
            counts[path] += 1
            return whole(path, *args, **options)

        monkeypatch.setattr(module, 'read_checkpoint', count)
    return counts


def test_a_teachers_checkpoint_is_read_once_per_process(toy, monkeypatch):
    """Through search, inheritance, fitted adapters, probe and stages."""
    cfg = toy(order='bgs', strides=(8, 16), max_teachers=2, inherit='backbone',
              init_adapters='fitted')
    cfg.train_cfg.max_epochs = 1
    counts = reads(monkeypatch)
    result = run_progression(cfg)
    assert len(result.stages) >= 1
    teachers = {spec.checkpoint for spec in make_plan(cfg).teachers.values()}
    assert {path: counts[path] for path in teachers} == dict.fromkeys(
        teachers, 1)


def test_dry_passes_before_the_first_stage_are_one_per_detector(toy,
                                                                monkeypatch):
    cfg = toy()
    plan = make_plan(cfg)
    passes = Counter()
    extract = {}

    def count(self, images):
        if images.shape[-1] in (256, 1024) and not images.any():
            passes[id(self)] += 1
        return extract[type(self)](self, images)

    for kind in ('RetinaNet', 'MaskRCNN'):
        from mmdet.registry import MODELS
        cls = MODELS.get(kind)
        base = next(c for c in cls.__mro__ if 'extract_feat' in vars(c))
        extract[cls] = base.extract_feat
    for cls in extract:
        monkeypatch.setattr(cls, 'extract_feat', count)
    pool = pool_module.build_pool(plan)
    assert all(isinstance(d, BaseDetector) for d in pool.values())
    pool_module.common_strides(plan, pool)
    assert {name: passes[id(detector)] for name, detector in pool.items()} \
        == {'student': 1, 'wide': 1, 'swin': 1}
    with torch.no_grad():
        pool_module.build_pool(plan)  # other detectors, other passes
    assert len(passes) == 6


def test_the_data_set_is_checked_once_per_command(toy, monkeypatch):
    checks = []
    read_data = check.read_data
    monkeypatch.setattr(check, 'read_data', lambda *args: (
        checks.append(args), read_data(*args))[1])
    prepare(toy())
    assert len(checks) == 1
    prepare(toy(), data_is_checked=True)
    assert len(checks) == 1
