"""Images without labels in a training step, against a computation by hand."""
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.optim import build_optim_wrapper

from mtpd.distill.branch import NotFinite, ReadsBoxes, SingleValue
from mtpd.distill.losses import BatchContext, Mechanism
from mtpd.distill.losses.mechanism import known_mechanisms
from mtpd.distill.pyramid import batch_norms

MECHANISMS = {
    **{name: dict(type=name) for name in known_mechanisms()
       if name.endswith('Loss')},
    'sum': dict(type='WeightedSum', losses=[
        dict(type='PKDLoss'), dict(type='LogitLoss')])}


def batch(images: int, size=(64, 96), seed: int = 0) -> dict:
    torch.manual_seed(seed)
    return demo_mm_inputs(images, [(3, *size)] * images,
                          num_items=[2] * images, num_classes=5)


def with_unlabelled(labelled: dict, unlabelled: dict) -> dict:
    return {**labelled, 'unlabelled': unlabelled}


@pytest.fixture
def distiller(retinanet, checkpoint_of):
    def build(distill=None, **changes):
        return MODELS.build({
            'type': 'FeatureDistiller', 'student': retinanet,
            'student_checkpoint': checkpoint_of(retinanet, 2, 'student'),
            'teachers': [dict(name='one', model=retinanet, checkpoint=(
                checkpoint_of(retinanet, 1, 'teacher')))],
            'distill': distill or dict(type='FeatureL2Loss'),
            'adapter': 'conv', 'init_adapters': 'random', **changes}).train()
    return build


def step(model, data):
    """Losses, gradients and statistics after one loss and backward pass."""
    model = copy.deepcopy(model)
    torch.manual_seed(4)
    losses = model(**model.data_preprocessor(copy.deepcopy(data), True),
                   mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    gradients = {n: p.grad for n, p in model.named_parameters()
                 if p.grad is not None}
    return losses, gradients, dict(model.student.named_buffers())


def distillation(losses) -> dict[str, torch.Tensor]:
    return {k: v for k, v in losses.items() if k.startswith('loss_distill')}


@pytest.mark.parametrize('name, size', [
    *((name, (96, 64)) for name in MECHANISMS),
    ('FeatureL2Loss', (64, 96)), ('LogitLoss', (64, 96))])
def test_the_loss_is_the_mean_over_all_images(distiller, name, size):
    """A labelled image and three without labels, of another size or the
    same."""
    model = distiller(MECHANISMS[name])
    some, more = batch(1), batch(3, size, 1)
    data = with_unlabelled(some, more)
    losses, gradients, _ = step(model, data)
    alone, own_gradients, _ = step(model, some)
    assert losses.keys() == alone.keys()
    detection = [k for k in alone if k.startswith('loss')
                 and k not in distillation(alone)]
    assert len(detection) == 2
    for key in detection:  # bit for bit
        for one, other in zip(losses[key], alone[key]):
            assert torch.equal(one, other)

    # By hand: the other three as a batch of their own. Random draws follow
    # those of the labelled images.
    both = copy.deepcopy(model)
    prepared = both.data_preprocessor(copy.deepcopy(data), True)
    rest = prepared.pop('unlabelled')
    torch.manual_seed(4)
    first = both(**prepared, mode='loss')
    branch, = both.guidances
    maps = both.student.extract_feat(rest['inputs'])
    strides = (8, 16, 32, 64, 128)
    pyramid = dict(zip(strides, maps))
    teacher = branch.teacher.detector
    target = teacher.extract_feat(rest['teacher_inputs']['one'])
    adapted = branch.adapter(pyramid, dict(zip(strides, target)))
    if not branch.mechanism.adapts_channels and name != 'sum':
        adapted = pyramid
    scores = {}
    if branch.mechanism.uses_scores:
        scores = {s: pair for s, *pair in zip(
            strides, both.student.bbox_head(maps)[0],
            teacher.bbox_head(target)[0])}
    second = branch.mechanism(adapted, dict(zip(strides, target)),
                              BatchContext(size, None, scores))
    total = sum(sum(first[key]) for key in detection)
    for key in distillation(alone):
        by_hand = (first[key] + 3 * second[key]) / 4
        torch.testing.assert_close(losses[key], by_hand, rtol=2e-5,
                                   atol=1e-7)
        total = total + by_hand
    total.backward()
    for key, parameter in both.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[key], parameter.grad,
                                       rtol=1e-3, atol=1e-6, msg=key)
    assert gradients.keys() == own_gradients.keys()
    assert any(not torch.equal(gradients[k], own_gradients[k])
               for k in gradients if 'backbone' in k)


def test_batch_norms_follow_both_or_the_labelled_images_alone(distiller):
    model = distiller()
    some, more = batch(2), batch(3, seed=1)
    _, _, alone = step(model, some)
    _, _, both = step(model, with_unlabelled(some, more))
    after = copy.deepcopy(model.student)
    after.load_state_dict(alone, strict=False)
    after.extract_feat(model.data_preprocessor(
        copy.deepcopy(more), True)['inputs'])
    for name, value in after.named_buffers():
        torch.testing.assert_close(both[name], value, msg=name)
    assert any(not torch.equal(both[n], alone[n]) for n in both)

    model.unlabelled_norm = 'running'
    losses, _, kept = step(model, with_unlabelled(some, more))
    assert all(torch.equal(kept[n], alone[n]) for n in kept)
    assert len(batch_norms(model.student)) == 20
    assert all(norm.training for norm in batch_norms(model.student))
    model.unlabelled_norm = 'train'
    others, _, _ = step(model, with_unlabelled(some, more))
    assert losses['loss_distill_s8'] != others['loss_distill_s8']


