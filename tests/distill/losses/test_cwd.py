import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from mtpd.distill.losses import CWDLoss, Pairing


@pytest.mark.parametrize('name', [
    'cwd_tau1.0_w1.0', 'cwd_tau1.0_w10.0', 'cwd_tau4.0_w3.0'])
def test_loss_and_gradient_are_the_authors(reference, agrees, name):
    case = reference(name)
    agrees(CWDLoss(Pairing({8: 6}), **case['kwargs']), case)


def test_it_is_the_divergence_over_positions(pairing, bare, loss_of):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 4, 3, 5).double()
    expected = np.mean([
        rel_entr(softmax(teacher[n, c].numpy() / 3),
                 softmax(student[n, c].numpy() / 3)).sum() * 9
        for n in range(2) for c in range(4)])
    loss = loss_of(CWDLoss(pairing, 1.0, tau=3.0), student, teacher, bare)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_gradients_are_finite_differences(pairing, differentiates):
    differentiates(CWDLoss(pairing, 2.0, tau=1.5))


def test_equal_maps_cost_nothing(pairing, bare, loss_of):
    feature = (50 * torch.randn(2, 4, 3, 5)).requires_grad_()
    loss = loss_of(CWDLoss(pairing), feature, feature.detach(), bare)
    loss.backward()
    assert loss.item() == 0
    assert feature.grad.abs().max() < 1e-5


@given(offset=st.lists(st.floats(-5, 5), min_size=8, max_size=8))
def test_an_offset_of_a_channel_changes_nothing(offset):
    torch.manual_seed(1)
    student, teacher = torch.randn(2, 2, 4, 3, 5).double()
    loss = CWDLoss(Pairing({8: 4}), 1.0)
    moved = student + torch.tensor(offset).double().view(2, 4, 1, 1)
    torch.testing.assert_close(
        loss.level_loss(8, moved, teacher, None),
        loss.level_loss(8, student, teacher, None))


def test_the_temperature_squared_keeps_the_gradient_s_size(pairing):
    # Far above the maps' spread the divergence is half the variance of the
    # difference over tau squared, so that the loss has a limit.
    torch.manual_seed(2)
    student, teacher = torch.randn(2, 2, 4, 3, 5).double()
    limit = (teacher - student).flatten(2).var(dim=2, correction=0).mean() / 2
    loss = CWDLoss(pairing, 1.0, tau=1e4).level_loss(8, student, teacher, None)
    torch.testing.assert_close(loss, limit, rtol=1e-3, atol=0)


def test_published_weights_differ_by_the_kind_of_student():
    assert CWDLoss(Pairing({8: 4})).loss_weight == 5
    assert CWDLoss(Pairing({8: 4}, two_stage=True)).loss_weight == 10
    assert CWDLoss(Pairing({8: 4}, two_stage=True), 3.).loss_weight == 3


def test_weight_zero_is_zero(pairing, bare, loss_of):
    assert loss_of(CWDLoss(pairing, 0.0), torch.randn(1, 4, 3, 3),
                   torch.randn(1, 4, 3, 3), bare) == 0


@pytest.mark.parametrize('wrong', [dict(tau=0.0), dict(tau=float('nan')),
                                   dict(loss_weight=-1.0)])
def test_wrong_settings_name_themselves(pairing, wrong):
    with pytest.raises(ValueError, match=f'CWDLoss.*{next(iter(wrong))}'):
        CWDLoss(pairing, **wrong)
