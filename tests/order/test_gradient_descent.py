import math
import random
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from mtpd.order.gradient_descent import gradient_descent_costs
from mtpd.order.map_batch import MapBatch

CHANNELS = {8: dict(a=5, b=7, c=4), 16: dict(a=5, b=3, c=6)}
GRIDS = {8: (6, 8), 16: (3, 4)}
FOLDS = 4


def images(count, seed, channels=CHANNELS, offset=0., noise=.5):
    """Detectors that see a common world, one batch of all images."""
    world = torch.Generator().manual_seed(99)
    generator = torch.Generator().manual_seed(seed)
    maps = {name: {} for name in next(iter(channels.values()))}
    for stride, of in channels.items():
        seen = torch.randn((count, 6, *GRIDS[stride]), generator=generator)
        for name, width in of.items():
            mix = torch.randn((width, 6), generator=world) / 6 ** .5
            own = torch.randn((count, width, *GRIDS[stride]),
                              generator=generator)
            maps[name][stride] = (torch.einsum('oc,nchw->nohw', mix, seen)
                                  + noise * own + offset)
    return MapBatch(maps, [i % FOLDS for i in range(count)], None)


def part(batch, chosen):
    return MapBatch({name: {s: level[chosen] for s, level in levels.items()}
                     for name, levels in batch.maps.items()},
                    batch.folds[chosen], batch.valid and {
                        s: keep[chosen] for s, keep in batch.valid.items()})


def in_batches(batch, size):
    return [part(batch, slice(start, start + size))
            for start in range(0, len(batch.folds), size)]


def ragged(batch, seed):
    """Images of different sizes, padded at the right and at the bottom."""
    generator = torch.Generator().manual_seed(seed)
    valid = {}
    for stride, (height, width) in GRIDS.items():
        valid[stride] = torch.zeros(len(batch.folds), height, width,
                                    dtype=torch.bool)
        for keep in valid[stride]:
            rows, columns = (int(torch.randint(size // 2, size + 1, (),
                                               generator=generator))
                             for size in (height, width))
            keep[:rows, :columns] = True
    return batch._replace(valid=valid)


def filled(batch, value):
    """The same with ``value`` in the padding."""
    return batch._replace(maps={
        name: {stride: level.masked_fill(~batch.valid[stride][:, None], value)
               for stride, level in levels.items()}
        for name, levels in batch.maps.items()})


def rows(batch, name, stride):
    """(P, C), float64."""
    level = batch.maps[name][stride].double().movedim(1, -1)
    return (level.flatten(0, 2) if batch.valid is None
            else level[batch.valid[stride]])


def design(batch, name, stride):
    x = rows(batch, name, stride)
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def least_squares(source, target, stride, fitting, scored):
    weights = torch.linalg.lstsq(design(fitting, source, stride),
                                 rows(fitting, target, stride)).solution
    return (design(scored, source, stride) @ weights
            - rows(scored, target, stride)).square().mean().item()


def fitted(fitting, held_out, channels=CHANNELS, size=None, **settings):
    size = size or len(fitting.folds)
    return gradient_descent_costs(
        lambda epoch: in_batches(fitting, size),
        lambda: in_batches(held_out, 3), channels, FOLDS, **settings)


