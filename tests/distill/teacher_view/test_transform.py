import copy
import random

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseDataPreprocessor

from mtpd.data.drawn_shapes import CLASSES
from mtpd.distill.teacher_view.scale import scale_key
from mtpd.distill.teacher_view.steps import POINTWISE, unsupported_steps
from mtpd.distill.teacher_view.transform import with_teacher_view

PACK = dict(type='PackDetInputs')
FLIP = dict(type='RandomFlip', prob=1.0)
AT_SIZE = object()  # stands for the Resize
COLOURS = [
    dict(type='PhotoMetricDistortion'), dict(type='YOLOXHSVRandomAug'),
    dict(type='Color'), dict(type='Brightness'), dict(type='Solarize'),
    dict(type='SolarizeAdd'), dict(type='Posterize'), dict(type='Invert')]


@TRANSFORMS.register_module()
class HalvesBlue:
    """A user's pointwise step, with a draw."""
    pointwise = True

    def __call__(self, results):
        image = results['img'].copy()
        if random.random() < 0.9:
            image[..., 0] //= 2
        return dict(results, img=image)


@TRANSFORMS.register_module()
class AddsNoise:
    """A user's step that nothing is known of."""

    def __init__(self, strength=9):
        self.strength = strength

    def __call__(self, results):
        draw = np.random.randint(0, self.strength, results['img'].shape)
        return dict(results, img=results['img'] ^ draw.astype(np.uint8))


@pytest.fixture
def drawn_set(drawn):
    """A train data set's config, of 24 drawn images of 96 x 64."""
    return ConfigDict(
        type='CocoDataset', data_root=str(drawn),
        metainfo=dict(classes=CLASSES),
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'), pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(96, 64), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5), PACK])


@TRANSFORMS.register_module()
class Halves:
    """A user's step that resamples, unknown to anybody."""

    def __call__(self, results):
        return dict(results, img=results['img'][::2, ::2])


def seed(number):
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def states():
    return (random.getstate(), np.random.get_state()[1].tolist(),
            np.random.get_state()[2], torch.get_rng_state().tolist())


def loaded(image):
    """What the loading steps give: the image and a box in its middle."""
    height, width = image.shape[:2]
    box = torch.tensor([[.2 * width, .2 * height, .8 * width, .8 * height]])
    return dict(img=image.copy(), img_shape=(height, width),
                ori_shape=(height, width), gt_bboxes=HorizontalBoxes(box),
                gt_bboxes_labels=np.zeros(1, np.int64),
                gt_ignore_flags=np.zeros(1, bool))


def noise(height, width, number=0):
    """Grey levels of every frequency: any other resampling differs."""
    return np.random.default_rng(number).integers(
        0, 256, (height, width, 3), dtype=np.uint8)


def view(steps, image, scales, number=0):
    """(packed sample, {scale: teacher's image (h, w, 3)})."""
    transform = TRANSFORMS.build(dict(
        type='TeacherView', transforms=[*steps, PACK], scales=scales))
    seed(number)
    packed = transform(loaded(image))
    return packed, {k: v.permute(1, 2, 0).numpy()
                    for k, v in packed['teacher_inputs'].items()}


def plain(steps, image, number=0):
    """The image of the steps alone, (h, w, 3)."""
    results = loaded(image)
    seed(number)
    for step in steps:
        results = TRANSFORMS.build(step)(results)
    return results['img']


# The student is not disturbed

@pytest.mark.parametrize('middle', [
    [dict(type='Resize', scale=(48, 32), keep_ratio=True),
     dict(type='RandomFlip', prob=0.5)],
    [dict(type='PhotoMetricDistortion'),
     dict(type='RandomResize', scale=(96, 64), ratio_range=(0.5, 1.5),
          keep_ratio=True),
     dict(type='RandomCrop', crop_size=(0.6, 0.6),
          crop_type='relative_range'),
     dict(type='HalvesBlue'),
     dict(type='RandomFlip', prob=0.5),
     dict(type='Pad', size_divisor=32, pad_val=dict(img=(1, 2, 3)))],
    [dict(type='RandomCrop', crop_size=(40, 40)),
     dict(type='YOLOXHSVRandomAug'),  # writes into the loaded image
     dict(type='Rotate', prob=0.5),
     dict(type='RandomApply', transforms=[dict(type='Color')], prob=0.5),
     dict(type='FilterAnnotations', min_gt_bbox_wh=(8, 8))]])
def test_student_is_bit_identical_with_and_without_a_teacher(
        drawn_set, middle):
    cfg = drawn_set
    cfg.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        *middle, dict(type='PackDetInputs', meta_keys=(
            'img_id', 'img_shape', 'scale_factor', 'flip', 'flip_direction',
            'homography_matrix'))]
    alone = DATASETS.build(copy.deepcopy(cfg))
    watched = DATASETS.build(with_teacher_view(cfg, [2.0, '1/2']))
    for i in range(12):
        seed(i)
        expected, after = alone.prepare_data(i), states()
        seed(i)
        got = watched.prepare_data(i)
        assert states() == after
        if expected is None:
            assert got is None
            continue
        assert torch.equal(got['inputs'], expected['inputs'])
        assert got['inputs'].dtype == expected['inputs'].dtype
        for part in ('gt_instances', 'ignored_instances'):
            ours, theirs = (getattr(s['data_samples'], part)
                            for s in (got, expected))
            assert torch.equal(ours.bboxes.tensor, theirs.bboxes.tensor)
            assert torch.equal(ours.labels, theirs.labels)
            assert np.array_equal(ours.masks.masks, theirs.masks.masks)
        ours, theirs = (s['data_samples'].metainfo for s in (got, expected))
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert np.array_equal(ours[key], theirs[key])
        height, width = expected['inputs'].shape[1:]
        assert got['teacher_inputs']['2'].shape == (3, 2 * height, 2 * width)
        assert set(got) - set(expected) == {'teacher_inputs'}


