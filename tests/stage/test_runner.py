"""One mmengine run of a stage."""
import pytest
from mmengine.config import ConfigDict

from mtpd.plan.errors import PlanError
from mtpd.plan.plan import make_plan
from mtpd.stage.config import stage_config
from mtpd.stage.runner import run_stage


@pytest.mark.parametrize('length', [
    dict(type='EpochBasedTrainLoop', max_epochs=1),
    dict(type='IterBasedTrainLoop', max_iters=3, val_interval=3)])
def test_a_run_without_an_iteration_is_an_error(toy, length):
    """24 images make no batch of 25, and the last batch is dropped. The data
    check says so before; samplers of other kinds have their own rules."""
    cfg = toy(order=['wide'])
    cfg.train_cfg = ConfigDict(length)
    cfg.param_scheduler = []
    cfg.train_dataloader.update(
        batch_size=25,
        batch_sampler=dict(type='AspectRatioBatchSampler', drop_last=True))
    stage = stage_config(make_plan(cfg), 1, ('wide', ), None, {})
    with pytest.raises(PlanError, match='drop_last=(True|False)'):
        run_stage(stage)
