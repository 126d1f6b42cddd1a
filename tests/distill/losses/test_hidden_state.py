import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mtpd.distill.losses import FeatureL2Loss, HiddenStateLoss, Pairing

PYRAMID = {8: 4, 16: 4, 32: 4, 64: 4, 128: 4}


def feature_maps(strides=PYRAMID):
    torch.manual_seed(0)
    return [{s: torch.randn(2, 4, 128 // s, 256 // s).double()
             for s in strides} for _ in range(2)]


def test_it_is_the_mean_square_between_unit_vectors(pairing, bare, loss_of):
    student, teacher = (p[8] for p in feature_maps([8]))
    expected = np.mean([
        ((u / np.linalg.norm(u) - v / np.linalg.norm(v)) ** 2).sum()
        for u, v in zip(student.permute(0, 2, 3, 1).reshape(-1, 4).numpy(),
                        teacher.permute(0, 2, 3, 1).reshape(-1, 4).numpy())])
    loss = loss_of(HiddenStateLoss(pairing, 3.0), student, teacher, bare)
    assert loss.item() == pytest.approx(3 * expected, rel=1e-10)


@pytest.mark.parametrize('strides, layers, chosen', [
    ((8, 16, 32, 64, 128), 'all', (8, 16, 32, 64, 128)),
    ((8, 16, 32, 64, 128), 'skip', (8, 32, 128)),
    ((8, 16, 32, 64), 'skip', (16, 64)),
    ((8, 16, 32, 64, 128), 'last', (32, 64, 128)),
    ((4, 8, 16, 32), 'last', (16, 32)),
    ((8,), 'skip', (8,)), ((8,), 'last', (8,))])
def test_levels_are_chosen_from_the_coarsest(bare, strides, layers, chosen):
    pairing = Pairing(dict.fromkeys(reversed(strides), 4))
    losses = HiddenStateLoss(pairing, layers=layers)(
        *feature_maps(strides), bare)
    assert set(losses) == {f'loss_distill_s{s}' for s in chosen}
    everything = HiddenStateLoss(pairing)(*feature_maps(strides), bare)
    assert all(torch.equal(losses[k], everything[k]) for k in losses)


def test_levels_not_chosen_get_a_gradient_of_zero(bare):
    student, teacher = feature_maps()
    for feature in student.values():
        feature.requires_grad_()
    losses = HiddenStateLoss(Pairing(PYRAMID), layers='last')(
        student, teacher, bare)
    sum(losses.values()).backward()
    assert {s: bool(m.grad.any()) for s, m in student.items()} == {
        8: False, 16: False, 32: True, 64: True, 128: True}


def test_without_normalising_it_is_feature_matching_summed(bare):
    maps, pairing = feature_maps(), Pairing(PYRAMID)
    losses = HiddenStateLoss(pairing, normalise=False)(*maps, bare)
    matching = FeatureL2Loss(pairing)(*maps, bare)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(
        {k: 5 * v.item() for k, v in matching.items()})


@pytest.mark.parametrize('normalise', [True, False])
def test_gradients_are_finite_differences(pairing, differentiates, normalise):
    differentiates(HiddenStateLoss(pairing, normalise=normalise))


@given(scale=st.floats(0.01, 100))
def test_the_length_of_vectors_changes_nothing(scale):
    student, teacher = (p[8] for p in feature_maps([8]))
    loss = HiddenStateLoss(Pairing({8: 4}))
    torch.testing.assert_close(
        loss.level_loss(8, student * scale, teacher, None),
        2 * (1 - F.cosine_similarity(student, teacher).mean()))


@pytest.mark.parametrize('normalise', [True, False])
def test_equal_maps_cost_nothing(pairing, bare, loss_of, normalise):
    feature = torch.randn(2, 4, 3, 5)
    feature[0, :, 0, 0] = 0
    assert loss_of(HiddenStateLoss(pairing, normalise=normalise), feature,
                   feature.clone(), bare) == 0


def test_vectors_of_zeros_have_finite_gradients(pairing, bare, loss_of):
    student = torch.zeros(1, 4, 3, 5, requires_grad=True)
    loss = loss_of(HiddenStateLoss(pairing), student,
                   torch.randn(1, 4, 3, 5), bare)
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert student.grad.norm(dim=1).max() == pytest.approx(2e6 / 15, rel=1e-4)


def test_other_layers_name_the_choices(pairing):
    with pytest.raises(ValueError, match="'first'.*'all', 'skip', 'last'"):
        HiddenStateLoss(pairing, layers='first')


def test_weight_zero_is_zero(pairing, bare, loss_of):
    assert loss_of(HiddenStateLoss(pairing, 0.0), torch.randn(1, 4, 3, 3),
                   torch.randn(1, 4, 3, 3), bare) == 0
