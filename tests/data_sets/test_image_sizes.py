"""The largest sizes of images, by a pipeline's config: by hand, and against
what mmdet's steps make of images."""
import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from mmengine.dataset import Compose

from mtpd.data.image_sizes import largest_sizes

LARGE = (480, 640)


def resize(*scales, kind='RandomChoiceResize', **options):
    return dict(type=kind, scales=[*scales], keep_ratio=True, **options)


def crop(*size, **options):
    return dict(type='RandomCrop', crop_size=size, **options)


FIXED = dict(type='Resize', scale=(64, 32), keep_ratio=False)
CASES = {
    'nothing is resized': ([crop(9, 9)], []),
    'to a bound': ([dict(type='Resize', scale=(320, 320), keep_ratio=True)],
                   [(240, 320)]),
    'by a factor': ([dict(type='Resize', scale_factor=.5)], [(240, 320)]),
    'by a random factor': (
        [dict(type='RandomResize', scale=(320, 320), keep_ratio=True,
              ratio_range=(1.5, 2.))], [LARGE]),
    'between two scales': (
        [dict(type='RandomResize', scale=[(100, 40), (80, 60)],
              keep_ratio=False)], [(40, 100), (60, 80), (60, 100)]),
    'a crop counts after the resize': (
        [dict(type='RandomResize', scale=(1280, 1280), keep_ratio=True,
              ratio_range=(.1, 2.)), crop(640, 600),
         dict(type='Pad', size=(640, 640))], [(640, 640)]),
    'a crop of a range': ([FIXED, crop(20, 40, crop_type='absolute_range')],
                          [(32, 40)]),
    'a share cuts nothing off for sure': (
        [FIXED, crop(.3, .3, crop_type='relative_range')], [(32, 64)]),
    'to a number': ([dict(type='Resize', scale=48)], [(48, 48)]),
    'to a multiple': ([FIXED, dict(type='Pad', size_divisor=48)], [(48, 96)]),
    'a square of a multiple': (
        [FIXED, dict(type='Pad', pad_to_square=True, size_divisor=48)],
        [(96, 96)]),
    'a square': ([FIXED, dict(type='Pad', pad_to_square=True)], [(64, 64)]),
    'one of two pipelines, resized again in one': (
        [dict(type='RandomChoice', transforms=[
            [resize((96, 400), (48, 400))],
            [resize((800, 900)), crop(384, 600), resize((64, 400))]])],
        [(48, 64), (96, 128), (100, 64)]),
    'within others': ([dict(type='RandomApply', transforms=[FIXED])],
                      [(32, 64)])}


@pytest.mark.parametrize('case', CASES)
def test_by_hand(case):
    steps, sizes = CASES[case]
    assert largest_sizes(dict(pipeline=steps), [LARGE]) == sizes


@pytest.mark.parametrize('case', [
    case for case in CASES
    if any(word in case for word in ('factor', 'multiple', 'crop', 'again'))])
def test_no_image_of_mmdet_is_larger(case):
    steps, _ = CASES[case]
    largest = largest_sizes(dict(pipeline=steps), [LARGE]) or [LARGE]
    pipeline = Compose([TRANSFORMS.build(dict(step)) for step in steps])
    np.random.seed(0)
    seen = set()
    for _ in range(60):
        image = np.zeros((*LARGE, 3), np.uint8)
        made = pipeline(dict(img=image, img_shape=LARGE))
        seen.add(made['img'].shape[:2])
    for side in range(2):
        assert max(size[side] for size in seen) <= max(
            size[side] for size in largest)
    # And nearly as large.
    most = max(h * w for h, w in seen)
    assert case == 'nothing is resized' \
        or most > .85 * max(h * w for h, w in largest)


def test_wrapped_data_sets_go_through_the_pipelines_of_both():
    inner = dict(dataset=dict(pipeline=[FIXED]), pipeline=[crop(16, 16)])
    assert largest_sizes(inner, [LARGE]) == [(16, 16)]
    both = dict(datasets=[inner, dict(dataset=dict(pipeline=[FIXED]))])
    assert largest_sizes(both, [LARGE, (9, 9)]) == [(16, 16), (32, 64)]
    assert largest_sizes(dict(type='CocoDataset'), [LARGE]) == []