def test_a_image_that_the_student_skips_is_skipped():
    """RandomCrop returns None where no box is left; the data set then draws
    another image, by the same random numbers."""
    steps = [dict(type='RandomCrop', crop_size=(4, 4)), PACK]
    skipped = 0
    for i in range(10):
        results = loaded(noise(40, 40))
        results['gt_bboxes'] = HorizontalBoxes(torch.tensor([[0., 0, 9, 9]]))
        seed(i)
        alone = TRANSFORMS.build(steps[0])(copy.deepcopy(results))
        after = states()
        seed(i)
        got = TRANSFORMS.build(dict(type='TeacherView', transforms=steps,
                                    scales=[2]))(copy.deepcopy(results))
        assert states() == after
        assert (got is None) == (alone is None)
        skipped += got is None
    assert 0 < skipped < 10


# The teacher's image is its own pipeline's, bit by bit

@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
@pytest.mark.parametrize('scale', [2, 3, 4, 0.5])
def test_resize_and_flip_are_those_of_the_teachers_pipeline(scale, direction):
    image = noise(427, 640)
    flip = dict(type='RandomFlip', prob=1.0, direction=direction)
    sizes = [(int(120 * s), int(80 * s)) for s in (1, scale)]
    _, teacher = view([dict(type='Resize', scale=sizes[0]), flip], image,
                      [scale])
    expected = plain([dict(type='Resize', scale=sizes[1]), flip], image)
    assert np.array_equal(teacher[scale_key(scale)], expected)
    # And without any of mmdet's steps:
    axes = dict(horizontal=1, vertical=0, diagonal=(0, 1))[direction]
    assert np.array_equal(expected, np.flip(cv2.resize(
        image, sizes[1], interpolation=cv2.INTER_LINEAR), axes))


