import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, rel_entr

from mtpd.distill.losses import BatchContext, LogitLoss, Pairing


def scene_of(*scores) -> BatchContext:
    """Levels of strides 8, 16, ... of (student's, teacher's) scores."""
    return BatchContext((40, 56), (), {8 * 2 ** i: pair
                                       for i, pair in enumerate(scores)})


def test_it_is_the_sum_over_classes_of_binary_divergences(pairing):
    torch.manual_seed(0)
    scores = [tuple(3 * torch.randn(2, 2, 6, *grid).double())
              for grid in ((4, 5), (2, 3))]
    losses = LogitLoss(pairing, 0.7, temperature=2.0)({}, {}, scene_of(
        *scores))
    expected = {}
    for stride, (student, teacher) in zip((8, 16), scores):
        p, q = expit(teacher.numpy() / 2), expit(student.numpy() / 2)
        divergence = rel_entr(p, q) + rel_entr(1 - p, 1 - q)
        expected[f'loss_distill_s{stride}'] = \
            0.7 * 4 * divergence.sum(axis=1).mean() / 2
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(
        expected, rel=1e-10)


def test_the_gradient_is_the_difference_of_probabilities(pairing):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 6, 3, 4).double()
    student.requires_grad_()
    LogitLoss(pairing, temperature=3.0)({}, {}, scene_of(
        (student, teacher)))['loss_distill_s8'].backward()
    expected = 3 * (torch.sigmoid(student / 3) - torch.sigmoid(teacher / 3)) \
        / (2 * 3 * 4)
    torch.testing.assert_close(student.grad, expected)
    assert torch.autograd.gradcheck(
        lambda s: LogitLoss(pairing, temperature=3.0)(
            {}, {}, scene_of((s, teacher)))['loss_distill_s8'], student)


@given(logit=st.floats(-1e4, 1e4), temperature=st.floats(0.1, 50))
def test_equal_scores_cost_exactly_nothing(logit, temperature):
    scores = torch.full((1, 2, 3, 3), logit)
    loss = LogitLoss(Pairing({8: 4}), temperature=temperature)(
        {}, {}, scene_of((scores, scores.clone())))['loss_distill_s8']
    assert loss.item() == 0


@given(own=st.floats(-1e4, 1e4), other=st.floats(-1e4, 1e4))
def test_extreme_scores_stay_finite_and_never_gain(own, other):
    student = torch.full((1, 1, 1, 1), own, requires_grad=True)
    loss = LogitLoss(Pairing({8: 4}))({}, {}, scene_of(
        (student, torch.full((1, 1, 1, 1), other))))['loss_distill_s8']
    loss.backward()
    # float32 keeps differences of logarithms to 1e-7 of their size.
    assert -1e-6 <= loss.item() <= max(abs(own), abs(other)) * 2 + 1
    assert abs(student.grad.item()) <= 1


def test_a_wrong_certainty_costs_its_logit(pairing):
    scores = (torch.full((1, 1, 1, 1), -1000.), torch.full((1, 1, 1, 1), 50.))
    assert LogitLoss(pairing)({}, {}, scene_of(scores))[
        'loss_distill_s8'].item() == pytest.approx(1000)


def test_it_needs_scores_of_the_same_anchors_and_classes(pairing):
    loss = LogitLoss(pairing)
    with pytest.raises(ValueError, match='dense sigmoid head'):
        loss({8: torch.zeros(1, 4, 3, 3)}, {8: torch.zeros(1, 4, 3, 3)},
             scene_of())
    with pytest.raises(ValueError, match='stride 8.*6 anchors.*9'):
        loss({}, {}, scene_of((torch.zeros(1, 6, 3, 3),
                               torch.zeros(1, 9, 3, 3))))
    with pytest.raises(ValueError, match='stride 8'):
        loss({}, {}, scene_of((torch.zeros(1, 6, 3, 3),
                               torch.zeros(1, 6, 3, 4))))


@pytest.mark.parametrize('temperature', [0.0, -1.0, float('nan')])
def test_a_wrong_temperature_names_itself(pairing, temperature):
    with pytest.raises(ValueError, match='distill.temperature'):
        LogitLoss(pairing, temperature=temperature)


def test_it_reads_scores_and_no_maps(pairing):
    assert LogitLoss.uses_scores and not LogitLoss.adapts_channels
    scores = torch.randn(2, 1, 6, 3, 3).unbind()
    assert LogitLoss(pairing, 0.0)({}, {}, scene_of(scores))[
        'loss_distill_s8'] == 0
