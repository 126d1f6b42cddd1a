"""Which images costs are measured on, and in which batches."""
import json
import shutil
from collections import Counter
from fractions import Fraction

import pytest
import torch
from PIL import Image

from mtpd.order import fold_of
from mtpd.plan.data_check import student_data
from mtpd.plan.plan import make_plan
from mtpd.search.images import Images


@pytest.fixture
def mixed(toy, tmp_path):
    """24 images of three sizes, without any label."""
    sizes = [(96, 64), (64, 96), (96, 80)]
    (tmp_path / 'img').mkdir()
    images = []
    for i in range(24):
        width, height = sizes[i % 3]
        Image.new('RGB', (width, height), (i, 0, 0)).save(
            tmp_path / 'img' / f'{i}.png')
        images.append(dict(id=i, file_name=f'{i}.png', width=width,
                           height=height))
    cfg = toy()
    classes = cfg.train_dataloader.dataset.metainfo.classes
    (tmp_path / 'unlabelled.json').write_text(json.dumps(dict(
        images=images, categories=[dict(id=i, name=name)
                                   for i, name in enumerate(classes)])))
    cfg.train_dataloader.dataset.update(
        data_root=str(tmp_path), ann_file='unlabelled.json',
        data_prefix=dict(img='img/'))
    cfg.val_dataloader.batch_size = 5
    # As they are: 96x64 images stay so, whatever the scale below says.
    cfg.val_dataloader.dataset.pipeline[1].update(scale=(96, 96))
    return cfg


def test_a_batch_is_of_one_size_and_nothing_is_left_out(mixed):
    images = Images(mixed)
    assert len(images) == 24
    batches = images.batches(range(24))
    assert sorted(i for batch in batches for i in batch) == [*range(24)]
    assert Counter(map(len, batches)) == {5: 3, 3: 3}
    loaded = list(images.load(batches))
    assert [indices for indices, _ in loaded] == batches
    for indices, views in loaded:
        assert {i % 3 for i in indices} == {indices[0] % 3}
        assert set(views) == {1}
        for index, image in zip(indices, views[1], strict=True):
            assert image.dtype == torch.uint8
            # mmcv reads BGR: the image's own red.
            assert (image[2] == index).all() and not image[:2].any()


def test_a_wrong_size_in_the_annotations_divides_the_batch(mixed, tmp_path):
    content = json.loads((tmp_path / 'unlabelled.json').read_text())
    for image in content['images']:
        image.update(width=1, height=1)
    (tmp_path / 'unlabelled.json').write_text(json.dumps(content))
    images = Images(mixed)
    batches = images.batches(range(24))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 4]
    loaded = list(images.load(batches))
    assert sorted(i for indices, _ in loaded for i in indices) == [*range(24)]
    for _, views in loaded:
        assert len({image.shape for image in views[1]}) == 1


def test_splits_subsets_and_folds(toy, drawn):
    images = Images(toy())
    assert (len(images), len(Images(toy(), 'val'))) == (24, 8)
    assert images.spread(None) == images.spread(99) == [*range(24)]
    assert images.spread(6) == [0, 4, 8, 12, 16, 20]
    assert images.shuffled() == images.shuffled() != [*range(24)]
    assert sorted(images.shuffled()) == [*range(24)]
    ids = [image['id'] for image in json.load(open(
        drawn / 'annotations/instances_train.json'))['images']]
    assert [images.name(i) for i in range(24)] == list(map(str, ids))
    folds = [fold_of(str(i), 10) for i in ids]
    assert [images.fold(i) for i in range(24)] == folds
    by_fold = images.by_fold(reversed(range(24)), without={3, 4})
    assert list(by_fold) == sorted({*folds[:3], *folds[5:]})
    for fold, indices in by_fold.items():
        assert indices == [i for i in reversed(range(24))
                           if folds[i] == fold and i not in (3, 4)]


def test_repeated_and_concatenated_sets_are_their_own_images(toy):
    cfg = toy()
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[
            dict(type='RepeatDataset', times=3, dataset=inner), inner])
    assert len(Images(cfg)) == 48