def test_a_flip_that_is_not_drawn_does_not_move_the_colours():
    """After the last resampling colours come last, as in its own pipeline;
    40 / 427 and 30 / 333 have no inverse in floats."""
    image = noise(333, 427)
    small, large = (
        [dict(type='Resize', scale=size), dict(type='PhotoMetricDistortion'),
         dict(type='RandomFlip', prob=0.0),
         dict(type='Pad', size_divisor=10)] for size in ((40, 30), (120, 90)))
    for number in range(4):
        _, teacher = view(small, image, [3], number)
        assert np.array_equal(teacher['3'], plain(large, image, number))


def test_a_step_that_writes_into_its_image_counts_once():
    """A warp that was not drawn hands on the very array that came."""
    steps = [dict(type='Rotate', prob=0.0),
             dict(type='YOLOXHSVRandomAug', value_delta=90)]
    for number in range(4):
        packed, teacher = view(steps, noise(30, 40), [2, 3], number)
        student = packed['inputs'].permute(1, 2, 0).numpy()
        for scale in (2, 3):
            seed(number)
            np.random.rand()  # Rotate's
            large = cv2.resize(noise(30, 40), (40 * scale, 30 * scale))
            expected = TRANSFORMS.build(steps[1])(dict(img=large))['img']
            assert np.array_equal(teacher[str(scale)], expected)
        assert np.array_equal(student, plain(steps, noise(30, 40), number))


def test_interpolation_and_backend_are_the_students():
    image = noise(90, 120)
    for how in (dict(interpolation='nearest'), dict(interpolation='area'),
                dict(backend='pillow', interpolation='bilinear')):
        _, teacher = view([dict(type='RandomChoiceResize', scales=[(60, 45)],
                                **how), FLIP], image, [1.5])
        assert np.array_equal(teacher['3/2'], mmcv.imresize(
            image, (90, 68), **how)[:, ::-1])


@pytest.mark.parametrize('colour', [*COLOURS, dict(type='HalvesBlue')],
                         ids=lambda c: c['type'])
def test_colours_are_those_of_the_teachers_pipeline(colour):
    """The same draws, on either side of the geometry, also in a wrapper."""
    image, changed = noise(90, 120), 0
    small, large = (dict(type='Resize', scale=s) for s in ((40, 30), (80, 60)))
    inside = dict(type='RandomApply', transforms=[colour], prob=0.999)
    pad = dict(type='Pad', size_divisor=64, pad_val=dict(img=(9, 114, 200)))
    for number in range(3):
        for steps in ([colour, 'resize', FLIP], [inside, 'resize'],
                      ['resize', colour], ['resize', colour, pad],
                      ['resize', pad, colour]):
            ours, theirs = ([r if s == 'resize' else s for s in steps]
                            for r in (small, large))
            # A colour that comes between is done before the resampling.
            if colour in steps and steps.index(colour) == 1 \
                    and steps[-1] is pad:
                theirs = [colour, large, pad]
            _, teacher = view(ours, image, ['2'], number)
            expected = plain(theirs, image, number)
            got = teacher['2'][:60, :80]
            assert got.dtype == expected.dtype
            assert np.array_equal(got, expected[:60, :80])
            changed += not np.array_equal(got, plain([
                s for s in theirs if s is not colour and s is not inside],
                image, number)[:60, :80])
    assert changed >= 6  # a colour's draw may be to do nothing


def test_distortion_of_the_original_and_then_one_resize():
    """By hand, not through TRANSFORMS: the draws come from numpy's generator
    as the student's pipeline found it."""
    from mmdet.datasets.transforms import PhotoMetricDistortion
    image = noise(100, 140)
    _, teacher = view([dict(type='PhotoMetricDistortion'),
                       dict(type='Resize', scale=(35, 25)), FLIP], image,
                      [3], number=5)
    seed(5)
    distorted = PhotoMetricDistortion().transform(dict(img=image))['img']
    assert np.array_equal(teacher['3'],
                          cv2.resize(distorted, (105, 75))[:, ::-1])


