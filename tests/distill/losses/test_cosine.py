import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from mtpd.distill.losses import CosineLoss, Pairing


def vectors(feature):
    return feature.permute(0, 2, 3, 1).reshape(-1, feature.shape[1]).numpy()


def test_it_is_the_mean_cosine_distance(pairing, bare, loss_of):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 4, 3, 5).double()
    expected = np.mean([cosine(u, v) for u, v in zip(vectors(student),
                                                     vectors(teacher))])
    loss = loss_of(CosineLoss(pairing, 2.5), student, teacher, bare)
    assert loss.item() == pytest.approx(2.5 * expected, rel=1e-10)


def test_gradients_are_finite_differences(pairing, differentiates):
    differentiates(CosineLoss(pairing))


@given(scales=st.lists(st.floats(0.01, 100), min_size=30, max_size=30))
def test_the_length_of_vectors_changes_nothing(scales):
    torch.manual_seed(1)
    student, teacher = torch.randn(2, 2, 4, 3, 5).double()
    scales = torch.tensor(scales).double().view(2, 1, 3, 5)
    loss = CosineLoss(Pairing({8: 4}))
    torch.testing.assert_close(
        loss.level_loss(8, student * scales, teacher / scales, None),
        loss.level_loss(8, student, teacher, None))


@pytest.mark.parametrize('sign, expected', [(1, 0), (-1, 2)])
def test_equal_maps_cost_nothing_and_opposite_ones_two(
        pairing, bare, loss_of, sign, expected):
    feature = torch.randn(2, 4, 3, 5)
    assert loss_of(CosineLoss(pairing), feature, 3 * sign * feature,
                   bare).item() == pytest.approx(expected, abs=1e-6)


def test_vectors_of_zeros_count_as_orthogonal_with_finite_gradient(
        pairing, bare, loss_of):
    student = torch.zeros(1, 4, 3, 5, requires_grad=True)
    teacher = torch.randn(1, 4, 3, 5)
    teacher[..., 0] = 0
    loss = loss_of(CosineLoss(pairing), student, teacher, bare)
    loss.backward()
    assert loss.item() == 1
    assert student.grad.norm(dim=1).max() == pytest.approx(1e6 / 15, rel=1e-4)


def test_weight_zero_is_zero(pairing, bare, loss_of):
    assert CosineLoss(pairing).loss_weight == 1
    assert loss_of(CosineLoss(pairing, 0.0), torch.randn(1, 4, 3, 3),
                   torch.randn(1, 4, 3, 3), bare) == 0
