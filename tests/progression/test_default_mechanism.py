"""Whoever names no mechanism gets one whose weight fits by itself."""
import json
import math
from pathlib import Path

import pytest

from mtpd.distill.distiller import FeatureDistiller
from mtpd.plan.plan import make_plan
from mtpd.progression import run_progression
from mtpd.stage.config import stage_config


def test_it_teaches_in_a_short_stage_with_all_that_it_goes_with(
        toy, monkeypatch):
    """Two teachers at once, fitted adapters, fading, stopped and resumed, in
    a stage with fewer iterations than the search for the weight takes."""
    cfg = toy(order=[('wide', 'swin')], init_adapters='fitted',
              fade=dict(begin=1, end=2))
    del cfg.mtpd.distill
    whole, factors = FeatureDistiller.loss, []

    def watched(self, *args):
        factors.append([branch.auto.factor.item()
                        for branch in self.guidances])
        if len(factors) == 5:
            raise KeyboardInterrupt
        return whole(self, *args)

    monkeypatch.setattr(FeatureDistiller, 'loss', watched)
    with pytest.raises(KeyboardInterrupt):
        run_progression(cfg, with_probe=False)
    result = run_progression(cfg, resume=True, with_probe=False)
    # Six iterations, three for the search; resumed after the third.
    assert all(map(math.isnan, sum(factors[:3], [])))
    wide, swin = factors[3]
    assert 0 < wide < math.inf and 0 < swin < math.inf and wide != swin
    assert factors[4:] == [[wide, swin]] * 4
    lines = [json.loads(line) for path in sorted(Path(cfg.work_dir).glob(
        'stage1_*/*/vis_data/scalars.json')) for line in open(path)]
    taught = [line for line in lines if line.get('step') in (4, 5, 6)
              and 'lr' in line]
    assert taught and all(line['distill_ratio'] > 0 for line in taught)
    assert result.stages[0].end_ap >= 0


def test_only_automatic_weights_are_calibrated(toy):
    def hooks(**changes):
        cfg = toy(**changes)
        if not changes:
            del cfg.mtpd.distill
        return [hook['type'] for hook in stage_config(
            make_plan(cfg), 1, ('wide',), None, {}).custom_hooks]

    assert 'CalibrationHook' in hooks()
    for distill in ('paper', dict(type='PKDLoss'),
                    dict(type='FeatureL2Loss', loss_weight=0)):
        assert 'CalibrationHook' not in hooks(distill=distill)
