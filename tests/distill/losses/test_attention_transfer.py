import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtpd.distill.losses import AttentionTransferLoss, Pairing


def attention(feature):
    """Position by position, in float64."""
    squares = np.array([sum(float(v) ** 2 for v in vector) / len(vector)
                        for vector in feature.flatten(1).T])
    return squares / np.sqrt((squares ** 2).sum())


def test_it_is_the_mean_square_between_attentions(pairing, bare, loss_of):
    torch.manual_seed(0)
    student = torch.randn(2, 3, 4, 5).double()
    teacher = torch.randn(2, 6, 4, 5).double()
    expected = np.mean([(attention(student[n]) - attention(teacher[n])) ** 2
                        for n in range(2)])
    loss = loss_of(AttentionTransferLoss(pairing), student, teacher, bare)
    assert loss.item() == pytest.approx(500 * expected, rel=1e-10)


def test_gradients_are_finite_differences(pairing, differentiates):
    differentiates(AttentionTransferLoss(pairing))


@given(order=st.permutations(range(4)), scale=st.floats(0.01, 100))
def test_order_and_scale_of_channels_change_nothing(order, scale):
    torch.manual_seed(1)
    student, teacher = torch.randn(2, 2, 4, 3, 5).double()
    loss = AttentionTransferLoss(Pairing({8: 4}))
    torch.testing.assert_close(
        loss.level_loss(8, scale * student[:, list(order)], teacher, None),
        loss.level_loss(8, student, teacher, None))


def test_equal_maps_cost_nothing(pairing, bare, loss_of):
    feature = torch.randn(2, 4, 3, 5)
    assert loss_of(AttentionTransferLoss(pairing), feature, -feature,
                   bare) == 0


def test_maps_of_zeros_have_finite_gradients(pairing, bare, loss_of):
    student = torch.zeros(2, 4, 3, 5, requires_grad=True)
    loss = loss_of(AttentionTransferLoss(pairing), student,
                   torch.randn(2, 4, 3, 5), bare)
    loss.backward()
    # An image's attention has length 1 over 15 positions.
    assert loss.item() == pytest.approx(500 / 15)
    assert student.grad.isfinite().all()


def test_only_the_grid_has_to_be_the_teacher_s(pairing, bare, loss_of):
    assert not AttentionTransferLoss.adapts_channels
    with pytest.raises(ValueError, match='stride 8'):
        loss_of(AttentionTransferLoss(pairing), torch.zeros(1, 4, 3, 3),
                torch.zeros(1, 4, 3, 4), bare)


def test_the_published_weight_is_half_the_paper_s_beta(pairing):
    assert AttentionTransferLoss(pairing).loss_weight == 500
    assert AttentionTransferLoss(pairing, 0.0).loss_weight == 0
