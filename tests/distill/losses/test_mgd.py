import numpy as np
import pytest
import torch
from scipy.signal import correlate

from mtpd.distill.losses import MGDLoss, Pairing

GENERATOR = {f'generators.8.{layer}.{part}': f'generation.{layer}.{part}'
             for layer in (0, 2) for part in ('weight', 'bias')}


@pytest.mark.parametrize('name', ['mgd_6to6_mask0.0', 'mgd_6to6_mask0.65',
                                  'mgd_4to6_mask0.45'])
def test_loss_and_gradients_are_the_authors(reference, agrees, name):
    case = reference(name)
    mechanism = MGDLoss(Pairing({8: 6}), case['kwargs']['alpha_mgd'],
                        mask_ratio=case['kwargs']['lambda_mgd'])
    mechanism._keep_mask = lambda student: case['keep_mask']
    agrees(mechanism, case, GENERATOR)


def convolved(x, conv):
    """A 3x3 convolution with padding, image by image, in float64."""
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    return np.stack([np.stack([
        sum(correlate(np.pad(image[i], 1), kernel[i], mode='valid')
            for i in range(len(kernel))) + bias[o]
        for o, kernel in enumerate(weight)]) for image in x])


def test_it_is_the_generated_map_s_squared_error(bare, loss_of):
    torch.manual_seed(0)
    mechanism = MGDLoss(Pairing({8: 3}), 0.5).double()
    student, teacher = torch.randn(2, 2, 3, 4, 5).double()
    keep = (torch.rand(2, 1, 4, 5) > 0.5).double()
    mechanism._keep_mask = lambda _: keep
    first, _, second = mechanism.generators['8']
    generated = convolved(np.maximum(convolved(
        (student * keep).numpy(), first), 0), second)
    expected = 0.5 * ((generated - teacher.numpy()) ** 2).sum() / 2
    loss = loss_of(mechanism, student, teacher, bare)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_gradients_are_finite_differences(pairing, differentiates):
    mechanism = MGDLoss(pairing, 0.1)
    keep = torch.tensor([1., 0, 1, 1] * 6).double().view(2, 1, 3, 4)
    mechanism._keep_mask = lambda _: keep
    differentiates(mechanism)


def test_a_generator_that_passes_on_makes_equal_maps_cost_nothing(
        pairing, bare, loss_of):
    mechanism = MGDLoss(pairing, mask_ratio=0.0)
    for conv in mechanism.generators['8'][::2]:
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    feature = torch.rand(2, 4, 3, 5)  # above 0, which ReLU leaves alone
    assert loss_of(mechanism, feature, feature.clone(), bare) == 0


def test_dropped_positions_get_no_gradient(pairing, bare, loss_of):
    mechanism = MGDLoss(pairing)
    keep = torch.ones(1, 1, 3, 5)
    keep[0, 0, 1, 2:4] = 0
    mechanism._keep_mask = lambda _: keep
    student = torch.randn(1, 4, 3, 5, requires_grad=True)
    loss_of(mechanism, student, torch.randn(1, 4, 3, 5), bare).backward()
    assert torch.equal(student.grad.abs().sum(dim=1, keepdim=True) > 0,
                       keep > 0)


@pytest.mark.parametrize('ratio', [0.0, 0.45, 0.65, 0.99])
def test_the_mask_drops_the_share_and_is_drawn_anew(pairing, ratio):
    mechanism = MGDLoss(pairing, mask_ratio=ratio)
    torch.manual_seed(0)
    one, other = (mechanism._keep_mask(torch.empty(4, 7, 100, 100))
                  for _ in range(2))
    assert one.shape == (4, 1, 100, 100)
    assert set(one.unique().tolist()) <= {0., 1.}
    # Five standard deviations of a share of 40000 draws.
    tolerance = 5 * (ratio * (1 - ratio) / 40000) ** 0.5
    assert (one == 0).float().mean().item() == pytest.approx(
        ratio, abs=tolerance + 1e-9)
    assert torch.equal(one, other) == (ratio == 0)


def test_published_settings_differ_by_the_kind_of_student():
    one, two = (MGDLoss(Pairing({8: 4}, two_stage=t)) for t in (False, True))
    assert (one.loss_weight, one.mask_ratio) == (2e-5, 0.65)
    assert (two.loss_weight, two.mask_ratio) == (5e-7, 0.45)


def test_each_level_has_a_generator_of_its_teacher_s_channels():
    mechanism = MGDLoss(Pairing({8: 4, 16: 6}))
    assert {stride: (g[0].in_channels, g[2].out_channels)
            for stride, g in mechanism.generators.items()} == {
        '8': (4, 4), '16': (6, 6)}


@pytest.mark.parametrize('ratio', [-0.1, 1.0, 1.5, float('nan')])
def test_a_wrong_ratio_names_itself(pairing, ratio):
    with pytest.raises(ValueError, match='distill.mask_ratio'):
        MGDLoss(pairing, mask_ratio=ratio)


def test_weight_zero_is_zero(pairing, bare, loss_of):
    assert loss_of(MGDLoss(pairing, 0.0), torch.randn(1, 4, 3, 3),
                   torch.randn(1, 4, 3, 3), bare) == 0
