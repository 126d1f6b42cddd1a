"""Lists of modules in a config mean the student's, and a wrong name is told
before any work."""
import pytest
import torch
from mmdet.registry import MODELS

from mtpd.plan.pool import build_pool
from mtpd.plan.student_names import turn_on_as_the_runner
from mtpd.progression import PlanError, check, make_plan
from mtpd.progression.probe import probe
from mtpd.stage.config import stage_config


@pytest.mark.parametrize('names', ['backbone.layer1', [
    'backbone.layer1', 'neck.lateral_convs.0'], []])
def test_the_student_stands_before_each_name(toy, names):
    cfg = toy(order=['wide'])
    cfg.activation_checkpointing = names
    cfg.optim_wrapper.constructor = 'LearningRateDecayOptimizerConstructor'
    plan = make_plan(cfg)
    stage = stage_config(plan, 1, ('wide',), None, {})
    assert stage.activation_checkpointing == [
        f'student.{n}' for n in ([names] if isinstance(names, str)
                                 else names)]
    assert 'efficient_conv_bn_eval' not in stage
    assert stage.optim_wrapper.constructor == 'DistillOptimWrapperConstructor'
    assert stage.optim_wrapper.student_constructor \
        == 'LearningRateDecayOptimizerConstructor'
    # The plan, which every stage is made from, is as the user wrote it.
    assert plan.student.config.activation_checkpointing == names
    assert plan.student.config.optim_wrapper.constructor \
        == 'LearningRateDecayOptimizerConstructor'
    assert 'student_constructor' not in plan.student.config.optim_wrapper


def test_wrong_names_are_told_with_near_ones(toy):
    cfg = toy(order=['wide'])
    cfg.activation_checkpointing = ['backbone.layr1', 'backbone.norm1', 'nek']
    cfg.efficient_conv_bn_eval = 'student.backbone'
    with pytest.raises(PlanError) as error:
        build_pool(make_plan(cfg))
    # norm1 is a property of mmdet's ResNet, and mmengine finds it.
    one, two, three = error.value.problems
    assert "activation_checkpointing names 'backbone.layr1', which is no " \
        'module of the student (RetinaNet). Similar names are ' in one
    assert "'backbone.layer1'" in one
    assert "'nek'" in two and "Similar names are 'neck'" in two
    assert 'efficient_conv_bn_eval names ' in three
    cfg.activation_checkpointing = ['xyz', 7, 'loss']
    cfg.efficient_conv_bn_eval = None
    with pytest.raises(PlanError) as error:
        build_pool(make_plan(cfg))
    assert len(error.value.problems) == 3
    assert all('It consists of data_preprocessor, backbone, neck, bbox_head.'
               in p for p in error.value.problems)


def test_batch_norms_in_eval_are_folded_in_the_student_alone(toy,
                                                             monkeypatch):
    """mmengine's efficient_conv_bn_eval: same losses and gradients, and no
    batch norm of the student's backbone runs."""
    cfg = toy(order=['wide'])
    cfg.efficient_conv_bn_eval = ['backbone']
    cfg.model.backbone.norm_eval = True
    plan = make_plan(cfg)
    build_pool(plan)
    stage = stage_config(plan, 1, ('wide',), plan.student.checkpoint, {})
    from mmdet.testing import demo_mm_inputs
    ran = []
    found = []
    for turned_on in (False, True):
        model = MODELS.build(stage.model).train()
        if turned_on:
            turn_on_as_the_runner(model, stage)
        for norm in model.student.backbone.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.register_forward_hook(
                    lambda *_, t=turned_on: ran.append(t))
        data = model.data_preprocessor(demo_mm_inputs(
            2, [(3, 64, 96)] * 2, num_items=[2, 2], num_classes=5), True)
        total, _ = model.parse_losses(model(**data, mode='loss'))
        total.backward()
        found.append([total.detach()] + [
            p.grad for p in model.parameters() if p.grad is not None])
    assert ran and not any(ran)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_the_probe_measures_the_checkpointed_student(toy, monkeypatch):
    cfg = toy(order=['wide'])
    cfg.activation_checkpointing = ['backbone.layer2']
    seen = []
    monkeypatch.setattr(
        'mmengine.runner.activation_checkpointing.checkpoint',
        lambda forward, *args: (seen.append(forward.__self__),
                                forward(*args))[1])
    probe(make_plan(cfg), (('wide',),))
    assert len(seen) == 3 and len(set(map(id, seen))) == 1


def test_a_head_that_is_computed_again_takes_no_automatic_weight(toy):
    auto = dict(type='FeatureL2Loss', loss_weight='auto')
    fixed = dict(type='FeatureL2Loss', loss_weight=1.)
    for distill, names, refused in (
            (auto, ['bbox_head.cls_convs'], True),
            (auto, ['backbone.layer1', 'neck'], False),
            (fixed, ['bbox_head.cls_convs'], False)):
        cfg = toy(distill=distill)
        cfg.activation_checkpointing = names
        problems = check(cfg).problems
        assert len(problems) == refused
        for problem in problems:
            assert "names 'bbox_head.cls_convs', and loss_weight='auto'" \
                in problem
