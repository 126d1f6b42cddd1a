from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from mtpd.distill.losses import BatchContext, FGDLoss, Pairing
from mtpd.distill.losses.fgd import region_weights

SIZE = (40, 56)
# Parameters of mmcv's context blocks -> the authors' names.
RELATIONS = {
    f'relations.8.{whose}.{layer}{place}.{part}':
        f'{layer}_{whose[0]}{place}.{part}'
    for whose in ('student', 'teacher')
    for layer, place in (('conv_mask', ''), ('channel_add_conv', '.0'),
                         ('channel_add_conv', '.1'),
                         ('channel_add_conv', '.3'))
    for part in ('weight', 'bias')}


def scene_of(*boxes, size=SIZE) -> BatchContext:
    return BatchContext(size=size, boxes=tuple(
        torch.tensor(b, dtype=torch.float32).view(-1, 4) for b in boxes))


@pytest.mark.parametrize('name', [
    'fgd_6to6_8x10_boxes3', 'fgd_4to6_8x10_boxes2', 'fgd_6to6_5x4_boxes0'])
def test_loss_and_gradients_are_the_authors(reference, agrees, name):
    case = reference(name)
    given = case['kwargs']
    mechanism = FGDLoss(
        Pairing({8: 6}), temperature=given['temp'],
        foreground=given['alpha_fgd'], background=given['beta_fgd'],
        attention=given['gamma_fgd'], context=given['lambda_fgd'])
    agrees(mechanism, case, RELATIONS, BatchContext(
        size=tuple(case['img_shape'].tolist()),
        boxes=(case['gt_bboxes0'], case['gt_bboxes1'])))


def slowly(boxes, size, grid):
    """Cell by cell and box by box, in exact fractions."""
    objects = np.zeros((len(boxes), *grid))
    for n, own in enumerate(boxes):
        for box in own:
            x1, x2 = (min(max(Fraction(v), 0), size[1]) for v in box[::2])
            y1, y2 = (min(max(Fraction(v), 0), size[0]) for v in box[1::2])
            if x2 <= x1 or y2 <= y1:
                continue
            left, right = floor(x1 * grid[1] / size[1]), ceil(
                x2 * grid[1] / size[1])
            top, bottom = floor(y1 * grid[0] / size[0]), ceil(
                y2 * grid[0] / size[0])
            share = 1 / ((right - left + 1) * (bottom - top + 1))
            for i in range(grid[0]):
                for j in range(grid[1]):
                    if top <= i <= bottom and left <= j <= right:
                        objects[n, i, j] = max(objects[n, i, j], share)
    background = np.zeros_like(objects)
    for n in range(len(boxes)):
        free = objects[n] == 0
        background[n][free] = 1 / max(free.sum(), 1)
    return objects, background


# Quarters of pixels, also outside of the batch, turned over and without area.
corner = st.integers(-100, 320).map(lambda q: q / 4)
drawn = st.lists(st.lists(st.tuples(corner, corner, corner, corner),
                          max_size=6), min_size=1, max_size=3)


@settings(deadline=None)
@given(boxes=drawn, grid=st.sampled_from([(5, 7), (3, 4), (1, 1), (10, 14)]))
def test_regions_are_those_of_a_slow_loop(boxes, grid):
    objects, background = region_weights(scene_of(*boxes).boxes, SIZE, grid)
    expected, expected_background = slowly(boxes, SIZE, grid)
    np.testing.assert_allclose(objects, expected, rtol=1e-6)
    np.testing.assert_allclose(background, expected_background, rtol=1e-6)


def test_a_region_by_hand():
    # 8 pixels a cell. The first box lies in cells 0 to 1 and its ceiling adds
    # one: 3 columns, 2 rows. The second one is 5 x 4 cells, one of the rows
    # below the image.
    objects, background = region_weights(
        scene_of([[2, 2, 10, 7], [16, 16, 48, 40]]).boxes, SIZE, (5, 7))
    small, large = 1 / 6, 1 / 20
    torch.testing.assert_close(objects[0], torch.tensor([
        [small, small, small, 0, 0, 0, 0],
        [small, small, small, 0, 0, 0, 0],
        [0, 0, large, large, large, large, large],
        [0, 0, large, large, large, large, large],
        [0, 0, large, large, large, large, large]]))
    torch.testing.assert_close(background, (objects == 0).float() / 14)


NOWHERE = {
    'none': [], 'point': [[8, 8, 8, 8]], 'line': [[8, 8, 30, 8]],
    'left of it': [[-30, 5, -2, 20]], 'right of it': [[60, 5, 70, 20]],
    'above it': [[5, -9, 20, 0]], 'below it': [[5, 40, 20, 50]],
    'turned over': [[20, 20, 19, 19]], 'far turned over': [[50, 30, 1, 1]]}


@pytest.mark.parametrize('boxes', NOWHERE.values(), ids=NOWHERE)
def test_boxes_that_show_nothing_are_as_no_boxes(pairing, loss_of, boxes):
    torch.manual_seed(0)
    mechanism = FGDLoss(pairing)
    student, teacher = torch.randn(2, 2, 4, 5, 7)
    student.requires_grad_()
    loss = loss_of(mechanism, student, teacher,
                   scene_of(boxes, [[8, 8, 24, 24]]))
    loss.backward()
    assert loss == loss_of(mechanism, student, teacher,
                           scene_of([], [[8, 8, 24, 24]]))
    assert student.grad.isfinite().all()


