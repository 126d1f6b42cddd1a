"""Codebooks against scipy, brute force and gradients by hand."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.cluster.vq import kmeans2
from torch import nn

from mtpd.pack.codes import codebook, codebooks, decoded, k_means, nearest
from mtpd.pack.fine_tune import fix_values, share_values


@pytest.mark.filterwarnings('ignore:One of the clusters is empty')
@pytest.mark.parametrize('count', [2, 7, 16])
def test_means_are_those_of_scipy(count):
    numbers = np.random.default_rng(count).standard_t(4, 3000)
    start = np.linspace(numbers.min(), numbers.max(), count)
    expected, _ = kmeans2(numbers[:, None], start[:, None], iter=300,
                          minit='matrix', missing='warn')
    found = k_means(numbers, count)
    # scipy keeps the means of no number, too.
    used = np.unique(np.abs(numbers[:, None] - expected.T).argmin(1))
    np.testing.assert_allclose(found, expected[used, 0], rtol=1e-9)


@settings(max_examples=50)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40),
       st.integers(1, 5), st.floats(0, .99))
def test_each_weight_has_the_nearest_value(numbers, bits, prune):
    weights = torch.tensor(numbers)
    book = codebook(weights, bits, prune)
    found = book.weights()
    assert found.unique().numel() <= 2 ** bits
    assert torch.equal(book.values, book.values.sort().values)
    gone = int(prune * len(numbers))
    kept = torch.ones(len(numbers), dtype=torch.bool)
    if book.pruned:
        kept = book.codes > 0
        limit = weights.abs().sort().values[gone - 1] if gone else 0
        assert (~kept).sum() >= gone
        assert weights[~kept].abs().max() <= limit
        assert (found[~kept] == 0).all()
    if kept.any():
        distances = (weights[kept, None] - book.values).abs()
        torch.testing.assert_close((found - weights)[kept].abs(),
                                   distances.min(1).values)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60),
       st.integers(1, 9))
def test_each_mean_is_that_of_the_numbers_nearest_to_it(numbers, count):
    numbers = np.array(numbers)
    means = k_means(numbers, count)
    assert len(means) <= count
    places = nearest(numbers, means)
    for place, mean in enumerate(means):
        np.testing.assert_allclose(numbers[places == place].mean(), mean,
                                   atol=1e-12)


def test_pruning_takes_exactly_the_smallest():
    weights = torch.tensor([[.5, -.1, .2], [0., -.3, .4], [.05, 2., -1.]])
    for prune, gone in ((.3, 2), (.34, 3), (.5, 4), (.01, 1)):
        found = codebook(weights, 8, prune).weights()
        assert (found == 0).sum() == max(gone, 1)
        kept = found != 0
        assert torch.equal(found[kept], weights[kept])
    assert codebook(weights, 8).pruned is False
    # One bit: zero and one value, or two values.
    assert codebook(weights, 1, .5).weights().unique().numel() == 2
    assert codebook(weights, 1).weights().unique().numel() == 2
    assert torch.equal(codebook(weights, 16).weights(), weights)
    assert codebook(torch.zeros(4, 4), 3, .5).weights().abs().sum() == 0
    # Large layers take no longer than sorting does.
    assert codebook(torch.randn(300_000), 8).values.numel() <= 256


def test_which_tensors_share_values_and_that_ties_stay():
    weight = torch.randn(6, 4, 3, 3)
    weights = {'backbone.a.weight': weight, 'head.b.weight': weight,
               'head.c.weight': weight[:, :2], 'head.c.bias': torch.randn(6),
               'neck.norm.weight': torch.randn(6),
               'neck.norm.running_var': torch.rand(6),
               'head.attention.in_proj_weight': torch.randn(12, 4),
               'head.count.weight': torch.ones(2, 2, dtype=torch.long)}
    books = codebooks(weights, 2, 0)
    assert books.keys() == {'backbone.a.weight', 'head.b.weight',
                            'head.c.weight', 'head.attention.in_proj_weight'}
    found = decoded(books)
    assert found['backbone.a.weight'] is found['head.b.weight']
    assert found['head.c.weight'].shape == (6, 2, 3, 3)


@pytest.mark.parametrize('prune', [0, .25])
def test_a_values_gradient_is_the_sum_over_its_weights(prune):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1),
                        nn.Flatten(), nn.Linear(16, 2))
    net.append(net[4])  # the same module again, under another key
    net[5] = nn.Sequential(nn.Linear(2, 16), net[4])
    images = torch.randn(5, 3, 4, 4)
    books = codebooks(net.state_dict(), 2, prune)
    assert len(books) == 5 and books['4.weight'] is books['5.1.weight']
    net.load_state_dict({**net.state_dict(), **decoded(books)})
    plain = net(images)
    plain.square().sum().backward()
    expected = {}
    for key, book in books.items():
        gradient = net.get_parameter(key).grad
        expected[key] = [gradient[book.codes == place + book.pruned].sum()
                         for place in range(len(book.values))]
    net.zero_grad()
    share_values(net, books)
    shared = net(images)
    assert torch.equal(shared, plain)
    shared.square().sum().backward()
    parameters = dict(net.named_parameters())
    for key, sums in expected.items():
        if key == '5.1.weight':
            continue  # a parameter of two keys has the first
        name = key.replace('weight', 'parametrizations.weight.original')
        assert parameters[name].shape == (len(books[key].values),)
        torch.testing.assert_close(parameters[name].grad, torch.stack(sums),
                                   rtol=1e-4, atol=1e-4)
    torch.optim.SGD(net.parameters(), .01).step()
    after = net(images)
    fix_values(net, books)
    assert torch.equal(net(images), after)
    assert not any('parametriz' in key for key in net.state_dict())
    for key, book in books.items():
        weights = net.get_parameter(key)
        assert weights.unique().numel() <= 4
        assert not book.pruned or (weights[book.codes == 0] == 0).all()
