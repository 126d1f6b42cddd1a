"""Images without labels before a run: what is refused, and what is said."""
import json
import os
import re
import shutil

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config
from PIL import Image

from mtpd.plan.data_check import student_data
from mtpd.plan.data_check.unlabelled import equal_files
from mtpd.plan.describe import describe_plan
from mtpd.plan.plan import make_plan
from mtpd.plan.unlabelled import (dataset_config, read_entries,
                                  unlabelled_hash)
from mtpd.plan.unlabelled.pipeline import unlabelled_pipeline
from mtpd.search.images import Images


@pytest.fixture
def findings(toy):
    """findings(**mtpd.unlabelled): problems and notes of the toy's data."""
    def check(change=lambda cfg: None, **unlabelled):
        cfg = toy(unlabelled=unlabelled)
        change(cfg)
        return student_data(make_plan(cfg))
    return check


def problem(found) -> str:
    (message,) = found.problems
    return message


def test_the_plan_says_how_many_and_how_often(toy, frames, findings):
    found = findings(folder=str(frames), batch_size=4)
    assert found.problems == []
    # 24 labelled images by 8 are 3 steps, which take 12 of 11 images.
    assert found.notes == [
        'mtpd.unlabelled: 11 images, 4 in each step; an epoch of 3 steps '
        'passes 1.09 times through them.']

    def by_iterations(cfg):
        cfg.train_cfg = dict(by_epoch=False, max_iters=22)

    assert 'a stage of 22 steps passes 16 times' in findings(
        by_iterations, folder=str(frames)).notes[0]  # 8 as the labelled ones

    def fading(cfg):
        cfg.mtpd.fade = dict(begin=0, end=2, by_epoch=False)

    assert findings(fading, folder=str(frames), batch_size=4).notes == [
        'mtpd.unlabelled: 11 images, 4 in each step; an epoch of 3 steps '
        'takes them in the first 2, which passes 0.727 times through them.']
    text = describe_plan(make_plan(toy(unlabelled=dict(folder=str(frames)))))
    assert f'8 images without labels of {frames} in each step' in text
    off = toy(unlabelled=dict(folder=str(frames)),
              distill=dict(type='PKDLoss', loss_weight=0))
    assert 'which no teacher uses' in describe_plan(make_plan(off))
    assert 'is not used' in student_data(make_plan(off)).notes[0]


