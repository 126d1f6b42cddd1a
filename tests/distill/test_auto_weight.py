"""The weight that is found: its value, when, and what happens until then."""
import copy
import math

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.optim import build_optim_wrapper

from mtpd.distill import auto_weight, branch as branch
from mtpd.distill.auto_weight import (AutoWeight, default_share, is_disabled,
                                      split_auto, with_share)


def test_a_short_stage_has_a_short_calibration():
    for iterations, available, length in (
            (50, 100, 50), (50, 99, 49), (50, 51, 25),
            (50, 50, 25), (50, 6, 3), (50, 1, 2), (2, 100, 2), (9, 1000, 9)):
        auto = AutoWeight(iterations=iterations)
        auto.fit_into(available)
        assert auto.iterations == length
    auto = AutoWeight(share=.5, iterations=50)
    auto.fit_into(8)
    leaf = torch.ones(3, requires_grad=True)
    for ratio in (9., 9., 2., 6.):
        assert not auto.found
        auto.look((leaf * ratio).sum(), leaf.sum(), [leaf], [leaf])
    assert auto.factor.item() == pytest.approx(.5 * 2.)  # the lower median
    fresh = AutoWeight(share=.5, iterations=50)  # of a resumed run
    fresh.load_state_dict(auto.state_dict())
    assert fresh.found


def test_factor_is_share_times_the_median_ratio_of_the_second_half():
    auto = AutoWeight(share=0.25, iterations=5)
    leaf = torch.ones(4, requires_grad=True)
    for step, ratio in enumerate((100., 200., 3., 1., 2.)):
        assert not auto.found
        # Gradients of norm 2 * ratio and 2, where the maps have 4 elements.
        fixed = auto.look((leaf * ratio).sum(), leaf.sum(), [leaf], [leaf])
        assert fixed == (step == 4)
    assert auto.found
    assert auto.factor.item() == pytest.approx(0.25 * 2.)


def test_gradients_count_at_the_maps_that_the_mechanism_uses():
    auto = AutoWeight(share=1., iterations=2)
    a, b, c = (torch.ones(n, requires_grad=True) for n in (9, 16, 4))
    task = (a.sum() + b.sum()) * 2 + c.sum() * 100
    # sqrt(4 * 9 + 4 * 16) = 10; of the mechanism twice the smaller, 3 * 3.
    for _ in range(2):
        auto.look(task, a.sum() + b.sum(), [a, b, c], [a, b, c])
    assert auto.factor.item() == pytest.approx(10 / math.sqrt(2 * 9))


def test_one_level_with_huge_gradients_does_not_count_alone():
    maps = [torch.ones(4, requires_grad=True) for _ in range(3)]
    task = sum(m.sum() for m in maps)
    for size in (1., 1000.):
        auto = AutoWeight(share=1., iterations=2)
        own = maps[0].sum() + maps[1].sum() + size * maps[2].sum()
        for _ in range(2):
            auto.look(task, own, maps, maps)
        assert auto.factor.item() == pytest.approx(1.)


def test_maps_that_are_frozen_or_left_alone_do_not_count():
    """Of five, one is frozen, and two are in the loss with a factor of 0, as
    a level is that a mechanism does not choose."""
    maps = [torch.ones(4, requires_grad=i > 0) for i in range(5)]
    task = sum((10. ** i) * m.sum() for i, m in enumerate(maps))
    own = maps[0].sum() + 0 * maps[1].sum() + 0 * maps[2].sum() \
        + 5 * maps[3].sum() + 50 * maps[4].sum()
    auto = AutoWeight(share=1., iterations=2)
    for _ in range(2):
        auto.look(task, own, maps, maps)
    # Mean of 1e6 and 1e8, each times 4, over the lower of 25 and 2500.
    assert auto.factor.item() == pytest.approx(math.sqrt((1e6 + 1e8) / 2 / 25))
    before = auto.factor.item()
    auto.follow(task, own, maps, maps)
    assert auto.factor.item() == pytest.approx(before)
    frozen = [m.detach() for m in maps]
    auto.seen.zero_()
    auto._count = None
    auto.follow(frozen[0].sum(), frozen[1].sum(), frozen, frozen)
    assert auto.factor.item() == pytest.approx(before)


@pytest.mark.parametrize('size', [1e-9, 1., 1e4])
def test_half_precision_gradients_neither_vanish_nor_overflow(size):
    auto = AutoWeight(share=1., iterations=2)
    task, leaf = (torch.ones(4, dtype=torch.half, requires_grad=True),
                  torch.ones(4, requires_grad=True))
    for _ in range(2):
        auto.look((task.float() * size).sum(), leaf.sum(), [task], [leaf])
    assert auto.factor.item() == pytest.approx(size, rel=0.02)


