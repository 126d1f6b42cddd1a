import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtpd.distill.losses import PKDLoss, Pairing


@pytest.mark.parametrize('name', ['pkd_w1.0', 'pkd_w6.0'])
def test_loss_and_gradient_are_the_authors(reference, agrees, name):
    case = reference(name)
    agrees(PKDLoss(Pairing({8: 6}), **case['kwargs']), case)


def test_it_is_one_minus_pearson_s_correlation(pairing, bare, loss_of):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 4, 3, 5).double()
    correlation = np.mean([
        np.corrcoef(student[:, c].flatten(), teacher[:, c].flatten())[0, 1]
        for c in range(4)])
    # The sample's deviation makes the mean square 1 - 1 / 30.
    expected = (1 - correlation) * (1 - 1 / 30)
    loss = loss_of(PKDLoss(pairing, 1.0), student, teacher, bare)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_finite_differences(pairing, differentiates):
    differentiates(PKDLoss(pairing))


per_channel = st.lists(st.tuples(st.floats(0.1, 10), st.floats(-10, 10)),
                       min_size=8, max_size=8)


@given(numbers=per_channel)
def test_scale_and_offset_of_a_channel_change_nothing(numbers):
    torch.manual_seed(1)
    maps = torch.randn(2, 2, 4, 3, 5).double()
    numbers = torch.tensor(numbers).double().view(2, 1, 4, 1, 1, 2)
    moved = maps * numbers[..., 0] + numbers[..., 1]
    loss = PKDLoss(Pairing({8: 4}), 1.0)
    # 1e-6 beside the deviation is what remains of the scale.
    torch.testing.assert_close(loss.level_loss(8, *moved, None),
                               loss.level_loss(8, *maps, None),
                               rtol=1e-4, atol=0)


def test_equal_maps_cost_nothing(pairing, bare, loss_of):
    feature = torch.randn(2, 4, 3, 5, requires_grad=True)
    loss = loss_of(PKDLoss(pairing), feature, feature.detach(), bare)
    loss.backward()
    assert loss.item() == 0
    assert feature.grad.abs().max() == 0


def test_constant_channels_are_finite(pairing, bare, loss_of):
    student = torch.randn(2, 4, 3, 5)
    student[:, 1] = 0
    student[:, 2] = 0.5
    student.requires_grad_()
    teacher = torch.randn(2, 4, 3, 5)
    teacher[:, 2:] = 0
    loss = loss_of(PKDLoss(pairing, 1.0), student, teacher, bare)
    loss.backward()
    # Channel 1 stands against noise of variance 29 / 30, channel 2 against
    # nothing, channel 3 is noise against nothing.
    unit = 29 / 30 / 2
    own = PKDLoss(Pairing({8: 1}), 1.0).level_loss(
        8, student[:, :1], teacher[:, :1], None)
    assert loss.item() == pytest.approx((own.item() + 2 * unit) / 4, rel=1e-4)
    assert student.grad.isfinite().all()


def test_one_position_has_nothing_to_match(pairing, bare, loss_of):
    student = torch.randn(1, 4, 1, 1, requires_grad=True)
    loss = loss_of(PKDLoss(pairing, 1.0), student, torch.randn(1, 4, 1, 1),
                   bare)
    loss.backward()
    assert loss == 0 and student.grad.abs().max() == 0


def test_published_weights_differ_by_the_kind_of_student():
    assert PKDLoss(Pairing({8: 4})).loss_weight == 10
    assert PKDLoss(Pairing({8: 4}, two_stage=True)).loss_weight == 6


def test_weight_zero_is_zero(pairing, bare, loss_of):
    assert loss_of(PKDLoss(pairing, 0.0), torch.randn(1, 4, 3, 3),
                   torch.randn(1, 4, 3, 3), bare) == 0