def test_a_box_that_sticks_out_counts_as_its_part_inside():
    torch.testing.assert_close(
        region_weights(scene_of([[-30, 10, 20, 99]]).boxes, SIZE, (5, 7)),
        region_weights(scene_of([[0, 10, 20, 40]]).boxes, SIZE, (5, 7)))


def test_a_box_over_everything_leaves_no_background(pairing, loss_of):
    objects, background = region_weights(
        scene_of([[0, 0, 56, 40]]).boxes, SIZE, (5, 7))
    torch.testing.assert_close(objects, torch.full((1, 5, 7), 1 / 48))
    assert background.abs().sum() == 0


def test_padding_of_the_batch_does_not_move_a_box():
    # The same cells of a wider map, where only background is added.
    box = [[9, 9, 30, 30]]
    narrow, _ = region_weights(scene_of(box).boxes, (40, 40), (5, 5))
    wide, _ = region_weights(scene_of(box).boxes, (40, 80), (5, 10))
    assert torch.equal(wide[:, :, :5], narrow)
    assert wide[:, :, 5:].abs().sum() == 0


def attentions(feature, temperature):
    size = np.abs(feature)
    n, c, h, w = size.shape
    return [(h * w * softmax(p.mean(axis=0) / temperature),
             c * softmax(p.mean(axis=(1, 2)) / temperature)) for p in size]


def test_its_terms_are_those_of_the_formula(loss_of):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 4, 5, 7).double()
    boxes = [[[3, 3, 30, 21], [10, 10, 55, 39]], [[8, 0, 16, 16]]]
    objects, background = slowly(boxes, SIZE, (5, 7))
    expected = dict.fromkeys(FGDLoss.published_terms, 0.)
    for n, ((p_t, c_t), (p_s, c_s)) in enumerate(zip(
            attentions(teacher.numpy(), 0.8),
            attentions(student.numpy(), 0.8))):
        square = (student[n] - teacher[n]).numpy() ** 2
        for c in range(4):
            for i, j in np.ndindex(5, 7):
                value = p_t[i, j] * c_t[c] * square[c, i, j] / 2
                expected['foreground'] += objects[n, i, j] * value
                expected['background'] += background[n, i, j] * value
        expected['attention'] += (np.abs(p_s - p_t).sum()
                                  + np.abs(c_s - c_t).sum()) / 2
        # Fresh blocks add nothing: their last convolution is zero.
        expected['context'] += square.sum() / 2
    for term, value in expected.items():
        weights = {**dict.fromkeys(expected, 0.), term: 0.5}
        mechanism = FGDLoss(Pairing({8: 4}), 3.0, temperature=0.8,
                            **weights).double()
        loss = loss_of(mechanism, student, teacher, scene_of(*boxes))
        assert loss.item() == pytest.approx(1.5 * value, rel=1e-6), term


def test_gradients_are_finite_differences(pairing, differentiates):
    context = scene_of([[3, 3, 30, 21], [10, 10, 55, 39]], [])
    differentiates(FGDLoss(pairing, foreground=0.3, background=0.5,
                           attention=0.1, context=0.2), context)


def test_equal_maps_cost_nothing_at_first(pairing, loss_of):
    feature = torch.randn(2, 4, 5, 7)
    assert loss_of(FGDLoss(pairing), feature, feature.clone(),
                   scene_of([[8, 8, 24, 24]], [])) == 0


def test_maps_of_zeros_and_of_large_values_have_finite_gradients(
        pairing, loss_of):
    for scale in (0, 1e4):
        student = (scale * torch.randn(2, 4, 5, 7)).requires_grad_()
        loss = loss_of(FGDLoss(pairing), student, scale * torch.randn(
            2, 4, 5, 7), scene_of([[8, 8, 24, 24]], []))
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()


def test_the_memory_format_changes_nothing(pairing, loss_of):
    torch.manual_seed(0)
    mechanism, context = FGDLoss(pairing), scene_of([[8, 8, 24, 24]], [])
    maps = torch.randn(2, 2, 4, 5, 7)
    expected = loss_of(mechanism, *maps, context)
    last = [m.to(memory_format=torch.channels_last) for m in maps]
    torch.testing.assert_close(loss_of(mechanism, *last, context), expected)
    parts = torch.zeros(2, 2, 4, 6, 9)
    parts[..., :5, :7] = maps
    torch.testing.assert_close(
        loss_of(mechanism, *parts[..., :5, :7], context), expected)


def test_published_settings_differ_by_the_kind_of_student():
    one, two = (FGDLoss(Pairing({8: 4}, two_stage=t)) for t in (False, True))
    assert one.weights == dict(foreground=1e-3, background=5e-4,
                               attention=5e-4, context=5e-6)
    assert two.weights == dict(foreground=5e-5, background=2.5e-5,
                               attention=5e-5, context=5e-7)
    assert one.loss_weight == two.loss_weight == 1
    assert one.temperature == two.temperature == 0.5
    given = FGDLoss(Pairing({8: 4}), attention=0.0)
    assert given.weights['attention'] == 0


def test_weight_zero_is_zero(pairing, loss_of):
    assert loss_of(FGDLoss(pairing, 0.0), torch.randn(1, 4, 5, 7),
                   torch.randn(1, 4, 5, 7), scene_of([[8, 8, 24, 24]])) == 0


@pytest.mark.parametrize('wrong', ['temperature', 'foreground', 'background',
                                   'attention', 'context'])
def test_wrong_settings_name_themselves(pairing, wrong):
    with pytest.raises(ValueError, match=f'distill.{wrong} is -1'):
        FGDLoss(pairing, **{wrong: -1.0})