SSD = [
    dict(type='Equalize'), dict(type='PhotoMetricDistortion'),
    dict(type='Expand', mean=[123.675, 116.28, 103.53]),
    dict(type='MinIoURandomCrop'), AT_SIZE,
    dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
CENTERNET = [
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomCenterCropPad', crop_size=(70, 60),
         ratios=(0.8, 1.0, 1.2), mean=[0, 0, 0], std=[1, 1, 1], to_rgb=True,
         test_pad_mode=None),
    AT_SIZE, dict(type='RandomFlip', prob=0.5)]
CROP_FIRST = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(0.5, 0.5), crop_type='relative_range'),
    dict(type='Pad', size_divisor=16, padding_mode='reflect'), AT_SIZE,
    dict(type='YOLOXHSVRandomAug')]


@pytest.mark.parametrize('scale', [2, 2.4])
@pytest.mark.parametrize('steps', [SSD, CENTERNET, CROP_FIRST],
                         ids=['ssd', 'centernet', 'crop_first'])
def test_what_comes_before_the_resize_is_shared(steps, scale):
    """Steps that cannot be repeated are not: they ran once, on the large
    image, and the teacher's own pipeline would have drawn the same."""
    image = noise(90, 120)
    for number in range(6):
        small, large = (
            [dict(type='Resize', scale=(int(40 * r), int(30 * r)))
             if s is AT_SIZE else s for s in steps] for r in (1, scale))
        packed, teacher = view(small, image, [scale], number)
        assert np.array_equal(packed['inputs'].permute(1, 2, 0),
                              plain(small, image, number))
        assert np.array_equal(teacher[scale_key(scale)],
                              plain(large, image, number))


def test_without_a_resize_it_is_the_students_image_enlarged():
    packed, teacher = view([FLIP, dict(type='Contrast')], noise(30, 40), [2])
    student = packed['inputs'].permute(1, 2, 0).numpy()
    assert np.array_equal(teacher['2'], cv2.resize(student, (80, 60)))


def test_a_crop_of_whole_pixels_is_the_teachers_own():
    image = noise(90, 120)
    resize = dict(type='Resize', scale=(80, 60))
    crop = dict(type='RandomCrop', crop_size=(32, 24),
                allow_negative_crop=True)
    large = cv2.resize(image, (240, 180))
    offsets = set()
    for number in range(4):
        packed, teacher = view([resize, crop, FLIP], image, [3], number)
        seed(number)
        y, x = TRANSFORMS.build(crop)._rand_offset((60 - 24, 80 - 32))
        offsets.add((y, x))
        assert np.array_equal(
            teacher['3'],
            large[3 * y:3 * y + 72, 3 * x:3 * x + 96][:, ::-1])
    assert len(offsets) == 4


def test_padding_is_the_teachers_own():
    image = noise(90, 120)
    packed, teacher = view(
        [dict(type='Resize', scale=(40, 30)), FLIP,
         dict(type='Pad', size_divisor=32, pad_val=dict(img=(9, 8, 7)))],
        image, [2])
    assert packed['inputs'].shape == (3, 32, 64)
    expected = np.empty((64, 128, 3), np.uint8)
    expected[:] = (9, 8, 7)
    expected[:60, :80] = cv2.resize(image, (80, 60))[:, ::-1]
    assert np.array_equal(teacher['2'], expected)


def test_colour_between_two_steps_changes_the_fill_before_it():
    """YOLOX's order: the border is there before the colours change."""
    steps = [dict(type='RandomAffine', scaling_ratio_range=(0.4, 0.5),
                  max_translate_ratio=0, border_val=(50, 90, 160)),
             dict(type='YOLOXHSVRandomAug', hue_delta=60), FLIP]
    corners = set()
    for number in range(12):
        packed, teacher = view(steps, noise(64, 96), [2], number)
        corner = packed['inputs'][:, 0, 0].numpy()
        assert np.array_equal(teacher['2'][0, 0], corner)
        corners.add(tuple(corner))
    assert len(corners - {(50, 90, 160)}) >= 2