def test_a_process_without_a_gradient_counts_as_zero(monkeypatch):
    """As a mechanism on objects has none in a batch without boxes. All
    processes have to meet in the same exchange, or one would wait for ever."""
    leaf = torch.ones(4, requires_grad=True)
    auto = AutoWeight(share=1., iterations=2)

    def with_the_other(squares, op):
        squares += torch.tensor([[36.], [4.]])  # of (3 * leaf), (leaf)
        squares /= 2

    monkeypatch.setattr(auto_weight, 'all_reduce', with_the_other)
    for _ in range(2):
        auto.look((leaf * 3).sum(), torch.zeros(()), [leaf], [leaf])
    # Detection: 36 in both; distillation: 4 and 0.
    assert auto.factor.item() == pytest.approx((36 / 2) ** .5)


def test_no_gradient_at_all_is_an_error():
    auto = AutoWeight(share=1., iterations=2)
    leaf, other = (torch.ones(1, requires_grad=True) for _ in range(2))
    auto.look(leaf.sum(), other.sum(), [leaf], [leaf])
    with pytest.raises(RuntimeError, match='no usable gradient'):
        auto.look(leaf.sum(), other.sum(), [leaf], [leaf])


def test_settings():
    assert split_auto(dict(type='A')) == (dict(type='A'), None)
    assert split_auto(dict(type='A', loss_weight=2)) \
        == (dict(type='A', loss_weight=2), None)
    assert split_auto(dict(type='A', loss_weight='auto')) \
        == (dict(type='A'), {})
    assert split_auto(dict(type='A', loss_weight=dict(share=2))) \
        == (dict(type='A'), dict(share=2))
    for wrong, words in ((dict(loss_weight='much'), "'much'; it has to be"),
                         (dict(loss_weight=dict(sh=1)), r"\['sh'\]; known"),
                         (dict(losses=[dict(loss_weight='auto')]),
                          'whole sum')):
        with pytest.raises(ValueError, match=words):
            split_auto(wrong)
    for wrong, words in ((dict(share=0), 'share is 0'),
                         (dict(share=True), 'share is True'),
                         (dict(share=math.inf), 'share is inf'),
                         (dict(share=math.nan), 'share is nan'),
                         (dict(iterations=1), 'at least 2')):
        with pytest.raises(ValueError, match=words):
            AutoWeight(**wrong)


def test_a_mechanism_is_off_where_every_weight_is_zero():
    assert is_disabled(dict(type='A', loss_weight=0))
    assert not is_disabled(dict(type='A'))
    assert not is_disabled(dict(type='A', loss_weight='auto'))
    assert is_disabled(
        dict(losses=[dict(loss_weight=0), dict(loss_weight=0.)]))
    assert not is_disabled(dict(losses=[dict(loss_weight=0), dict(type='B')]))


def test_in_training_the_gradients_stand_in_the_chosen_share(
        retinanet, swin_mask_rcnn, checkpoint_of, monkeypatch):
    said = []
    monkeypatch.setattr(branch, 'print_log',
                        lambda text, **_: said.append(text))
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='FeatureDistiller', student=retinanet, teachers=[dict(
            name='swin', model=swin_mask_rcnn,
            checkpoint=checkpoint_of(swin_mask_rcnn, 1, 'swin'))],
        student_checkpoint=checkpoint_of(retinanet, 2, 'student'),
        distill=dict(type='FeatureL2Loss',
                     loss_weight=dict(share=0.3, iterations=4)),
        init_adapters='random'))
    model.train()
    # Rate 0, so that the same image has the same gradients in every step.
    optimizer = build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=0.)))
    data = demo_mm_inputs(2, [(3, 64, 96)] * 2, num_items=[3, 2],
                          num_classes=5)
    auto = model.guidances[0].auto
    plain = copy.deepcopy(model.student)
    plain_loss, _ = plain.parse_losses(plain(**plain.data_preprocessor(
        copy.deepcopy(data), True), mode='loss'))
    plain_loss.backward()
    for step in range(4):
        assert not auto.found
        model.train_step(copy.deepcopy(data), optimizer)
        if step == 0:  # nothing of the distance reaches the student yet
            batch = model.data_preprocessor(copy.deepcopy(data), True)
            total, _ = model.parse_losses(model(**batch, mode='loss'))
            auto.seen -= 1
            model.zero_grad()
            total.backward()
            for one, other in zip(model.student.parameters(),
                                  plain.parameters()):
                assert torch.equal(one.grad, other.grad)
    assert auto.found
    assert len(said) == 1 and 'swin: automatic weight' in said[0]

    # Independently: gradients at the maps of one more step.
    batch = model.data_preprocessor(copy.deepcopy(data), True)
    maps = []
    handle = model.student.neck.register_forward_hook(
        lambda _m, _i, output: maps.extend(output))
    losses = model(**batch, mode='loss')
    handle.remove()
    distill = sum(v for k, v in losses.items() if 'loss_distill' in k)
    task = sum(sum(v) if isinstance(v, list) else v for k, v in losses.items()
               if 'loss' in k and 'distill' not in k)

    def norms(loss):
        gradients = torch.autograd.grad(loss, maps[:4], retain_graph=True)
        return torch.stack([g.norm() for g in gradients])

    # Four levels, of which the second smallest distillation gradient counts.
    own = 2 * norms(distill).sort().values[1]
    assert (own / norms(task).norm()).item() == pytest.approx(0.3, rel=1e-3)
    # What a checkpoint keeps of the training parts restores the factor.
    fresh = AutoWeight(0.3, 4)
    fresh.load_state_dict(auto.state_dict())
    assert fresh.found and torch.equal(fresh.factor, auto.factor)