def test_what_names_no_images_is_refused(findings, frames, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.txt').write_text('no image')
    for given, words in (
            ({}, 'sets no images. Set folder'),
            (dict(folder=str(frames), dataset=dict(type='CocoDataset')),
             'sets dataset beside folder'),
            (dict(folder=str(tmp_path / 'gone')), 'there is no folder: '),
            (dict(folder=str(tmp_path / 'text.txt')), 'this is no folder'),
            (dict(folder=str(tmp_path / 'empty')), 'has no image. Files with '
             'these endings are taken: .avif'),
            (dict(ann_file=str(tmp_path / 'gone.json')), 'there is no file'),
            (dict(ann_file=str(tmp_path / 'text.txt')), 'cannot be read'),
            (dict(dataset=dict(type='NoSuchSet')), "'NoSuchSet' is not")):
        assert words in problem(findings(**given)), given


def test_files_that_are_no_images_are_named(findings, frames, tmp_path):
    folder = tmp_path / 'frames'
    shutil.copytree(frames, folder)
    for name in ('empty.png', 'night/text.jpg'):
        (folder / name).write_bytes(b'text' * ('text' in name))
    (folder / '.hidden.png').write_text('is passed over')
    message = problem(findings(folder=str(folder)))
    assert '2 of 13 files cannot be read as images' in message
    assert 'empty.png' in message and 'text.jpg' in message


@pytest.mark.parametrize('ending', ['png', 'heic', 'avif', 'hdr'])
def test_a_link_to_nothing_is_no_image(findings, frames, tmp_path, ending):
    folder = tmp_path / 'frames'
    shutil.copytree(frames, folder)
    (folder / f'x.{ending}').symlink_to('gone')
    assert '1 of 12' in problem(findings(folder=str(folder)))


def test_images_with_a_header_alone_are_passed_over(findings, frames,
                                                     tmp_path):
    """Training takes the next one in their place; without any, it is said
    what cannot be read, and not that labels are missing."""
    folder = tmp_path / 'frames'
    shutil.copytree(frames, folder)
    files = sorted(folder.rglob('*.png'))
    for path in files[:3]:
        path.write_bytes(path.read_bytes()[:60])
    assert findings(folder=str(folder)).problems == []
    for path in files[3:]:
        path.write_bytes(path.read_bytes()[:60])
    message = problem(findings(folder=str(folder)))
    assert 'no image can be read' in message
    assert 'step LoadImageFromFile' in message and 'label' not in message[20:]


def test_an_image_of_any_size_has_a_header(findings, frames, tmp_path,
                                           monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 96 * 64 // 3)
    assert findings(folder=str(frames)).problems == []


def test_every_kind_of_image_comes_in_three_channels(findings, tmp_path, toy):
    folder = tmp_path / 'frames'
    folder.mkdir()
    noise = np.random.default_rng(0).integers
    for name, shape, kind in (
            ('grey.png', (64, 96), np.uint8), ('alpha.png', (64, 96, 4),
                                               np.uint8),
            ('deep.png', (64, 96, 3), np.uint16), ('GREY.JPG', (64, 96),
                                                   np.uint8),
            ('deep_grey.tif', (64, 96), np.uint16)):
        assert cv2.imwrite(str(folder / name), noise(
            0, np.iinfo(kind).max, shape).astype(kind))
    found = findings(folder=str(folder))
    assert found.problems == [] and ' 5 images' in found.notes[0]
    plan = make_plan(toy(unlabelled=dict(folder=str(folder))))
    dataset = DATASETS.build(dataset_config(
        plan.unlabelled, unlabelled_pipeline(plan.student.config).steps))
    for index in range(5):
        assert dataset[index]['inputs'].shape == (3, 64, 96)

    def unchanged(cfg):
        cfg.train_dataloader.dataset.pipeline[0].color_type = 'unchanged'

    assert "color_type='color'" in problem(
        findings(unchanged, folder=str(folder)))


@pytest.mark.parametrize('size', [None, 0, '64', True])
def test_a_size_that_is_none_is_left_out(frames, tmp_path, size):
    names = sorted(path.name for path in frames.glob('*.png'))[:2]
    path = tmp_path / 'some.json'
    path.write_text(json.dumps(dict(images=[
        dict(id=0, file_name=names[0], height=size, width=size),
        dict(id=1, file_name=names[1], height=64, width=96)])))
    one, other = DATASETS.build(dict(
        type='UnlabelledImages', ann_file=str(path),
        data_prefix=dict(img=str(frames)))).load_data_list()
    assert 'height' not in one and 'width' not in one
    assert (other['height'], other['width']) == (64, 96)


def test_names_that_are_no_utf_8(toy, frames, tmp_path):
    """As in an archive that was made on Windows."""
    folder = tmp_path / 'frames'
    folder.mkdir()
    source = next(frames.glob('*.png'))
    for name in (b'caf\xe9.png', b'b.png'):
        shutil.copy(source, os.path.join(os.fsencode(folder), name))
    plan = make_plan(toy(unlabelled=dict(folder=str(folder)),
                         costs=dict(split='unlabelled')))
    assert not student_data(plan).problems
    assert len(unlabelled_hash(plan.unlabelled)) == 16
    images = Images(plan.student.config, 'unlabelled', [], plan.unlabelled)
    assert len(images.fingerprint()) == 16
    assert sorted(sum(images.by_fold(range(2)).values(), [])) == [0, 1]
    assert images.drawn_positions(1, 4, (2, 2), 1.).all()


@pytest.mark.parametrize('with_annotations', [True, False])
def test_a_coco_file(findings, frames, tmp_path, with_annotations):
    images = [dict(id=i, file_name=name, height=64, width=96) for i, name in
              enumerate(sorted(p.name for p in frames.glob('*.png'))[:5])]
    content = dict(images=images, **(dict(annotations=[], categories=[])
                                     if with_annotations else {}))
    path = tmp_path / 'some.json'
    path.write_text(json.dumps(content))
    found = findings(ann_file=str(path), folder=str(frames))
    assert found.problems == [] and ' 5 images' in found.notes[0]
    assert '5 of 5 images are missing' in problem(
        findings(ann_file=str(path)))
    shutil.copy(path, frames.parent / 'frames' / 'some.json')
    try:
        assert not findings(ann_file=str(frames / 'some.json')).problems
    finally:
        (frames / 'some.json').unlink()
    for wrong, words in ((dict(annotations=[]), 'no list "images"'),
                         (dict(images=[dict(id=1)]), 'no "file_name"'),
                         (dict(images=[]), 'has no image')):
        path.write_text(json.dumps(wrong))
        assert words in problem(findings(ann_file=str(path),
                                         folder=str(frames)))


def test_any_data_set_without_its_labels(findings, drawn, toy):
    cfg = toy()
    inner = cfg.train_dataloader.dataset
    inner.filter_cfg = dict(filter_empty_gt=True, min_size=1000)
    wrapped = dict(type='RepeatDataset', times=3, dataset=inner)
    found = findings(dataset=wrapped)
    assert found.problems == []
    assert found.notes == [
        'mtpd.unlabelled: 24 images, 8 in each step; an epoch of 3 steps '
        'passes 1 times through them.',
        'mtpd.unlabelled: 24 images are also among the labelled training '
        'images. This is allowed.']
    plan = make_plan(toy(unlabelled=dict(dataset=wrapped)))
    dataset = DATASETS.build(dataset_config(
        plan.unlabelled, unlabelled_pipeline(plan.student.config).steps))
    assert len(dataset) == len(read_entries(plan.unlabelled)) == 24
    assert len(dataset[0]['data_samples'].gt_instances.bboxes) == 0


def test_what_is_validated_or_tested_on_is_refused(findings, drawn, frames,
                                                   tmp_path):
    folder = tmp_path / 'frames'
    shutil.copytree(frames, folder)
    leaked = sorted((drawn / 'val').iterdir())[2]
    shutil.copy(leaked, folder / 'renamed.png')
    message = problem(findings(folder=str(folder)))
    assert '1 of 12 images are also in the validation set' in message
    assert 'renamed.png' in message

    def tests_on_frames(cfg):
        cfg.test_dataloader = dict(dataset=dict(
            type='UnlabelledImages', data_prefix=dict(img=str(frames))))

    message = problem(findings(tests_on_frames, folder=str(frames)))
    assert '11 of 11 images are also in the test set' in message

    def tests_on_nothing(cfg):
        cfg.test_dataloader = dict(dataset=dict(
            type='CocoDataset', ann_file='gone.json',
            data_prefix=dict(img='')))

    assert 'the test set of the config cannot be read' in findings(
        tests_on_nothing, folder=str(frames)).notes[1]


def test_only_files_of_equal_size_are_opened(tmp_path, monkeypatch):
    for name, text in (('a', 'same'), ('b', 'same'), ('c', 'seem'),
                       ('d', 'longer')):
        (tmp_path / name).write_text(text)
    a, b, c, d = (str(tmp_path / name) for name in 'abcd')
    assert equal_files([a, c, d, ''], [b, d, 'gone']) == [a, d]
    os.chmod(d, 0)
    monkeypatch.setattr('builtins.open', None)  # nothing can be opened
    assert equal_files([d], [a]) == []


def steps_of(*steps, **cfg):
    made = unlabelled_pipeline(Config(dict(train_dataloader=dict(
        dataset=dict(type='CocoDataset', pipeline=list(steps))), **cfg)))
    return [step if isinstance(step, list) else step['type']
            for step in made.steps], made.notes, made.steps


def test_what_needs_labels_leaves_the_pipeline():
    names, notes, steps = steps_of(
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='FilterAnnotations'), dict(type='CopyPaste'),
        dict(type='RandomCrop', crop_size=(10, 10)),
        dict(type='RandomChoice', transforms=[
            [dict(type='RandomCrop', crop_size=(5, 5))],
            [dict(type='InstaBoost'), dict(type='Color')]]),
        dict(type='mmdet.PackDetInputs'))
    assert names == ['LoadImageFromFile', 'LoadEmptyAnnotations',
                     'RandomCrop', 'RandomChoice', 'mmdet.PackDetInputs']
    assert notes == ['CopyPaste is left out: it pastes labelled objects',
                     'InstaBoost is left out: it pastes labelled objects']
    assert steps[2]['allow_negative_crop']
    assert steps[3]['transforms'] == [
        [dict(type='RandomCrop', crop_size=(5, 5), allow_negative_crop=True)],
        [dict(type='Color')]]


def test_mixed_images_come_by_themselves():
    mosaic = dict(type='Mosaic')
    affine = dict(type='RandomAffine', border=(-320, -320))
    names, notes, _ = steps_of(mosaic, affine, dict(type='RandomFlip'))
    assert names == ['RandomFlip'] and len(notes) == 2
    names, _, _ = steps_of(dict(type='RandomAffine'), dict(type='RandomFlip'))
    assert names == ['RandomAffine', 'RandomFlip']
    names, notes, _ = steps_of(
        mosaic, dict(type='Color'), custom_hooks=[dict(
            type='PipelineSwitchHook', switch_epoch=3,
            switch_pipeline=[dict(type='RandomFlip')])])
    assert names == ['RandomFlip'] and 'PipelineSwitchHook' in notes[0]
    outer = Config(dict(train_dataloader=dict(dataset=dict(
        type='MultiImageMixDataset', pipeline=[
            mosaic, dict(type='RandomAffine'), dict(type='PackDetInputs')],
        dataset=dict(type='CocoDataset', pipeline=[
            dict(type='LoadImageFromFile')]))), custom_hooks=[
                dict(type='YOLOXModeSwitchHook')]))
    assert [step['type'] for step in unlabelled_pipeline(outer).steps] == [
        'LoadImageFromFile', 'PackDetInputs']


def test_every_step_of_mmdet_without_boxes(frames):
    """Each passes an image without boxes, or is left out."""
    size = dict(type='Resize', scale=(96, 64))
    for step in (
            dict(type='RandomCrop', crop_size=(32, 32)),
            dict(type='RandomCrop', crop_size=(.5, .5),
                 crop_type='relative_range'),
            dict(type='MinIoURandomCrop'), dict(type='RandomShift', prob=1.),
            dict(type='Expand', prob=1.), dict(type='CutOut', n_holes=2,
                                               cutout_shape=(8, 8)),
            dict(type='RandomErasing', n_patches=2, ratio=.2),
            dict(type='RandomCenterCropPad', crop_size=(64, 64),
                 ratios=(.9, 1.), mean=[0, 0, 0], std=[1, 1, 1],
                 to_rgb=True, test_pad_mode=None),
            dict(type='RandomAffine'),
            dict(type='YOLOXHSVRandomAug'), dict(type='PhotoMetricDistortion'),
            *(dict(type=name, prob=1., level=5) for name in (
                'Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY',
                'Color', 'Brightness', 'Contrast', 'Sharpness', 'Solarize',
                'SolarizeAdd', 'Posterize', 'Equalize', 'AutoContrast',
                'Invert')), dict(type='AutoAugment'),
            dict(type='RandAugment', aug_num=1,
                 aug_space=[[dict(type='Rotate')]]),
            dict(type='RandomOrder', transforms=[dict(type='Color')]),
            dict(type='RandomFlip', prob=1.),
            dict(type='RandomFlip_GLIP', prob=1.),
            dict(type='Pad', size_divisor=64), dict(type='FixScaleResize',
                                                    scale=(64, 48)),
            dict(type='FixShapeResize', width=64, height=64),
            dict(type='ResizeShortestEdge', scale=48, max_size=99),
            dict(type='mmcv.RandomGrayscale', prob=1., keep_channels=True),
            dict(type='RandomResize', scale=(64, 48), ratio_range=(.5, 2.),
                 keep_ratio=True), dict(type='SegRescale'),
            dict(type='RandomChoiceResize', scales=[(64, 48)]),
            dict(type='CenterCrop', crop_size=(32, 32)),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1)),
            dict(type='CachedMosaic', img_scale=(64, 64)),
            dict(type='CachedMixUp', img_scale=(64, 64))):
        as_float = step['type'] == 'RandomCenterCropPad'
        made = unlabelled_pipeline(Config(dict(train_dataloader=dict(
            dataset=dict(type='CocoDataset', pipeline=[
                dict(type='LoadImageFromFile', to_float32=as_float), size,
                dict(type='LoadAnnotations', with_bbox=True), step,
                dict(type='PackDetInputs')])))))
        dataset = DATASETS.build(dict(
            type='UnlabelledImages', data_prefix=dict(img=str(frames)),
            pipeline=made.steps))
        for index in range(3):
            sample = dataset[index]
            assert sample['inputs'].shape[0] == 3, step
            assert not len(sample['data_samples'].gt_instances.bboxes)