# Any affine pipeline: positions, measured on images of positions

# Each pixel of the original says where it is: x and y of its centre in pixels,
# and 1000 for being a part of the image, which no fill is.
def positions(height, width):
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x, y, np.full_like(x, 1000)], 2).astype(np.float32)


def well_inside(image, margin):
    """Pixels further than ``margin`` from a fill and from the frame."""
    part = (np.abs(image[..., 2] - 1000) < 1e-2).astype(np.uint8)
    return cv2.erode(part, np.ones((2 * margin + 1,) * 2, np.uint8),
                     borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0


DETR = dict(type='RandomChoice', transforms=[
    [dict(type='RandomChoiceResize', keep_ratio=True,
          scales=[(160, 90), (200, 120)])],
    [dict(type='RandomChoiceResize', keep_ratio=True,
          scales=[(400, 100), (400, 150)]),
     dict(type='RandomCrop', crop_type='absolute_range',
          crop_size=(70, 110), allow_negative_crop=True),
     dict(type='RandomChoiceResize', keep_ratio=True,
          scales=[(160, 90), (200, 120)])]])
LESS = dict(type='RandomAffine', scaling_ratio_range=(0.5, 0.8))
VIEWS = dict(
    crop_between_two_resizes=[
        dict(type='Resize', scale=(200, 150)),
        dict(type='RandomCrop', crop_size=(0.7, 0.6),
             crop_type='relative_range', allow_negative_crop=True),
        dict(type='Resize', scale=(130, 101)),
        dict(type='RandomFlip', prob=0.5, direction='diagonal')],
    detr=[dict(type='RandomFlip', prob=0.5), DETR],
    affine=[dict(type='Resize', scale=(140, 90)),
            dict(type='RandomAffine', border=(10, -8)),
            dict(type='RandomFlip', prob=0.5)],
    recorded_warps=[
        dict(type='Resize', scale=(140, 90)), dict(type='Rotate'),
        dict(type='ShearX', max_mag=20.0), dict(type='TranslateY'),
        dict(type='ShearY', max_mag=15.0, img_border_value=7)],
    fill_after_crop=[
        dict(type='Resize', scale=(200, 150)),
        dict(type='RandomCrop', crop_size=(150, 120)), LESS,
        dict(type='Pad', size=(170, 140), pad_val=dict(img=(1, 2, 3))),
        dict(type='RandomFlip', prob=0.5)],
    crop_after_pad=[
        dict(type='Resize', scale=(100, 80)),
        dict(type='Pad', pad_to_square=True, pad_val=dict(img=(1, 2, 3))),
        dict(type='RandomFlip', prob=0.5, direction='vertical'),
        dict(type='RandomCrop', crop_size=(90, 90),
             allow_negative_crop=True)],
    random_order=[dict(type='RandomOrder', transforms=[
        dict(type='Resize', scale=(150, 110)), LESS,
        dict(type='RandomFlip', prob=0.5)])])


@pytest.mark.parametrize('scale', [2, 1.5, 0.5])
@pytest.mark.parametrize('steps', VIEWS.values(), ids=VIEWS)
def test_teacher_sees_the_same_places_as_the_student(steps, scale):
    """The student's image tells, by a plane fitted to it, where its frame
    lies in the original; the teacher's pixels have to say the same."""
    for number in range(4):
        packed, teacher = view(steps, positions(171, 233), [scale], number)
        student = packed['inputs'].permute(1, 2, 0).numpy()
        teacher = teacher[scale_key(scale)]
        size, own = teacher.shape[:2], student.shape[:2]
        assert size == tuple(int(s * scale + 0.5) for s in own)

        # Continuous coordinates, in parts of the frame.
        (ys, xs), (yt, xt) = (
            (np.mgrid[:h, :w] + 0.5) / np.reshape([h, w], (2, 1, 1))
            for h, w in (own, size))
        part = well_inside(student, 4)
        assert part.sum() > 300
        plane = np.linalg.lstsq(
            np.stack([xs[part], ys[part], np.ones(part.sum())], 1),
            student[part][:, :2].astype(np.float64), rcond=None)[0]
        shown = well_inside(teacher, int(4 * scale))
        assert shown.sum() > 0.8 * part.sum() * scale ** 2
        expected = np.stack([xt, yt, np.ones_like(xt)], 2) @ plane
        # In pixels of the original. OpenCV's warps round to 1/32 of one, in
        # the student's image after it may have been shrunk to half.
        assert np.abs(teacher[..., :2] - expected)[shown].max() < 0.06

        # What is no part of the image is the same fill in both, away from
        # the edges that the student blurs.
        columns = (xt[0] * own[1]).astype(int)
        rows = (yt[:, 0] * own[0]).astype(int)
        enlarged = student[rows[:, None], columns]
        unsure = cv2.dilate(
            (cv2.Laplacian(enlarged[..., 2], cv2.CV_32F) != 0)
            .astype(np.uint8), np.ones((2 * int(2 * scale) + 3,) * 2)) > 0
        fill = (enlarged[..., 2] < 500) & ~unsure
        assert np.array_equal(teacher[fill], enlarged[fill])
        assert (teacher[..., 2][~fill & ~unsure] > 999).all()


def test_grey_levels_of_a_slope_are_right_to_one_level():
    """uint8, all roundings included."""
    y, x = np.mgrid[:200, :300] + 0.5
    slope = np.rint(np.stack([20 + 0.4 * x + 0.3 * y] * 3, 2)).astype(np.uint8)
    for number in range(3):
        packed, teacher = view([
            dict(type='Resize', scale=(150, 100)),
            dict(type='RandomCrop', crop_size=(101, 71)),
            dict(type='Resize', scale=(90, 60))], slope, [1.5], number)
        seed(number)
        top, left = TRANSFORMS.build(dict(
            type='RandomCrop', crop_size=(1, 1)))._rand_offset((29, 49))
        yt, xt = (np.mgrid[:90, :135] + 0.5)
        expected = 20 + 0.4 * 2 * (left + xt / 135 * 101) \
            + 0.3 * 2 * (top + yt / 90 * 71)
        difference = teacher['3/2'] - expected[..., None]
        assert np.abs(difference)[2:-2, 2:-2].max() <= 1


def test_odd_sizes_are_rounded_halves_up_and_stay_edge_to_edge():
    for height, width, student, teacher in (
            (427, 640, (200, 300), (300, 450)),
            (375, 500, (200, 267), (300, 401)),  # 400.5
            (333, 201, (331, 200), (497, 300))):  # 496.5
        image = noise(height, width)
        packed, got = view([dict(type='Resize', scale=(333, 200)
                                 if width > height else (200, 333),
                                 keep_ratio=True)], image, [1.5])
        assert packed['inputs'].shape[1:] == student
        assert np.array_equal(got['3/2'], cv2.resize(image, teacher[::-1]))


# Which steps are pointwise, and which are refused

@pytest.mark.parametrize('kind', [
    *(c['type'] for c in COLOURS), 'Contrast', 'Equalize', 'AutoContrast',
    'Sharpness'])
def test_pointwise_are_the_steps_that_commute_with_a_crop(kind):
    image = noise(40, 50)
    image[:20] //= 3
    commutes = []
    for number in range(6):
        whole, part = (TRANSFORMS.build(dict(type=kind)) for _ in range(2))
        seed(number)
        after = whole(dict(img=image.copy()))['img'][5:20, 10:40]
        seed(number)
        before = part(dict(img=image[5:20, 10:40].copy()))['img']
        commutes.append(np.array_equal(after, before))
    known = kind in {c.__name__ for c in POINTWISE}
    assert all(commutes) == known
    resize = dict(type='Resize', scale=(9, 9))
    assert bool(unsupported_steps([resize, dict(type=kind)])) != known


def test_what_cannot_be_followed_is_named_before_training():
    resize = dict(type='Resize', scale=(9, 9))

    def refused(*steps):
        messages = unsupported_steps([dict(type='LoadImageFromFile'), *steps,
                                      PACK])
        assert all('scale to 1' in m for m in messages)
        return [m.split()[0] for m in messages]

    for kind in ('mmdet.Mosaic', 'mmdet.MixUp', 'mmdet.CachedMosaic',
                 'mmdet.CopyPaste', 'mmdet.FixShapeResize',
                 'mmdet.MultiBranch', 'mmcv.Normalize'):
        assert refused(dict(type=kind)) == [kind]
    for kind in ('CutOut', 'RandomErasing', 'MinIoURandomCrop', 'Expand',
                 'RandomShift', 'RandomCenterCropPad', 'Contrast'):
        step = dict(type=kind)
        assert refused(step, resize) == []
        assert refused(resize, step) == [f'mmdet.{kind}']
    contrast = dict(type='Contrast')

    def choice(*branches):
        return dict(type='RandomChoice', transforms=[
            branch if isinstance(branch, list) else [branch]
            for branch in branches])

    apply = dict(type='RandomApply', transforms=[contrast])
    assert refused(choice(resize, apply)) == []
    assert refused(choice(resize, FLIP), apply) == ['mmdet.Contrast']
    assert refused(choice([resize, apply], FLIP)) == ['mmdet.Contrast']
    assert refused(choice([apply, resize], FLIP)) == []
    assert refused(dict(type='RandomOrder', transforms=[apply, resize])) \
        == ['mmdet.Contrast']
    # Its space has Rotate, after which these may be drawn.
    assert set(refused(dict(type='RandAugment'))) == {
        'mmdet.AutoContrast', 'mmdet.Equalize', 'mmdet.Contrast',
        'mmdet.Sharpness'}
    # mmcv's own Resize records nothing.
    assert 'mmcv.transforms.processing.Resize' in unsupported_steps([dict(
        type='RandomChoiceResize', scales=[(9, 9)],
        resize_type='mmcv.Resize')])[0]
    edge = dict(type='Pad', size=(9, 9), padding_mode='edge')
    assert refused(edge, resize) == []
    assert "padding_mode='edge'" in unsupported_steps([resize, edge])[0]
    with pytest.raises(ValueError, match='mmdet.Contrast cannot be followed'):
        view([resize, contrast], noise(9, 9), [2])
    assert unsupported_steps([
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), DETR,
        *COLOURS, *(s for steps in VIEWS.values() for s in steps), FLIP,
        dict(type='Albu', transforms=[]),
        dict(type='FilterAnnotations'), dict(type='AddsNoise'), PACK]) == []


