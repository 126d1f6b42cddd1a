"""The training step: what it adds, what it leaves exactly as it was."""
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.optim import build_optim_wrapper

from mtpd.distill.detector import build_detector
from mtpd.distill.distiller import FeatureDistiller

SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))


def batch(with_mask: bool = False) -> dict:
    """Two raw images of unequal size with boxes."""
    return demo_mm_inputs(2, [(3, 96, 128), (3, 80, 100)], num_items=[3, 2],
                          num_classes=5, with_mask=with_mask)


@pytest.fixture
def distiller(retinanet, swin_mask_rcnn, checkpoint_of):
    """A RetinaNet student taught by a Mask R-CNN Swin teacher."""
    def build(loss_weight: float = 2.0, **changes) -> FeatureDistiller:
        return MODELS.build({
            'type': 'FeatureDistiller', 'student': retinanet,
            'teachers': [dict(name='swin', model=swin_mask_rcnn,
                              checkpoint=checkpoint_of(swin_mask_rcnn, 1,
                                                       'swin'))],
            'distill': dict(type='FeatureL2Loss', loss_weight=loss_weight),
            'student_checkpoint': checkpoint_of(retinanet, 2, 'student'),
            **changes})
    return build


def draw_adapters(model) -> None:
    """A fresh adapter is zero, which would hide what it does."""
    torch.manual_seed(11)
    for parameter in model.guidances[0].adapter.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


