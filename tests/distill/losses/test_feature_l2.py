"""The mechanism of the paper, against values by hand."""
import numpy as np
import pytest
import torch

from mtpd.distill.adapters import PyramidAdapter
from mtpd.distill.losses import BatchContext, FeatureL2Loss, Pairing

SCENE = BatchContext((64, 64), ())


def test_mean_squared_error_by_hand():
    loss = FeatureL2Loss(Pairing({8: 2, 16: 1}), loss_weight=3.0)
    student = {8: torch.tensor([1., 2.]).view(1, 2, 1, 1),
               16: torch.zeros(1, 1, 1, 1)}
    teacher = {8: torch.tensor([0., 4.]).view(1, 2, 1, 1),
               16: torch.full((1, 1, 1, 1), 5.)}
    # (1 + 4) / 2 = 2.5 and 25, two levels, weight 3.
    assert loss(student, teacher, SCENE) == {
        'loss_distill_s8': torch.tensor(3.75),
        'loss_distill_s16': torch.tensor(37.5)}
    with pytest.raises(ValueError, match='stride 16.*Adapt it'):
        loss(student, {**teacher, 16: torch.zeros(1, 1, 2, 2)}, SCENE)
    with pytest.raises(ValueError, match='strides'):
        loss(student, {8: teacher[8]}, SCENE)


def test_normalised_distance_has_no_scale():
    plain, normalised = (FeatureL2Loss(
        Pairing({8: 3}), loss_weight=2.0, normalise=n) for n in (False, True))
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    # Channels of unequal means: variance is within channels.
    teacher = teacher * 3 + torch.tensor([0., 10., -5.]).view(1, 3, 1, 1)
    one, = normalised({8: student}, {8: teacher}, SCENE).values()
    by_hand = np.mean((student - teacher).numpy() ** 2) / np.mean(
        [teacher[:, c].numpy().var() for c in range(3)])
    assert one.item() == pytest.approx(2 * by_hand, rel=1e-5)
    scaled, = normalised({8: 100 * student}, {8: 100 * teacher},
                         SCENE).values()
    torch.testing.assert_close(scaled, one)
    nothing = torch.zeros(1, 3, 2, 2)
    assert normalised({8: nothing + 4}, {8: nothing}, SCENE) \
        == plain({8: nothing + 4}, {8: nothing}, SCENE) \
        == {'loss_distill_s8': torch.tensor(32.)}


@pytest.mark.parametrize('spread', [0., 1e-30, 1e-6, 1e-2])
def test_maps_that_hardly_differ_have_the_scale_of_their_values(spread):
    """One position of each frame of a still camera: a hundredth of the mean
    square is the least variance, and the batch's size does not matter."""
    normalised = FeatureL2Loss(Pairing({8: 3}), loss_weight=1., normalise=True)
    torch.manual_seed(0)
    frame = torch.tensor([3., -4., 5.]).view(1, 3, 1, 1)
    frames = frame + spread * torch.randn(8, 3, 1, 1)
    student = (frame + 1).expand(8, 3, 1, 1).clone().requires_grad_()
    loss, = normalised({8: student}, {8: frames}, SCENE).values()
    expected = 1 / (.01 * (9 + 16 + 25) / 3)
    assert loss.item() == pytest.approx(expected, rel=.02)
    loss.backward()
    assert student.grad.abs().max().item() == pytest.approx(
        2 * expected / 24, rel=.05)
    one, = normalised({8: student[:1]}, {8: frames[:1]}, SCENE).values()
    assert one.item() == pytest.approx(expected, rel=.05)


def test_gradient_of_adapter_and_loss_against_finite_differences():
    torch.manual_seed(0)
    adapter = PyramidAdapter({8: 2, 16: 3}, {8: 3, 16: 3}, (8, 16)).double()
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    loss = FeatureL2Loss(Pairing({8: 3, 16: 3}), loss_weight=1.7)
    teacher = {8: torch.randn(1, 3, 6, 5, dtype=torch.double),
               16: torch.randn(1, 3, 3, 2, dtype=torch.double)}

    fine = torch.randn(1, 2, 3, 3, dtype=torch.double, requires_grad=True)
    coarse = torch.randn(1, 3, 3, 2, dtype=torch.double, requires_grad=True)

    def total(fine, coarse):
        return sum(loss(adapter({8: fine, 16: coarse}, teacher),
                        teacher, SCENE).values())

    assert torch.autograd.gradcheck(total, (fine, coarse))
    conv = adapter.levels['8'].project.weight
    gradient, = torch.autograd.grad(total(fine, coarse), conv)
    for index in ((0, 0, 0, 0), (2, 1, 0, 0)):
        old = conv.data[index].item()
        ends = []
        for shift in (1e-6, -1e-6):
            conv.data[index] = old + shift
            ends.append(total(fine, coarse).item())
        conv.data[index] = old
        assert gradient[index].item() == pytest.approx(
            (ends[0] - ends[1]) / 2e-6, rel=1e-6)