def test_an_unknown_step_fails_when_it_changes_the_image():
    resize = dict(type='Resize', scale=(8, 6))
    with pytest.raises(ValueError, match='AddsNoise.*pointwise = True'):
        view([resize, dict(type='AddsNoise')], noise(9, 9), [2])
    with pytest.raises(ValueError, match='AddsNoise'):
        view([dict(type='RandomApply', prob=1.0, transforms=[
            resize, dict(type='AddsNoise')])], noise(9, 9), [2])
    _, teacher = view([resize, dict(type='AddsNoise', strength=1)],  # nothing
                      noise(12, 16), [2])
    assert np.array_equal(teacher['2'], noise(12, 16))
    # Before a resampling it may, at the size that is there.
    _, teacher = view([dict(type='AddsNoise'), resize], noise(12, 16), [2])
    assert np.array_equal(teacher['2'], plain([dict(type='AddsNoise')],
                                              noise(12, 16)))
    with pytest.raises(ValueError, match='Halves changed the size'):
        view([dict(type='Halves')], noise(12, 16), [2])


def test_at_scale_one_it_is_the_students_image_whatever_the_steps():
    packed, _ = view([dict(type='AddsNoise'), dict(
        type='CutOut', n_holes=1, cutout_shape=(2, 2))], noise(9, 9), [1])
    assert packed['teacher_inputs']['1'] is packed['inputs']
    packed, _ = view([dict(type='Resize', scale=(8, 6))], noise(9, 9), [1, 3])
    assert packed['teacher_inputs']['1'] is packed['inputs']
    assert packed['teacher_inputs']['3'].shape == (3, 18, 24)


