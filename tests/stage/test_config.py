"""A stage's config: where its adapters and mechanisms start."""
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mtpd.plan.plan import make_plan
from mtpd.progression.export import plain_config
from mtpd.stage.config import stage_config


def model_of(cfg, index: int, name: str):
    """The ``model`` of a stage's config after it was dumped and read."""
    plan = make_plan(cfg)
    stage = stage_config(plan, index, (name,), None, {})
    path = f'{plan.work_dir}_stage{index}.py'
    stage.dump(path)
    read = Config.fromfile(path).model
    assert isinstance(read.seed, int) and read.seed == stage.model.seed
    return read


def start(model) -> dict[str, torch.Tensor]:
    """The initial weights of adapters and mechanism."""
    return MODELS.build(model).training_parts().state_dict()


@pytest.mark.parametrize('mechanism, part', [
    ('PKDLoss', 'adapter.levels.8.project.weight'),
    ('MGDLoss', 'mechanism.generators.8.0.weight'),
    ('FGDLoss', 'mechanism.relations.8.student.conv_mask.weight')])
def test_training_parts_start_by_the_seed_and_the_stage(toy, mechanism, part):
    def weight(seed: int, index: int = 1) -> torch.Tensor:
        cfg = toy(order=['wide', 'swin'], distill=dict(type=mechanism))
        cfg.randomness = dict(seed=seed)
        return start(model_of(cfg, index, 'wide'))[f'guidances.0.{part}']

    first = weight(seed=0)
    assert torch.equal(first, weight(seed=0))
    assert not torch.equal(first, weight(seed=1))
    assert not torch.equal(first, weight(seed=0, index=2))


def test_zero_adapters_start_at_zero_under_every_seed(toy):
    for seed in (0, 1):
        cfg = toy(order=['wide'], distill=dict(type='FeatureL2Loss'))
        cfg.randomness = dict(seed=seed)
        weights = start(model_of(cfg, 1, 'wide'))
        assert weights
        assert not any(value.any() for value in weights.values())


@pytest.mark.parametrize('settings, share', [
    ({}, .5), (dict(unlabelled=True), 4.),
    (dict(inherit=('neck', 'head')), 1.),
    (dict(unlabelled=True, distill=dict(
        type='PKDLoss', loss_weight=dict(share=.5))), .5),
    (dict(distill=dict(type='FeatureL2Loss', loss_weight=2.)), None)])
def test_the_automatic_weights_share_follows_the_images(toy, settings, share):
    cfg = toy(order=['wide'])
    del cfg.mtpd.distill
    if settings.pop('unlabelled', False):
        data = cfg.val_dataloader.dataset
        settings['unlabelled'] = dict(
            folder=data.data_root + data.data_prefix.img)
    cfg.mtpd.update(settings)
    model = MODELS.build(model_of(cfg, 1, 'wide'))
    assert (None if share is None else model.guidances[0].auto.share) == share


def test_an_import_that_is_one_name_stays_one(toy):
    cfg = toy(order=['wide'])
    cfg.custom_imports = dict(imports='json', allow_failed_imports=True)
    plan = make_plan(cfg)
    assert stage_config(plan, 1, ('wide',), None, {}).custom_imports == dict(
        imports=['json', 'mtpd'], allow_failed_imports=True)
    assert plain_config(cfg).custom_imports.imports == ['json']
    cfg.custom_imports = dict(imports='mtpd.backbones')
    assert 'custom_imports' not in plain_config(cfg)


@pytest.mark.parametrize('hooks', [
    None, {}, dict(logger=dict(type='LoggerHook')), dict(checkpoint=None)])
def test_a_stage_has_checkpoints_though_the_config_has_no_such_hook(toy,
                                                                    hooks):
    cfg = toy(order=['wide'])
    cfg.default_hooks = hooks
    stage = stage_config(make_plan(cfg), 1, ('wide',), None, {})
    checkpoint = stage.default_hooks.checkpoint
    assert checkpoint.type == 'StageCheckpointHook' and checkpoint.by_epoch
    assert checkpoint.save_last and checkpoint.save_optimizer
    assert ('logger' in stage.default_hooks) == ('logger' in (hooks or {}))


@pytest.mark.parametrize('asked, told', [
    (dict(interval=4), dict(checkpoint_every=4, checkpoint_begin=0)),
    (dict(interval=2, save_begin=4), dict(checkpoint_every=2,
                                          checkpoint_begin=4)),
    (dict(interval=-1), {})])
def test_checkpoints_within_an_epoch_are_the_loops(toy, asked, told):
    cfg = toy(order=['wide'])
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False,
                                        **asked)
    stage = stage_config(make_plan(cfg), 1, ('wide',), None, {})
    hook = stage.default_hooks.checkpoint
    assert (hook.interval, hook.by_epoch) == (1, True)
    assert 'save_begin' not in hook
    assert {key: value for key, value in stage.train_cfg.items()
            if key.startswith('checkpoint')} == told


def test_the_students_config_resumes_nothing(toy):
    cfg = toy()
    assert 'resume' not in plain_config(cfg)
    cfg.resume = True
    assert plain_config(cfg).resume is False and cfg.resume is True
