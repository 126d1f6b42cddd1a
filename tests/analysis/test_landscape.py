"""Directions, surfaces and rises against closed forms."""
import numpy as np
import pytest
import torch
from torch import nn

from mtpd.analysis.landscape import (common_norms, draw_direction,
                                     filter_norms, increases, moving, surface)


class Bowl(nn.Module):
    """Half the sum of curvature x weight^2, about a minimum at ``at``."""

    def __init__(self, curvature: torch.Tensor, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(
            curvature.shape, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.curvature = curvature.double()

    def value(self) -> np.ndarray:
        # Two groups of images, the second's loss twice the first's.
        loss = (self.curvature * self.weight**2).sum() / 2
        return np.array([1., 2.]) * loss.item()


class Net(nn.Module):
    """Convolution, batch norm, ReLU, convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6, eps=1e-20)
        self.last = nn.Conv2d(6, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(x)).relu())


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    net = Net().double()
    with torch.no_grad():
        for _ in range(50):
            net(torch.randn(8, 3, 8, 8, dtype=torch.float64))
    return net.eval()


def loss_of(net: nn.Module):
    images = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(1))

    def loss() -> np.ndarray:
        with torch.no_grad():
            return np.array([float((net(x)**2).mean()) for x in images])
    return loss


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[key])
               for key, value in model.state_dict().items())


def test_each_filter_of_a_direction_has_the_wanted_norm(net):
    norms = filter_norms(net)
    # Biases and norm layers have one dimension: they are not moved.
    assert set(norms) == {'first.weight', 'last.weight'}
    direction = draw_direction(net, norms, seed=3, index=0)
    assert set(direction) == set(norms)
    for name in norms:
        weight = net.state_dict()[name]
        for i in range(len(weight)):
            wanted = float((weight[i]**2).sum())**.5
            assert float((direction[name][i]**2).sum())**.5 == \
                pytest.approx(wanted, rel=1e-6)
    net.first.weight.requires_grad_(False)  # a frozen stage
    assert set(filter_norms(net)) == {'last.weight'}


def test_a_filter_without_weights_is_not_moved(net):
    with torch.no_grad():
        net.last.weight[1] = 0
    direction = draw_direction(net, filter_norms(net), 0, 0)
    assert not direction['last.weight'][1].any()
    assert direction['last.weight'][0].any()


def test_directions_are_drawn_by_seed_and_index_alone(net):
    norms = filter_norms(net)
    first = draw_direction(net, norms, seed=5, index=1)
    torch.manual_seed(99)
    torch.randn(10)
    again = draw_direction(Net().double(), norms, seed=5, index=1)
    assert all(torch.equal(first[k], again[k]) for k in first)
    for seed, index in ((5, 2), (6, 1)):
        other = draw_direction(net, norms, seed, index)
        cosine = float((first['first.weight'] * other['first.weight']).sum()
                       / (norms['first.weight']**2).sum())
        assert abs(cosine) < .4  # of 162 numbers: five standard errors


def test_common_norms_lie_between_in_the_same_ratio_to_both(net):
    one = filter_norms(net)
    other = {name: norms * torch.linspace(.5, 3, len(norms))
             for name, norms in one.items()}
    common = common_norms(one, other)
    for name in one:
        assert torch.allclose(common[name] / one[name],
                              other[name] / common[name])
    assert all(torch.equal(a, b) for a, b in zip(
        common.values(), common_norms(other, one).values()))


def test_a_bowls_surface_and_rises_are_their_closed_forms():
    curvature = torch.rand(5, 7, generator=torch.Generator().manual_seed(2))
    bowl = Bowl(curvature)
    norms = filter_norms(bowl)
    directions = [draw_direction(bowl, norms, 0, i) for i in range(300)]
    w, h = bowl.weight.detach().numpy(), curvature.double().numpy()
    d = [direction['weight'].numpy() for direction in directions]
    at = (-1., -.25, 0., .5)
    seen = surface(bowl, bowl.value, directions[0], directions[1], at)
    assert seen.shape == (4, 4, 2)
    for i, y in enumerate(at):
        for j, x in enumerate(at):
            value = (h * (w + x * d[0] + y * d[1])**2).sum() / 2
            assert seen[i, j] == pytest.approx([value, 2 * value], rel=1e-12)

    radius = .2
    rises = increases(bowl, bowl.value, directions, radius)
    assert rises.shape == (300, 2)
    # The slope of where the bowl stands has dropped out.
    assert rises[:, 0] == pytest.approx(
        [radius**2 / 2 * (h * x * x).sum() for x in d], rel=1e-9)
    assert rises[:, 1] == pytest.approx(2 * rises[:, 0], rel=1e-9)
    # On average over directions: norm^2 / size x trace, filter by filter.
    trace = radius**2 / 2 * ((w**2).sum(1) / 7 * h.sum(1)).sum()
    error = rises[:, 0].std() / 300**.5
    assert abs(rises[:, 0].mean() - trace) < 4 * error
    assert error < trace / 20


def test_a_flat_bowl_is_flatter_than_a_sharp_one():
    sharp = Bowl(torch.full((4, 9), 3.))
    flat = Bowl(torch.full((4, 9), .5))
    rises = [increases(bowl, bowl.value, [
        draw_direction(bowl, filter_norms(bowl), 0, i) for i in range(3)], .1)
        for bowl in (flat, sharp)]
    assert (rises[0] * 6).ravel() == pytest.approx(rises[1].ravel())


def test_weights_are_put_back_bit_for_bit(net):
    before = snapshot(net)
    norms = filter_norms(net)
    x, y = (draw_direction(net, norms, 0, i) for i in range(2))
    net.train()  # batch norms count and average while they are looked at
    first = surface(net, loss_of(net), x, y, (-.3, 0., .7))
    assert same(net, before)
    # Each point starts from the same buffers.
    assert (first == surface(net, loss_of(net), x, y, (-.3, 0., .7))).all()
    increases(net, loss_of(net), [x, y], .1)
    assert same(net, before)
    with pytest.raises(KeyboardInterrupt), moving(net) as place:
        place((1., x), (.1, y))
        assert not same(net, before)
        raise KeyboardInterrupt
    assert same(net, before)


def test_the_centre_of_a_surface_is_the_loss_itself(net):
    norms = filter_norms(net)
    x, y = (draw_direction(net, norms, 0, i) for i in range(2))
    seen = surface(net, loss_of(net), x, y, (-.5, 0., .5))
    assert (seen[1, 1] == loss_of(net)()).all()


def test_what_a_batch_norm_undoes_does_not_show(net):
    """Scaling a convolution before a batch norm changes nothing of what the
    network computes, and nothing of its surface."""
    def seen(norms):
        x, y = (draw_direction(net, norms, 0, i) for i in range(2))
        return surface(net, loss_of(net), x, y, (-.5, 0., .5)), increases(
            net, loss_of(net), [x, y], .2)

    as_it_was = filter_norms(net)
    around, rises = seen(as_it_was)
    scale = torch.tensor([.2, 10., 1., 4., .5, 7.], dtype=torch.float64)
    with torch.no_grad():
        net.first.weight *= scale.view(-1, 1, 1, 1)
        net.norm.running_mean *= scale
        net.norm.running_var *= scale**2
    scaled = filter_norms(net)
    assert scaled['first.weight'].numpy() == pytest.approx(
        (as_it_was['first.weight'] * scale).numpy())
    again, rises_again = seen(scaled)
    assert np.allclose(around, again, rtol=1e-9)
    assert np.allclose(rises, rises_again, rtol=1e-7)
    # Without the normalisation it would look like another landscape.
    other, _ = seen(as_it_was)
    assert not np.allclose(around, other, rtol=.1)