class NeedsBoxes:
    """A user's own step."""

    def __call__(self, results):
        return {**results, 'first': results['gt_bboxes'][0]}


def test_a_step_that_needs_boxes_is_named(findings, frames):
    def change(cfg):
        cfg.train_dataloader.dataset.pipeline.insert(3, dict(
            type=f'{__name__}.NeedsBoxes'))

    message = problem(findings(change, folder=str(frames)))
    assert 'the step NeedsBoxes of the pipeline does not work' in message
    assert 'Set mtpd.unlabelled.pipeline' in message
    own = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]
    found = findings(change, folder=str(frames), pipeline=own)
    assert found.problems == [] and len(found.notes) == 1


@pytest.mark.parametrize('step, words', [
    (dict(type='Resiz', scale=(64, 64)),
     r"pipeline\[1\].type 'Resiz' is not known; did you mean 'Resize'\?"),
    (dict(type='Resize', scal=(64, 64)),
     r'pipeline\[1\].scal is no argument of Resize; did you mean .*scale\?'),
    (dict(type='RandomAffine'), 'the step RandomAffine .* such as .*png '
     r".*Add dict\(type='LoadEmptyAnnotations'\)"),
    (dict(type='Normalize', mean=[123.] * 3, std=[58.] * 3),
     'mtpd.unlabelled has a Normalize in its pipeline')])