def step(model, data) -> tuple[dict, dict]:
    """Losses and gradients (by name) of one loss and backward pass."""
    model.zero_grad()
    losses = model(**model.data_preprocessor(copy.deepcopy(data), True),
                   mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    return losses, {n: p.grad.clone() for n, p in model.named_parameters()
                    if p.grad is not None}


def test_weight_zero_is_plain_mmdet_bit_for_bit(distiller, retinanet):
    data = batch()

    def run(make):
        torch.manual_seed(5)
        model = make()
        model.init_weights()
        return model.train(), step(model.train(), data)

    plain, (losses, gradients) = run(lambda: MODELS.build(retinanet))
    ours, (own_losses, own_gradients) = run(
        lambda: distiller(loss_weight=0, student_checkpoint=None))
    assert len(ours.guidances) == 0
    assert list(own_losses) == list(losses)
    for name in losses:
        for one, other in zip(own_losses[name], losses[name]):
            assert torch.equal(one, other)
    assert {n.removeprefix('student.') for n in own_gradients} \
        == set(gradients)
    for name, gradient in gradients.items():
        assert torch.equal(own_gradients[f'student.{name}'], gradient), name


def test_teacher_and_adapters_draw_nothing_from_the_students_randomness(
        distiller, retinanet):
    def initial(make):
        torch.manual_seed(7)
        model = make()
        model.init_weights()
        return model.state_dict(), torch.rand(3)

    plain, drawn = initial(lambda: MODELS.build(retinanet))
    ours, own_drawn = initial(lambda: distiller(student_checkpoint=None))
    assert torch.equal(drawn, own_drawn)
    assert plain.keys() == ours.keys()
    assert all(torch.equal(plain[key], ours[key]) for key in plain)


def test_total_loss_is_detection_plus_weighted_mean_over_levels(distiller):
    model = distiller(loss_weight=2.0).train()
    draw_adapters(model)
    data = model.data_preprocessor(batch(), True)
    student = copy.deepcopy(model.student)
    losses = model(**data, mode='loss')
    total, logged = model.parse_losses(losses)

    alone = student.loss(data['inputs'], copy.deepcopy(data['data_samples']))
    detection, _ = student.parse_losses(alone)
    ours = dict(zip((8, 16, 32, 64, 128), student.extract_feat(
        data['inputs'])))
    branch, = model.guidances
    theirs = dict(zip((4, 8, 16, 32, 64),
                      branch.teacher.detector.extract_feat(
                          data['teacher_inputs']['swin'])))
    by_hand = 0
    for stride in (8, 16, 32, 64):
        conv = branch.adapter.levels[str(stride)].project
        adapted = torch.einsum('oc,nchw->nohw', conv.weight[:, :, 0, 0],
                               ours[stride]) + conv.bias.view(1, -1, 1, 1)
        level = ((adapted - theirs[stride]) ** 2).mean()
        torch.testing.assert_close(losses[f'loss_distill_s{stride}'],
                                   2.0 * level / 4, rtol=1e-4, atol=1e-6)
        by_hand = by_hand + 2.0 * level / 4
    # BatchNorm's running averages moved between the two passes, not its
    # output: in training mode it uses the batch.
    torch.testing.assert_close(total, detection + by_hand, rtol=1e-4,
                               atol=1e-5)
    torch.testing.assert_close(logged['distill_ratio'], by_hand / detection,
                               rtol=1e-4, atol=1e-5)
    assert not losses['distill_ratio'].requires_grad


def test_gradient_reaches_student_and_adapters_and_nothing_of_the_teacher(
        distiller):
    model = distiller(loss_weight=2.0).train()
    data = batch()
    plain = copy.deepcopy(model.student)
    _, alone = step(plain.train(), data)
    _, gradients = step(model, data)
    # Fresh adapters are zero: so far the student only feels its own loss.
    assert all(torch.equal(gradients[f'student.{n}'], g)
               for n, g in alone.items())
    draw_adapters(model)
    _, gradients = step(model, data)
    assert any(n.startswith('backbone.layer2')
               and not torch.allclose(gradients[f'student.{n}'], g)
               for n, g in alone.items())
    levels = 'guidances.0.adapter.levels'
    assert all(gradients[f'{levels}.{s}.project.weight'].abs().sum() > 0
               for s in (8, 16, 32, 64))
    assert all(p.grad is None and not p.requires_grad
               for p in model.guidances[0].teacher.detector.parameters())
    inside = {id(p) for p in model.parameters()}
    assert not any(id(p) in inside
                   for p in model.guidances[0].teacher.detector.parameters())


def test_teacher_stays_bit_identical(distiller):
    model = distiller()
    before = copy.deepcopy(model.guidances[0].teacher.detector.state_dict())
    model.init_weights()
    model.train()
    optimizer = build_optim_wrapper(model, SGD)
    for _ in range(2):
        model.train_step(batch(), optimizer)
    after = model.guidances[0].teacher.detector.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(
        m.training for m in model.guidances[0].teacher.detector.modules())


def test_loaded_student_is_not_initialised_again(distiller):
    model = distiller()
    before = copy.deepcopy(model.student.state_dict())
    model.init_weights()
    after = model.student.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_two_passes_of_a_swin_teacher_agree_while_training(distiller):
    model = distiller().train()
    assert any('DropPath' in type(m).__name__ and m.drop_prob > 0
               for m in model.guidances[0].teacher.detector.modules())
    inputs = torch.randn(2, 3, 96, 128)
    first, second = (model.guidances[0].teacher(inputs) for _ in range(2))
    assert all(torch.equal(first[s], second[s]) for s in first)


def test_teacher_runs_backbone_and_neck_only(distiller, monkeypatch):
    model = distiller().train()
    detector = model.guidances[0].teacher.detector

    def fail(*_args, **_kwargs):
        raise AssertionError('the head ran')

    for head in (detector.rpn_head, detector.roi_head):
        monkeypatch.setattr(head, 'forward', fail)
        for part in head.children():
            monkeypatch.setattr(part, 'forward', fail)
    assert set(model.guidances[0].teacher(torch.randn(1, 3, 64, 64))) == {
        4, 8, 16, 32, 64}
    step(model, batch())


def test_teacher_is_neither_copied_saved_nor_optimised(distiller, retinanet):
    model = distiller()
    assert copy.deepcopy(model).guidances[0].teacher \
        is model.guidances[0].teacher
    keys = set(MODELS.build(retinanet).state_dict())
    assert set(model.state_dict()) == keys
    wrapper = build_optim_wrapper(model, SGD)
    optimised = {id(p) for g in wrapper.param_groups for p in g['params']}
    assert optimised == {id(p) for p in model.parameters()}


def test_saved_student_loads_strictly_into_plain_mmdet_and_back(
        distiller, retinanet):
    model = distiller()
    plain = MODELS.build(retinanet)
    plain.load_state_dict(model.state_dict(), strict=True)
    other = distiller(student_checkpoint=None)
    draw_adapters(other)
    conv = other.guidances[0].adapter.levels['8'].project
    weight = conv.weight.clone()
    other.load_state_dict(plain.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(
        model.student.state_dict().values(),
        other.student.state_dict().values()))
    assert torch.equal(weight, conv.weight)


def test_predictions_are_the_students(distiller):
    model = distiller().eval()
    data = batch()
    with torch.no_grad():
        ours = model.val_step(copy.deepcopy(data))
        plain = model.student.val_step(copy.deepcopy(data))
    for one, other in zip(ours, plain):
        assert torch.equal(one.pred_instances.bboxes,
                           other.pred_instances.bboxes)
        assert torch.equal(one.pred_instances.scores,
                           other.pred_instances.scores)


def test_two_stage_student_taught_by_a_one_stage_teacher(
        swin_mask_rcnn, retinanet, checkpoint_of):
    model = MODELS.build(dict(
        type='FeatureDistiller', student=swin_mask_rcnn,
        teachers=[dict(name='retina', model=retinanet,
                       checkpoint=checkpoint_of(retinanet, 1, 'retina'))],
        distill=dict(type='FeatureL2Loss')))
    model.init_weights()
    losses, gradients = step(model.train(), batch(with_mask=True))
    assert {k for k in losses if 'distill' in k} == {
        'loss_distill_s8', 'loss_distill_s16', 'loss_distill_s32',
        'loss_distill_s64', 'distill_ratio'}
    assert all(torch.isfinite(g).all() for g in gradients.values())


def test_half_precision_features_are_compared_in_float32(distiller):
    model = distiller().train()
    data = model.data_preprocessor(batch(), True)
    # 300 squared is beyond half precision's largest number.
    for level in model.guidances[0].adapter.levels.values():
        torch.nn.init.constant_(level.project.bias, 300.)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(**data, mode='loss')
    for stride in (8, 16, 32, 64):
        loss = losses[f'loss_distill_s{stride}']
        assert loss.dtype == torch.float32
        assert 0.9 * 300 ** 2 / 2 < loss < 1.1 * 300 ** 2 / 2


def test_wrong_weight_and_wrong_mechanism_are_named(distiller):
    with pytest.raises(ValueError, match='loss_weight is -1'):
        distiller(loss_weight=-1)
    with pytest.raises(ValueError, match="'NoSuchLoss' is not known. Known: .*"
                       'FGDLoss, FeatureL2Loss.*import path'):
        distiller(distill=dict(type='NoSuchLoss'))


def test_hooks_find_the_students_parts(distiller):
    """As mmdet's YOLOXModeSwitchHook does: model.bbox_head.use_l1 = True."""
    model = distiller()
    assert model.bbox_head is model.student.bbox_head
    model.bbox_head.use_l1 = True
    assert model.student.bbox_head.use_l1
    assert model.with_bbox == model.student.with_bbox
    copied = copy.deepcopy(model)  # EMA's: not the first one's student
    assert copied.bbox_head is copied.student.bbox_head is not model.bbox_head
    with pytest.raises(AttributeError, match="RetinaNet.*'no_such_part'"):
        model.no_such_part


def test_a_built_teacher_is_used_and_not_loaded_again(
        distiller, swin_mask_rcnn, checkpoint_of):
    path = checkpoint_of(swin_mask_rcnn, 1, 'swin')
    teacher = build_detector(swin_mask_rcnn, path)
    loaded, given = distiller().train(), distiller(
        built={'swin': teacher}, teachers=[dict(
            name='swin', model=swin_mask_rcnn,
            checkpoint='no such file')]).train()
    assert given.guidances[0].teacher.detector is teacher
    data = batch()
    one, other = (step(model, data) for model in (loaded, given))
    assert one[0].keys() == other[0].keys()
    assert one[1].keys() == other[1].keys()
    assert all(torch.equal(one[1][k], other[1][k]) for k in one[1])
    # A teacher that is not there is built from its config.
    assert distiller(built={}).guidances[0].teacher.detector is not teacher