def test_a_image_of_one_channel_stays_one():
    image = noise(12, 16)[..., 0]
    transform = TRANSFORMS.build(dict(
        type='TeacherView', scales=[2], transforms=[
            dict(type='Resize', scale=(8, 6)),
            dict(type='Pad', size=(9, 9), pad_val=dict(img=5)), PACK]))
    packed = transform(loaded(image))
    teacher = packed['teacher_inputs']['2']
    assert (packed['inputs'].shape, teacher.shape) == ((1, 9, 9), (1, 18, 18))
    assert np.array_equal(teacher[0, :12, :16], image)
    assert (teacher[0, 12:] == 5).all() and (teacher[0, :, 16:] == 5).all()


# Configs and batches

def test_collated_and_cast_like_the_students_images(drawn_set):
    watched = DATASETS.build(with_teacher_view(drawn_set, [2, 1.5]))
    samples = [watched[i] for i in range(3)]
    batch = pseudo_collate(samples)
    assert batch.keys() == {'inputs', 'data_samples', 'teacher_inputs'}
    assert batch['teacher_inputs'].keys() == {'2', '3/2'}
    for key, size in (('2', (3, 128, 192)), ('3/2', (3, 96, 144))):
        images = batch['teacher_inputs'][key]
        assert [(p.shape, p.dtype) for p in images] \
            == [(size, torch.uint8)] * 3
        for image, sample in zip(images, samples, strict=True):
            assert image is sample['teacher_inputs'][key]
    cast = BaseDataPreprocessor().to('meta').cast_data(batch)
    assert [p.device.type for p in cast['teacher_inputs']['2']] \
        == ['meta'] * 3