def test_the_found_factor_follows_the_gradients():
    auto = AutoWeight(share=.5, iterations=2)
    task, own = (torch.ones(4, requires_grad=True) for _ in range(2))

    def compare(ratio, times):
        for _ in range(times):
            auto.follow(task.sum() * ratio, own.sum(), [task], [own])

    for _ in range(2):
        auto.look(task.sum() * 8, own.sum(), [task], [own])
    assert auto.factor.item() == pytest.approx(4.)
    compare(2., 8)  # not compared before the tenth iteration
    assert auto.factor.item() == pytest.approx(4.)
    compare(2., 1)  # a fifth of the way from 4 to 0.5 * 2, in logarithms
    assert auto.factor.item() == pytest.approx(4. ** .8)
    compare(2., 10 * 30)
    assert auto.factor.item() == pytest.approx(1., rel=.01)
    assert auto.seen == 2 + 309
    # A batch in which one of them has no gradient changes nothing.
    before = auto.factor.clone()
    for detection, distillation in ((task.sum() * 0, own.sum()),
                                    (task.sum(), own.sum() * 0)):
        for _ in range(10):
            auto.follow(detection, distillation, [task], [own])
    assert torch.equal(auto.factor, before)


def test_a_resumed_factor_follows_in_the_same_iterations():
    def made():
        auto = AutoWeight(share=.5, iterations=2)
        auto.factor.fill_(3.)
        return auto

    def compare(auto, steps):
        leaf = torch.ones(4, requires_grad=True)
        for step in steps:
            auto.follow(leaf.sum() * (1 + step % 7), leaf.sum(), [leaf],
                        [leaf])

    whole, first, second = made(), made(), made()
    compare(whole, range(47))
    compare(first, range(23))
    second.load_state_dict(first.state_dict())
    compare(second, range(23, 47))
    assert torch.equal(second.factor, whole.factor)
    assert second.factor != 3


def test_following_compares_what_the_calibration_compared(
        retinanet, checkpoint_of):
    # The scores follow from the maps, and the mechanism reads both.
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='FeatureDistiller', student=retinanet, teachers=[dict(
            name='other', model=retinanet,
            checkpoint=checkpoint_of(retinanet, 1, 'other'))],
        student_checkpoint=checkpoint_of(retinanet, 2, 'student'),
        distill=dict(type='WeightedSum', losses=[
            dict(type='FeatureL2Loss'),
            dict(type='LogitLoss', loss_weight=100.)],
            loss_weight=dict(share=0.3, iterations=2)),
        adapter='conv', init_adapters='random'))
    model.train()
    optimizer = build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=0.)))
    data = demo_mm_inputs(2, [(3, 64, 96)] * 2, num_items=[3, 2],
                          num_classes=5)
    auto = model.guidances[0].auto
    for _ in range(2):
        model.train_step(copy.deepcopy(data), optimizer)
    found = auto.factor.item()
    for _ in range(10):
        model.train_step(copy.deepcopy(data), optimizer)
    assert auto.seen == 12
    # Rate 0 and the same images: the gradients are what they were.
    assert auto.factor.item() == pytest.approx(found, rel=1e-3)
    auto.factor.fill_(found * 2)
    for _ in range(10):
        model.train_step(copy.deepcopy(data), optimizer)
    assert auto.factor.item() == pytest.approx(found * 2 ** .8, rel=1e-3)


@pytest.mark.parametrize('weight, expected', [
    ('auto', dict(share=3.)),
    (dict(iterations=9), dict(share=3., iterations=9)),
    (dict(share=.5), dict(share=.5)), (2., 2.), (0, 0)])
def test_a_share_is_given_where_the_weight_has_none(weight, expected):
    distill = dict(type='FeatureL2Loss', loss_weight=weight)
    assert with_share(distill, 3.) \
        == dict(type='FeatureL2Loss', loss_weight=expected)
    assert with_share(dict(type='PKDLoss'), 3.) == dict(type='PKDLoss')


@pytest.mark.parametrize('unlabelled, inherited, share', [
    (False, False, .5), (False, True, 1), (True, False, 4), (True, True, 4)])
def test_the_default_share_follows_from_labels_and_what_is_inherited(
        unlabelled, inherited, share):
    assert default_share(unlabelled, inherited) == share
    assert AutoWeight().share == .5