def test_a_wrong_step_of_its_own_pipeline_has_its_own_cure(
        findings, frames, step, words):
    own = [dict(type='LoadImageFromFile'), step, dict(type='PackDetInputs')]

    assert re.search(words, problem(findings(folder=str(frames),
                                             pipeline=own)))
    own.insert(1, dict(type='LoadEmptyAnnotations'))
    assert bool(findings(folder=str(frames), pipeline=own).problems) \
        == (step['type'] != 'RandomAffine')


def test_a_data_set_that_reads_its_labels_first(findings, frames, tmp_path):
    path = tmp_path / 'images.json'
    path.write_text(json.dumps(dict(images=[dict(
        id=1, file_name=os.listdir(frames)[0], height=64, width=64)])))
    message = problem(findings(dataset=dict(
        type='CocoDataset', ann_file=str(path),
        data_prefix=dict(img=str(frames)))))
    assert 'reads its labels first; to need none, name its images' in message
    assert findings(ann_file=str(path), folder=str(frames)).problems == []


@pytest.mark.parametrize('pipeline', ['Resize', ['Resize'], [
    dict(type='LoadImageFromFile'), 'PackDetInputs']])
def test_a_pipeline_that_is_no_list_of_dicts_is_said(findings, frames,
                                                     pipeline):
    def change(cfg):
        cfg.train_dataloader.dataset.pipeline = pipeline

    assert any('dict' in one for one in findings(
        change, folder=str(frames)).problems)


def test_the_steps_of_an_epoch_are_those_that_are_trained(findings, frames):
    def change(cfg):
        cfg.train_dataloader.num_batch_per_epoch = 2

    assert 'an epoch of 2 steps passes 1.45 times' in findings(
        change, folder=str(frames)).notes[0]