def test_wrapped_data_sets_are_rewritten_inside(drawn_set):
    part = drawn_set
    cfg = ConfigDict(type='RepeatDataset', times=2, dataset=dict(
        type='ConcatDataset', datasets=[
            part, dict(type='ClassBalancedDataset', oversample_thr=0.1,
                       dataset=part)]))
    before = copy.deepcopy(cfg)
    changed = with_teacher_view(cfg, [2])
    assert cfg == before
    for inner in (changed.dataset.datasets[0],
                  changed.dataset.datasets[1].dataset):
        assert [s.type for s in inner.pipeline] == ['LoadImageFromFile',
                                                    'TeacherView']
        assert inner.pipeline[1].scales == ['2']
        assert inner.pipeline[1].transforms == part['pipeline'][1:]
    built = DATASETS.build(changed)
    seed(0)
    first, second = built[0], built[len(built) // 2 - 1]
    for sample in (first, second):
        assert sample['teacher_inputs']['2'].shape == (3, 128, 192)


def test_pipelines_without_a_place_for_the_view_are_refused(drawn_set):
    part = drawn_set
    with pytest.raises(ValueError, match='MultiImageMixDataset.*of its own'):
        with_teacher_view(dict(type='RepeatDataset', times=1, dataset=dict(
            type='MultiImageMixDataset', dataset=part,
            pipeline=[dict(type='Mosaic')])), [2])
    for pipeline in (part['pipeline'][1:], part['pipeline'][:-1], []):
        with pytest.raises(ValueError, match='LoadImageFromFile.*PackDetInp'):
            with_teacher_view(dict(part, pipeline=pipeline), [2])