def test_filters_of_a_training_set_leave_its_images(toy, tmp_path):
    """mmdet's VOC and WIDER FACE configs have one by the size of boxes, which
    mmdet's class refuses in the mode that keeps images without boxes."""
    for part in ('JPEGImages', 'Annotations'):
        (tmp_path / part).mkdir()
    for i in range(3):
        Image.new('RGB', (96, 64), (i, 0, 0)).save(
            tmp_path / f'JPEGImages/{i}.jpg')
        box = '<object><name>disc</name><bndbox><xmin>3</xmin><ymin>3</ymin>' \
            '<xmax>9</xmax><ymax>9</ymax></bndbox></object>' * (i % 2)
        (tmp_path / f'Annotations/{i}.xml').write_text(
            '<annotation><size><width>96</width><height>64</height></size>'
            f'{box}</annotation>')
    (tmp_path / 'list.txt').write_text('0\n1\n2\n')
    cfg = toy()
    voc = dict(type='VOCDataset', data_root=f'{tmp_path}/',
               ann_file='list.txt', data_prefix=dict(sub_data_root=''),
               metainfo=dict(classes=('disc', )), pipeline=[],
               filter_cfg=dict(filter_empty_gt=True, min_size=32,
                               bbox_min_size=32))
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=3, dataset=dict(
            type='ConcatDataset', datasets=[voc]))
    images = Images(cfg)
    assert [images.name(i) for i in range(len(images))] == ['0', '1', '2']
    (batch, ) = images.load([[0, 1, 2]])
    assert [tuple(image.shape) for image in batch.views[Fraction(1)]] \
        == [(3, 64, 96)] * 3
    assert cfg.train_dataloader.dataset.dataset.datasets[0].filter_cfg


def test_other_scales_come_beside(toy):
    cfg = toy()
    cfg.val_dataloader.dataset.pipeline[1].scale = (48, 32)
    images = Images(cfg, scales=[Fraction(2)])
    (_, views), *_ = images.load([[0, 1]])
    assert {scale: [tuple(image.shape) for image in images]
            for scale, images in views.items()} == {
        1: [(3, 32, 48)] * 2, 2: [(3, 64, 96)] * 2}


def test_a_share_of_positions_is_drawn_by_image(toy):
    images = Images(toy())
    drawn = {(i, s): images.drawn_positions(i, s, (64, 64), .25)
             for i in range(3) for s in (2, 4)}
    again = Images(toy())
    for (i, s), mask in drawn.items():
        assert mask.dtype == torch.bool
        assert torch.equal(mask, again.drawn_positions(i, s, (64, 64), .25))
        # 4096 draws: a standard deviation of .7%.
        assert mask.float().mean() == pytest.approx(.25, abs=.03)
    masks = list(drawn.values())
    assert not any(torch.equal(a, b) for i, a in enumerate(masks)
                   for b in masks[:i])


def views_of(images):
    """The images themselves, by index."""
    return {batch.indices[0]: batch.views[1][0]
            for batch in images.load(images.batches(range(len(images))))}


def test_images_without_labels_are_measured_on_too(toy, frames, tmp_path):
    frames = shutil.copytree(frames, tmp_path / 'frames')
    plan = make_plan(toy(unlabelled=dict(folder=str(frames)),
                         costs=dict(split='unlabelled')))
    images = Images(plan.student.config, 'unlabelled', [Fraction(2)],
                    plan.unlabelled)
    assert len(images) == 11
    assert images.fingerprint() != Images(plan.student.config).fingerprint()
    (indices, views), *others = images.load(images.batches(range(11)))
    assert len(others) == 10 and indices == [0]
    assert views[1][0].shape == (3, 64, 96)
    assert views[2][0].shape == (3, 128, 192)
    # As in training, the next one takes the place of one that is torn.
    second = views_of(images)[1]
    (frames / images.name(0)).write_bytes(b'no image')
    assert torch.equal(views_of(images)[0], second)
    found = student_data(make_plan(toy(costs=dict(split='unlabelled'))))
    assert found.problems == [
        "mtpd.costs.split is 'unlabelled', and mtpd.unlabelled is not set. "
        'Set it, or another split.']
    search = toy(unlabelled=dict(folder='gone'),
                 costs=dict(split='unlabelled'))
    assert 'no folder' in student_data(make_plan(search), False).problems[0]