def convolution(inputs, outputs, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Conv2d(inputs, outputs, 1)


def trained_alone(source, target, stride, batches, epochs, lr, momentum,
                  seed):
    """One pair, by torch's own module, loss, optimiser and scheduler."""
    conv = convolution(batches[0].maps[source][stride].shape[1],
                       batches[0].maps[target][stride].shape[1], seed)
    optimiser = torch.optim.SGD(conv.parameters(), lr=lr, momentum=momentum)
    scheduler = torch.optim.lr_scheduler.LinearLR(
        optimiser, start_factor=1., end_factor=0., total_iters=epochs)
    for _ in range(epochs):
        for batch in batches:
            x, y = (batch.maps[name][stride] for name in (source, target))
            errors = (conv(x) - y).square().mean(1)
            if batch.valid is not None:
                errors = errors[batch.valid[stride]]
            optimiser.zero_grad()
            errors.mean().backward()
            optimiser.step()
        scheduler.step()
    return conv


@pytest.mark.parametrize('epochs, size', [(1, 12), (1, 4), (5, 4)])
@pytest.mark.parametrize('padded', [False, True])
def test_every_pair_is_a_convolution_trained_alone(epochs, size, padded):
    fitting, held_out = images(12, 0), images(8, 1)
    if padded:
        fitting, held_out = (filled(ragged(batch, seed), 0.)
                             for batch, seed in ((fitting, 2), (held_out, 3)))
    costs = fitted(fitting, held_out, size=size, epochs=epochs, lr=.3,
                   momentum=.8, seed=7)
    assert (costs.names, costs.strides) == (('a', 'b', 'c'), (8, 16))
    for stride in CHANNELS:
        for source, target in permutations('abc', 2):
            conv = trained_alone(source, target, stride,
                                 in_batches(fitting, size), epochs, .3, .8, 7)
            with torch.no_grad():
                errors = (conv(held_out.maps[source][stride])
                          - held_out.maps[target][stride]).square().mean(1)
            keep = (torch.ones_like(errors, dtype=torch.bool)
                    if held_out.valid is None else held_out.valid[stride])
            pair = costs.at(stride, source, target)
            assert costs.mse[pair] == pytest.approx(
                errors[keep].double().mean().item(), rel=1e-5)
            of_folds = [keep[fold::FOLDS] for fold in range(FOLDS)]
            positions = costs.folds.positions[costs.at(stride, target)]
            assert positions.tolist() == [int(keep.sum())
                                          for keep in of_folds]
            assert costs.folds.errors[pair] == (
                pytest.approx([errors[fold::FOLDS][keep].sum().item()
                               for fold, keep in enumerate(of_folds)],
                              rel=1e-5))


def test_other_detectors_and_levels_change_nothing():
    fitting, held_out = images(12, 0), images(8, 1)
    settings = dict(size=4, epochs=3, lr=.3)
    together = fitted(fitting, held_out, **settings)
    for names in permutations('abc', 2):
        for stride, of in CHANNELS.items():
            alone = fitted(fitting, held_out, {
                stride: {name: of[name] for name in names}}, **settings)
            assert alone.mse[alone.at(stride, *names)] == pytest.approx(
                together.mse[together.at(stride, *names)], rel=1e-6)
            assert alone.variance[alone.at(stride, names[0])] == pytest.approx(
                together.variance[together.at(stride, names[0])], rel=1e-14)


def test_it_converges_to_least_squares():
    fitting, held_out = images(24, 0), images(16, 1)
    seen = []
    costs = fitted(fitting, held_out, size=8, epochs=40, lr=.3, after_epoch=(
        lambda epoch, costs: seen.append((epoch, costs))))
    assert [epoch for epoch, _ in seen] == list(range(40))
    assert seen[-1][1] == costs
    for stride in CHANNELS:
        for source, target in permutations('abc', 2):
            exact = least_squares(source, target, stride, fitting, held_out)
            pair = costs.at(stride, source, target)
            assert costs.mse[pair] == pytest.approx(exact, rel=.01)
            assert seen[0][1].mse[pair] > 1.05 * exact


def test_scoring_after_each_epoch_changes_nothing():
    fitting, held_out = images(12, 0), images(8, 1)
    seen = []
    scored = fitted(fitting, held_out, epochs=3, after_epoch=(
        lambda *of: seen.append(of)))
    assert scored == fitted(fitting, held_out, epochs=3)
    # The rate falls over all epochs, so that fewer are another descent.
    assert seen[1][1] != fitted(fitting, held_out, epochs=2)


def axes(squares, positions=64):
    """(1, C, 8, 8): channels without mean or product with one another."""
    generator = torch.Generator().manual_seed(5)
    columns = torch.randn((positions, len(squares) + 1), generator=generator,
                          dtype=torch.float64)
    columns[:, 0] = 1
    turned = torch.linalg.qr(columns).Q[:, 1:]
    scaled = turned * (torch.tensor(squares) * positions).sqrt()
    return scaled.T.reshape(1, len(squares), 8, 8).float()


def two_detectors(source, target):
    """Twice the same image, in two folds."""
    return MapBatch(dict(s={8: source.repeat(2, 1, 1, 1)},
                         t={8: target.repeat(2, 1, 1, 1)}), [0, 1], None)


def test_the_rate_falls_linearly_to_zero():
    """Without momentum, each axis' error has a closed form."""
    squares, epochs, lr, width = [4., 1., .25], 6, .3, 2
    source = axes(squares)
    answer = torch.tensor([[.5, -2., 3.], [1., 1., -4.]])
    target = torch.einsum('oc,nchw->nohw', answer, source) + 2
    batch = two_detectors(source, target)
    costs = fitted(batch, batch, {8: dict(s=3, t=width)}, epochs=epochs,
                   lr=lr, momentum=0., seed=3)
    conv = convolution(3, width, 3)
    start = torch.cat([conv.weight.detach()[..., 0, 0] - answer,
                       conv.bias.detach()[:, None] - 2], 1)
    expected = sum(
        square * start[:, axis].square().mean().item() * math.prod(
            (1 - 2 * lr * (1 - epoch / epochs) * square / width) ** 2
            for epoch in range(epochs))
        for axis, square in enumerate([*squares, 1.]))
    assert costs.mse[costs.at(8, 's', 't')] == pytest.approx(expected,
                                                             rel=1e-4)


def test_the_unlearned_share_is_as_documented():
    """A weak axis decays by exp(-v lr steps / (C (1 - momentum)))."""
    square, lr, epochs, width = .01, .1, 400, 2
    target = torch.einsum('oc,nchw->nohw', torch.tensor([[9.], [-7.]]),
                          axes([square]))
    batch = two_detectors(axes([square]), target)
    costs = fitted(batch, batch, {8: dict(s=1, t=width)}, epochs=epochs,
                   lr=lr, momentum=.9)
    start = convolution(1, width, 0).weight.detach().flatten()
    distance = (start - torch.tensor([9., -7.])).square().mean().item()
    left = math.sqrt(costs.mse[costs.at(8, 's', 't')] / (square * distance))
    assert left == pytest.approx(
        math.exp(-square * lr * epochs / (width * (1 - .9))), rel=.05)


def test_the_descent_diverges_where_it_says():
    """Where a mean square exceeds (1 + momentum) C / lr."""
    square, width, momentum = 8., 2, .9
    batch = two_detectors(axes([square]), axes([1., 1.]))
    highest = (1 + momentum) * width / square
    settings = dict(channels={8: dict(s=1, t=width)}, epochs=1000,
                    momentum=momentum)
    costs = fitted(batch, batch, lr=.95 * highest, **settings)
    assert costs.mse[costs.at(8, 's', 't')] == pytest.approx(
        least_squares('s', 't', 8, batch, batch), rel=1e-4)
    with pytest.raises(ValueError, match='from s to t at stride 8 diverged'):
        fitted(batch, batch, lr=1.2 * highest, **settings)
    # A few epochs, and the rate has fallen before infinity is reached.
    few = {**settings, 'epochs': 12}
    with pytest.raises(ValueError, match='diverged without reaching infinity'):
        fitted(batch, batch, lr=3 * highest, **few)


def test_an_ill_conditioned_source_stays_above_the_optimum():
    """Scored on the fitting images, whose least squares nothing beats."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn((12, 16, 6, 8), generator=generator)
    turn = torch.linalg.qr(torch.randn((16, 16), generator=generator)).Q
    spread = torch.logspace(0, -2, 16)[:, None, None]
    mix = torch.randn((5, 16), generator=generator) / 4
    batch = MapBatch(dict(
        s={8: torch.einsum('oc,nchw->nohw', turn, whole * spread)},
        t={8: torch.einsum('oc,nchw->nohw', mix, whole)
           + .3 * torch.randn((12, 5, 6, 8), generator=generator)}),
        [i % FOLDS for i in range(12)], None)
    few, many = (fitted(batch, batch, {8: dict(s=16, t=5)}, size=4,
                        epochs=epochs, lr=.2) for epochs in (5, 100))
    for pair, far in ((('s', 't'), 1.5), (('t', 's'), 1.001)):
        optimum = least_squares(*pair, 8, batch, batch)
        place = few.at(8, *pair)
        assert few.mse[place] > far * optimum
        assert few.mse[place] > many.mse[place] > (1 - 1e-6) * optimum
    assert many.mse[many.at(8, 's', 't')] > 1.1 * least_squares(
        's', 't', 8, batch, batch)


@pytest.mark.parametrize('garbage', [float('nan'), float('inf'), 1e30])
def test_padding_is_ignored(garbage):
    fitting, held_out = (ragged(images(count, seed), seed)
                         for count, seed in ((8, 0), (6, 1)))
    clean, spoilt = (fitted(filled(fitting, value), filled(held_out, value),
                            size=4, epochs=2, lr=.3)
                     for value in (0., garbage))
    assert clean == spoilt
    for stride, keep in held_out.valid.items():
        assert clean.positions[clean.at(stride)] == int(keep.sum())
        for name in 'abc':
            assert clean.variance[clean.at(stride, name)] == pytest.approx(
                rows(held_out, name, stride).var(0, correction=0)
                .mean().item(), rel=1e-12)


def test_a_batch_of_padding_alone_makes_no_step():
    fitting, held_out = images(12, 0), images(8, 1)
    valid = {stride: torch.ones(12, *grid, dtype=torch.bool)
             for stride, grid in GRIDS.items()}
    valid[16][8:] = False
    costs = fitted(fitting._replace(valid=valid), held_out, size=4, epochs=2)
    without = fitted(part(fitting, slice(8)), held_out, size=4, epochs=2)
    for pair in permutations('abc', 2):
        fine, coarse = costs.at(8, *pair), costs.at(16, *pair)
        assert costs.mse[coarse] == without.mse[coarse]
        assert costs.mse[fine] != without.mse[fine]


def test_variance_of_maps_far_from_zero():
    held_out = images(8, 1, offset=3000.)
    held_out.maps['c'][16] = torch.full_like(held_out.maps['c'][16], 3.7)
    costs = fitted(images(8, 0), held_out, epochs=1)
    for stride in CHANNELS:
        for name in 'abc':
            assert costs.variance[costs.at(stride, name)] == pytest.approx(
                rows(held_out, name, stride).var(0, correction=0)
                .mean().item(), rel=1e-11, abs=1e-20)
    assert costs.variance[costs.at(16, 'c')] == 0


def test_folds_add_up_and_give_differences_their_error():
    costs = fitted(images(12, 0), images(10, 1), size=4, epochs=2, lr=.3)
    for stride, (height, width) in GRIDS.items():
        # Ten images in four folds.
        assert costs.positions[costs.at(stride)] == 10 * height * width
        for source, target in permutations('abc', 2):
            positions = costs.folds.positions[costs.at(stride, target)]
            assert positions.tolist() == [count * height * width
                                          for count in (3, 3, 2, 2)]
            pair = costs.at(stride, source, target)
            assert sum(costs.folds.errors[pair]) == pytest.approx(
                costs.mse[pair] * costs.positions[costs.at(stride)],
                rel=1e-14)
    difference = costs.difference('a', 'b', 'c')
    assert difference.value == costs.cost('a', 'c') - costs.cost('b', 'c')
    assert difference.groups == FOLDS
    assert 0 < difference.error < math.inf


def test_a_seed_gives_the_same_costs_and_touches_no_generator():
    fitting, held_out = images(8, 0), images(8, 1)
    before = (torch.get_rng_state(), np.random.get_state(),
              random.getstate())
    costs = fitted(fitting, held_out, size=4, epochs=2)
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()
    assert torch.equal(before[0], after[0]) and before[2] == after[2]
    np.testing.assert_equal(before[1], after[1])
    torch.rand(3)
    assert fitted(fitting, held_out, size=4, epochs=2) == costs
    assert fitted(fitting, held_out, size=4, epochs=2, seed=1) != costs


def test_surrounding_precision_and_modes_are_ignored():
    fitting, held_out = images(8, 0), images(8, 1)
    plain = fitted(fitting, held_out, size=4, epochs=2)
    for surroundings in (torch.autocast('cpu', dtype=torch.bfloat16),
                         torch.inference_mode(), torch.no_grad()):
        with surroundings:
            assert fitted(fitting, held_out, size=4, epochs=2) == plain
    # Maps that come with a graph, or from inference mode, are but values.
    learnt = images(8, 0)
    for levels in learnt.maps.values():
        for level in levels.values():
            level.requires_grad_()
    with torch.inference_mode():
        inferred = images(8, 0)
    for same in (learnt, inferred):
        assert fitted(same, held_out, size=4, epochs=2) == plain


def test_divergence_names_the_pair():
    channels = {8: dict(a=5, b=16, c=1)}
    fitting, held_out = (images(8, seed, channels) for seed in (0, 1))
    # Of one channel, c has sixteen times b's rate.
    with pytest.raises(ValueError, match=(
            r'from a to c at stride 8 diverged: its loss in epoch \d+ of 400 '
            r'is (inf|nan)\. Lower lr \(it is 6\)')):
        fitted(fitting, held_out, channels, epochs=400, lr=6.)
    with pytest.raises(ValueError, match=(
            'from a to [bc] at stride 8 diverged: its held-out error after '
            'epoch 1 of 1 is (inf|nan)')):
        fitted(fitting, held_out, channels, epochs=1, lr=1e38)


def test_maps_that_are_not_finite_are_named():
    for spoilt in (0, 1):
        batches = [images(8, 0), images(8, 1)]
        batches[spoilt].maps['b'][16][3, 1, 2, 2] = float('nan')
        with pytest.raises(ValueError,
                           match='b at stride 16 holds a value that is not'):
            fitted(*batches, epochs=1)


def test_what_cannot_be_fitted_or_scored_is_refused():
    fitting, held_out = images(8, 0), images(8, 1)
    everywhere = {stride: torch.ones(8, *grid, dtype=torch.bool)
                  for stride, grid in GRIDS.items()}
    nowhere = {**everywhere, 16: torch.zeros_like(everywhere[16])}
    with pytest.raises(ValueError, match=(
            r'to train on have no valid position at strides \[16\] in epoch 1 '
            'of 2.*out of `channels`')):
        fitted(fitting._replace(valid=nowhere), held_out, epochs=2)
    once = iter([fitting])
    with pytest.raises(ValueError, match=(
            r'at strides \[8, 16\] in epoch 2 of 2. `fitting` must return')):
        gradient_descent_costs(lambda epoch: once, lambda: [held_out],
                               CHANNELS, FOLDS, epochs=2)
    with pytest.raises(ValueError, match=(
            'held-out images have valid positions at stride 16 in 0 of 4 '
            'folds')):
        fitted(fitting, held_out._replace(valid=nowhere), epochs=1)
    with pytest.raises(ValueError, match='at stride 8 in 1 of 4 folds'):
        fitted(fitting, held_out._replace(folds=[2] * 8), epochs=1)
    with pytest.raises(ValueError, match=r"two detectors.*\['a'\]"):
        fitted(fitting, held_out, {8: dict(a=5)})
    with pytest.raises(ValueError, match='epochs=0'):
        fitted(fitting, held_out, epochs=0)
    with pytest.raises(ValueError, match='c at stride 8: expected a map of'):
        fitted(fitting, held_out, {8: dict(a=5, b=7, c=3)})