def test_the_automatic_weight_is_that_of_the_labelled_images(distiller):
    """While it is looked for, adapters learn from all images and the student
    from its labels alone; then it multiplies the mean."""
    auto = dict(type='FeatureL2Loss', loss_weight=dict(share=.5,
                                                       iterations=2))
    some, more = batch(2), batch(3, seed=1)

    def run(data):
        model = distiller(copy.deepcopy(auto))
        wrapper = build_optim_wrapper(model, dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=0.)))
        for _ in range(2):
            model.train_step(copy.deepcopy(data), wrapper)
        return model

    alone, both = run(some), run(with_unlabelled(some, more))
    factor = both.guidances[0].auto.factor.item()
    assert factor == pytest.approx(alone.guidances[0].auto.factor.item())
    model = distiller(copy.deepcopy(auto))
    _, gradients, _ = step(model, with_unlabelled(some, more))
    _, own, _ = step(model, some)
    moved = {n for n in own if not torch.equal(own[n], gradients[n])}
    assert moved and all(n.startswith('guidances') for n in moved)
    losses, _, _ = step(both, with_unlabelled(some, more))
    both.guidances[0].auto.factor.fill_(1.)
    plain, _, _ = step(both, with_unlabelled(some, more))
    for key, value in distillation(plain).items():
        torch.testing.assert_close(losses[key], value * factor)


def test_in_mixed_precision(distiller):
    model = distiller()
    data = with_unlabelled(batch(1), batch(2, seed=1))
    exact, _, _ = step(model, data)
    with torch.autocast('cpu', torch.bfloat16):
        losses, gradients, _ = step(model, data)
    for key, value in distillation(exact).items():
        assert losses[key].dtype == torch.float32
        assert losses[key].item() == pytest.approx(value.item(), rel=.05)
    assert all(g.isfinite().all() for g in gradients.values())


@pytest.mark.parametrize('size, passes', [((64, 96), [4]),
                                          ((96, 64), [1, 3])])
def test_images_of_one_size_pass_the_teacher_together(distiller, size, passes):
    model = distiller()
    branch, = model.guidances
    teacher, seen = branch.teacher, []
    branch.teacher = lambda inputs, strides: \
        seen.append(len(inputs)) or teacher(inputs, strides)
    data = with_unlabelled(batch(1), batch(3, size, 1))
    model(**model.data_preprocessor(data, True), mode='loss')
    assert seen == passes


def test_several_teachers_share_the_students_pass(distiller, retinanet,
                                                  checkpoint_of):
    teachers = [dict(name=name, model=retinanet, checkpoint=checkpoint_of(
        retinanet, seed, name)) for seed, name in enumerate('ab', 5)]
    some, more = batch(2), batch(3, seed=1)
    data = with_unlabelled(some, more)
    model = distiller(teachers=teachers, adapter='auto')
    calls = []
    extract = model.student.extract_feat
    model.student.extract_feat = lambda x: calls.append(1) or extract(x)
    losses = model(**model.data_preprocessor(copy.deepcopy(data), True),
                   mode='loss')
    assert len(calls) == 2  # labelled, unlabelled
    for teacher in teachers:
        own, _, _ = step(distiller(teachers=[teacher], adapter='auto'), data)
        torch.testing.assert_close(
            losses[f'loss_distill_{teacher["name"]}_s8'],
            own['loss_distill_s8'] / 2)


def test_without_a_teacher_they_are_left_alone(distiller):
    some, more = batch(2), batch(3, seed=1)
    model = distiller()
    model.set_strength(0)
    losses, _, _ = step(model, with_unlabelled(some, more))
    others, _, _ = step(model, some)
    assert losses.keys() == others.keys()
    for key, values in others.items():
        one, other = (torch.stack(v) if isinstance(v, list) else v
                      for v in (losses[key], values))
        assert torch.equal(one, other), key
    assert 'unlabelled' not in model.data_preprocessor(
        with_unlabelled(some, more), True)


class CountsBoxes(Mechanism):
    """A user's own mechanism."""

    def level_loss(self, stride, student, teacher, context):
        return student.mean() * len(context.boxes)


def test_a_mechanism_that_reads_boxes_is_named(distiller):
    model = distiller(dict(type=f'{__name__}.CountsBoxes'))
    step(model, batch(1))
    with pytest.raises(ReadsBoxes, match='CountsBoxes fails at images without '
                                         'labels.*leave mtpd.unlabelled out'):
        step(model, with_unlabelled(batch(1), batch(1, seed=1)))


def test_a_map_that_is_not_finite_is_found(distiller):
    model = distiller()
    more = batch(3, seed=1)
    more['inputs'][0] = torch.full((3, 64, 96), torch.inf)
    with pytest.raises(NotFinite, match='the map of the teacher one'):
        step(model, with_unlabelled(batch(2), more))


def test_one_position_of_one_image_has_no_statistics(distiller, retinanet):
    """A map of stride 128 behind a batch norm, of one image of 128 pixels."""
    student = copy.deepcopy(retinanet)
    student.neck.norm_cfg = dict(type='BN')
    model = distiller(student=student, student_checkpoint=None)
    model.init_weights()
    some, one = batch(2, (128, 128)), batch(1, (128, 128), 1)
    with pytest.raises(SingleValue, match='at 128x128 pixels, .*batch_size to '
                       "2 or more, or mtpd.unlabelled.batch_norm='running'"):
        step(model, with_unlabelled(some, one))
    step(model, with_unlabelled(some, batch(2, (128, 128), 1)))
    model.unlabelled_norm = 'running'
    step(model, with_unlabelled(some, one))
