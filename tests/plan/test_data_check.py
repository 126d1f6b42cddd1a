"""Data that is there and does not agree is refused before any training."""
import copy
import json
import shutil
import time
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict
from PIL import Image

from mtpd.plan.data_check import (annotations, data_problems, missing_data,
                                  reading)
from mtpd.plan.data_check.classes import head_classes
from mtpd.plan.data_check.loaders import changes_values
from mtpd.progression import make_plan


@pytest.fixture(scope='module')
def contents(drawn) -> dict[str, dict]:
    """Split -> the content of its annotation file."""
    return {split: json.loads((drawn / f'annotations/instances_{split}.json')
                              .read_text()) for split in ('train', 'val')}


@pytest.fixture
def checked(toy, contents, tmp_path):
    """checked(split=change or text, ...): the problems of the toy with other
    annotation files; a change gets a copy of the content."""
    def check(cfg=None, **changes) -> list[str]:
        cfg = cfg or toy()
        for split, change in changes.items():
            path = tmp_path / f'{split}.json'
            if callable(change):
                content = copy.deepcopy(contents[split])
                changed = change(content)
                if isinstance(changed, dict):
                    content = changed
                path.write_text(json.dumps(content))
            elif isinstance(change, bytes):
                path.write_bytes(change)
            cfg[f'{split}_dataloader'].dataset.ann_file = str(path)
            if split == 'val':
                cfg.val_evaluator.ann_file = str(path)
        return data_problems({'': cfg})
    return check


def each(part: str, **values):
    """A change of every entry of a part; None removes the key."""
    def change(content):
        for entry in content[part]:
            for key, value in values.items():
                if value is None:
                    entry.pop(key, None)
                else:
                    entry[key] = value(entry) if callable(value) else value
    return change


def first(part: str, **values):
    """As :func:`each`, of the first entry alone."""
    def change(content):
        each(part, **values)({part: content[part][:1]})
    return change


def reverse_categories(content):
    content['categories'].reverse()


def test_what_agrees_has_no_problem(toy, checked, contents):
    assert missing_data(make_plan(toy())) == []
    # What real files have and mmdet copes with: more categories than classes,
    # annotations of images that are not there, ids that are text or floats.
    for change in (
            lambda c: c['categories'].append(dict(id=99, name='other')),
            lambda c: c['annotations'].append(dict(
                c['annotations'][0], id=9999, image_id=9999)),
            lambda c: (each('images', id=lambda i: f'image {i["id"]}')(c),
                       each('annotations', image_id=lambda a:
                            f'image {a["image_id"]}')(c)),
            each('annotations', category_id=lambda a: float(
                a['category_id'])),
            each('annotations', segmentation=None),
            lambda c: c.pop('info') and None):
        assert checked(train=change, val=change) == []
    # Only the evaluation needs it.
    assert checked(train=each('annotations', iscrowd=None)) == []


@pytest.mark.parametrize('change, words', [
    (b'\xef\xbb\xbf{}', ['byte order mark', 'utf-8-sig']),
    ('{}'.encode('utf-16'), ['is not in UTF-8']),
    (b'{"images": [', ['is no JSON']),
    (b'', ['is no JSON']),
    (b'[1]', ['holds a list', 'one JSON object']),
    (b'{"image": []}', ["has no 'images'", "has no 'annotations'",
                        "has no 'categories'"]),
    (lambda c: c.pop('categories') and None, ["has no 'categories'"]),
    (lambda c: {**c, 'images': {}}, ["has an object as 'images'"]),
    (each('annotations', area=None), ['have no area']),
    (first('annotations', area='12'), ['1 of', 'an area that is no number']),
    (first('annotations', area=float('nan')), ['an area that is no number']),
    (first('annotations', bbox=None), ['1 of', 'have no bbox']),
    (first('annotations', bbox=[1, 2, 3]), ['list of four numbers']),
    (first('annotations', bbox=[1, 2, 3, '4']),
     ['list of four numbers']),
    (each('annotations', iscrowd=None), ['have no iscrowd']),
    (first('annotations', iscrowd='0'), ['neither 0 nor 1']),
    (first('annotations', image_id=None), ['have no image_id']),
    (first('annotations', category_id=[1]), ['neither a number nor text']),
    (first('annotations', id='a7'), ['an id that is text']),
    (each('annotations', id=1), ['an id that another one has']),
    (each('images', id=1), ['an id that another one has']),
    (each('images', width=None), ['8 of 8 images have no width']),
    (first('images', height=None), ['1 of 8 images have no height']),
    (first('images', height='64'), ['a height that is no number above 0']),
    (first('images', file_name=None), ['no file_name']),
    (each('categories', id=1), ['an id that another one has']),
    (lambda c: {**c, 'images': []}, ['list of images is empty']),
    (lambda c: {**c, 'annotations': [7]}, ['another form than an object']),
    (each('annotations', image_id=lambda a: str(a['image_id'])),
     ['one is text, the other a number', 'image_id']),
    (each('annotations', category_id=lambda a: str(a['category_id'])),
     ['one is text, the other a number', 'category_id']),
    (lambda c: {**c, 'annotations': []},
     ['val_dataloader has no usable box', 'no AP can be measured',
      'no annotation at all']),
    (each('annotations', area=0), ['no usable box', 'an area of 0']),
    (each('annotations', bbox=[500, 500, 9, 9]),
     ['no usable box', 'lie outside of their image']),
    (each('annotations', bbox=[3, 3, .5, 9]),
     ['no usable box', 'smaller than a pixel']),
    (each('annotations', iscrowd=1), ['no usable box', 'are crowds']),
    (each('annotations', image_id=777), ['no usable box', 'no image has']),
    (first('categories', name='disk'),
     ["metainfo.classes names 'disc'", "did you mean 'disk'?"]),
    (lambda c: c['categories'].append(dict(id=77, name='disc')),
     ["two categories of the name 'disc'"]),
    (reverse_categories, ['lists its categories in the order',
                          'in the same order']),
])
def test_each_fault_of_a_file_is_named_with_field_and_file(
        checked, tmp_path, change, words):
    problems = checked(val=change)
    assert problems
    text = '\n'.join(problems)
    for part in (*words, 'val_dataloader', str(tmp_path / 'val.json')):
        assert part in text
    # Each message says what to do.
    for problem in problems:
        assert any(verb in problem for verb in (
            'Correct', 'Save', 'Expected', 'Write', 'Set', 'List', 'Join',
            'Number', 'rename')), problem


def test_both_files_in_another_order_than_the_names(toy, checked, contents):
    """mmdet trains it, and the detector gives its classes wrong names."""
    problems = checked(train=reverse_categories, val=reverse_categories)
    names = tuple(c['name'] for c in reversed(
        contents['val']['categories']))
    assert len(problems) == 2
    for field, problem in zip(('train', 'val'), problems, strict=True):
        assert f'Set {field}_dataloader.dataset.metainfo.classes={names}' \
            in problem
    cfg = toy()
    for field in ('train', 'val'):
        cfg[f'{field}_dataloader'].dataset.metainfo.classes = names
    assert checked(cfg, train=reverse_categories,
                   val=reverse_categories) == []


def test_nothing_to_learn_from(checked):
    problem, = checked(train=each('annotations', iscrowd=1))
    assert problem.startswith('train_dataloader has no usable box')
    assert 'nothing can be learned' in problem


@pytest.mark.parametrize('classes, words', [
    ('disc', "classes=('disc', )"),
    (('disc', 'trianglesquare', 'star', 'cross'),
     "'triangle' and 'square' with no comma"),
    (('disc', 'disc', 'star'), "names 'disc' twice"),
    (('disc', 'star'), 'Set the same classes for both'),
])
def test_classes_of_a_config(toy, classes, words):
    cfg = toy()
    cfg.val_dataloader.dataset.metainfo.classes = classes
    assert any(words in problem for problem in data_problems({'': cfg}))


def test_heads_predict_the_classes_that_there_are(toy, retinanet,
                                                  swin_mask_rcnn):
    cfg = toy()
    cfg.model.bbox_head.num_classes = 80
    problem, = data_problems({'': cfg})
    assert problem == (
        'model.bbox_head predicts 80 classes, and '
        'train_dataloader.dataset.metainfo.classes has 5. Set '
        'model.bbox_head.num_classes=5.')
    assert list(head_classes(swin_mask_rcnn)) == [
        ('model.roi_head.bbox_head', 5), ('model.roi_head.mask_head', 5)]
    # What the config leaves to the head's class; one head per step.
    swin = copy.deepcopy(swin_mask_rcnn)
    del swin.roi_head.mask_head['num_classes']
    swin.roi_head.bbox_head = [swin.roi_head.bbox_head] * 2
    assert list(head_classes(swin)) == [
        ('model.roi_head.bbox_head.0', 5), ('model.roi_head.bbox_head.1', 5),
        ('model.roi_head.mask_head', 80)]


def test_loader_and_evaluator_read_one_file(toy, drawn, tmp_path):
    cfg = toy()
    train = str(drawn / 'annotations/instances_train.json')
    cfg.val_evaluator.ann_file = train
    problem, = data_problems({'': cfg})
    assert problem.startswith(f'val_evaluator.ann_file is {train}, and')
    # A copy is the same file.
    copied = tmp_path / 'copy.json'
    copied.write_bytes((drawn / 'annotations/instances_val.json')
                       .read_bytes())
    cfg.val_evaluator = [ConfigDict(cfg.val_evaluator, ann_file=str(copied))]
    assert data_problems({'': cfg}) == []
    cfg.val_evaluator[0].ann_file = 'gone.json'
    problem, = data_problems({'': cfg})
    assert 'val_evaluator.0.ann_file: there is no file gone.json' in problem


def test_joined_validation_sets_have_one_evaluator(toy, contents, drawn,
                                                   tmp_path):
    cfg = toy()
    part = cfg.val_dataloader.dataset
    parts = []
    for number in (0, 1):
        content = copy.deepcopy(contents['val'])
        content['images'] = content['images'][number::2]
        (tmp_path / f'{number}.json').write_text(json.dumps(content))
        parts.append(dict(copy.deepcopy(part),
                          ann_file=str(tmp_path / f'{number}.json')))
    cfg.val_dataloader.dataset = ConfigDict(type='ConcatDataset',
                                            datasets=parts)
    assert data_problems({'': cfg}) == []  # the evaluator's file has both
    cfg.val_evaluator.ann_file = str(tmp_path / '0.json')
    problem, = data_problems({'': cfg})
    assert 'has 4 images, and val_dataloader joins 2 data sets of 8' in problem
    cfg.val_dataloader.dataset.datasets[1] = copy.deepcopy(parts[0])
    problem, = data_problems({'': cfg})
    assert '4 image ids are in more than one of them' in problem


def test_batches_that_drop_everything(toy):
    cfg = toy()
    cfg.train_dataloader.update(batch_size=32, drop_last=True)
    problem, = data_problems({'': cfg})
    assert 'train_dataloader has 24 images, batch_size=32' in problem
    assert 'at most 24' in problem
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)
    assert data_problems({'': cfg}) == []
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    cfg.train_dataloader.batch_size = 64  # goes on with the next pass
    assert data_problems({'': cfg}) == []
    cfg.val_dataloader.update(batch_size=3, drop_last=True)
    problem, = data_problems({'': cfg})
    assert '2 would not be looked at' in problem


def test_images_are_normalised_once(toy):
    cfg = toy()
    step = dict(type='Normalize', mean=[1, 2, 3], std=[1, 1, 1])
    cfg.train_dataloader.dataset.pipeline.insert(2, step)
    problem, = missing_data(make_plan(cfg))
    assert problem.startswith('train_dataloader.dataset has a Normalize')
    assert 'mtpd.student, mtpd.teachers.wide, mtpd.teachers.swin' in problem
    for spec in (cfg.model, *(Config.fromfile(teacher.config).model
                              for teacher in cfg.mtpd.teachers.values())):
        assert changes_values(spec.data_preprocessor)
    assert not changes_values(dict(mean=[0, 0, 0], std=[1., 1., 1.]))
    assert not changes_values(dict(pad_size_divisor=32))
    # A student of mmdet 2's form, whose teachers normalise for themselves.
    cfg.model.data_preprocessor.update(mean=None, std=None)
    problem, = missing_data(make_plan(cfg))
    assert 'of mtpd.teachers.wide, mtpd.teachers.swin' in problem


def test_masks_where_they_are_loaded_or_measured(toy, checked):
    without = each('annotations', segmentation=None)
    cfg = toy()
    cfg.train_dataloader.dataset.pipeline[2].with_mask = True
    assert data_problems({'': cfg}) == []
    problem, = checked(cfg, train=without)
    assert 'pipeline loads masks' in problem and 'metric=\'bbox\'' in problem
    cfg = toy()
    cfg.val_evaluator.metric = ['bbox', 'segm']
    problem, = checked(cfg, val=without)
    assert "val_evaluator measures 'segm'" in problem


def test_absolute_file_names_need_no_folder(toy, drawn, contents, tmp_path):
    cfg = toy()
    for split in ('train', 'val'):
        content = copy.deepcopy(contents[split])
        for image in content['images']:
            image['file_name'] = str(drawn / split / image['file_name'])
        (tmp_path / f'{split}.json').write_text(json.dumps(content))
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.update(ann_file=str(tmp_path / f'{split}.json'),
                       data_root='', data_prefix=dict(img=''))
    cfg.val_evaluator.ann_file = str(tmp_path / 'val.json')
    assert data_problems({'': cfg}) == []
    dataset.data_prefix.img = 'gone/'  # file names are whole paths
    assert data_problems({'': cfg}) == []
    dataset.pop('data_prefix')
    problem, = data_problems({'': cfg})
    assert 'val_dataloader.dataset.data_prefix.img is not set' in problem


def voc_folder(folder: Path) -> Path:
    """Two images with one box each, in Pascal VOC's form."""
    for part in ('JPEGImages', 'Annotations'):
        (folder / part).mkdir(parents=True)
    for name in ('a', 'b'):
        Image.new('RGB', (96, 64)).save(folder / f'JPEGImages/{name}.jpg')
        (folder / f'Annotations/{name}.xml').write_text(
            '<annotation><size><width>96</width><height>64</height></size>'
            '<object><name>disc</name><bndbox><xmin>3</xmin><ymin>3</ymin>'
            '<xmax>40</xmax><ymax>40</ymax></bndbox></object></annotation>')
    (folder / 'list.txt').write_text('a\nb\n')
    return folder


def test_other_data_sets_are_read_by_their_own_class(toy, tmp_path):
    cfg = toy()
    folder = voc_folder(tmp_path / 'VOC 2007')
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset = ConfigDict(
            type='VOCDataset', data_root=f'{folder}/', ann_file='list.txt',
            metainfo=dict(classes=('disc', 'star', 'cross', 'square',
                                   'triangle')),
            data_prefix=dict(sub_data_root=''), pipeline=[],
            test_mode=split == 'val')
    cfg.train_dataloader.dataset.filter_cfg = dict(
        filter_empty_gt=True, min_size=32, bbox_min_size=8)
    cfg.val_evaluator = dict(type='VOCMetric', metric='mAP')
    assert data_problems({'': cfg}) == []
    (folder / 'Annotations/b.xml').write_text('<annotation>')
    problems = data_problems({'': cfg})
    assert len(problems) == 2
    assert 'train_dataloader.dataset: VOCDataset cannot read' in problems[0]
    assert 'ParseError' in problems[0]
    cfg.train_dataloader.dataset.type = 'VOCDatset'
    assert "did you mean 'VOCDataset'?" in data_problems({'': cfg})[0]


def test_one_read_of_each_file(toy, monkeypatch):
    read = []
    whole = annotations.read_annotations
    monkeypatch.setattr(reading, 'read_annotations', lambda path, start: (
        read.append(path), whole(path, start))[1])
    cfg = toy()
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = ConfigDict(
        type='ConcatDataset', datasets=[inner, copy.deepcopy(inner)])
    assert data_problems({'': cfg, 'again: ': copy.deepcopy(cfg)}) == []
    assert len(read) == len(set(read)) == 2


def test_the_check_is_fast(contents):
    """COCO's training file has 860,000 boxes; a tenth of them."""
    content = copy.deepcopy(contents['val'])
    box = content['annotations'][0]
    content['annotations'] = [dict(box, id=i) for i in range(86000)]
    began = time.process_time()
    assert annotations.content_problems(content, evaluated=True) == []
    assert time.process_time() - began < 3


def test_a_relative_data_root_is_told_with_its_folder(toy, drawn, tmp_path,
                                                      monkeypatch):
    """Whatever is wrong with the data, a message that names a relative path
    says where it was looked for."""
    where = f'Relative paths start from {tmp_path}, the working folder.'
    monkeypatch.chdir(tmp_path)
    cfg = toy()
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = 'my data/'

    def told(changes) -> list[bool]:
        """Whether each problem ends with the folder."""
        other = copy.deepcopy(cfg)
        other.merge_from_dict(changes)
        return [problem.endswith(where)
                for problem in missing_data(make_plan(other))]

    assert told({}) == [True] * 4  # files and folders
    shutil.copytree(drawn, tmp_path / 'my data')
    assert told({}) == []  # the evaluator's is absolute

    data, metric = 'train_dataloader.dataset.', 'val_evaluator.ann_file'
    file = tmp_path / 'my data/annotations/instances_train.json'
    content = json.loads(file.read_text())
    for changes in ({f'{data}data_prefix.img': 'gone/'},
                    {f'{data}ann_file': 'gone.json'},
                    {metric: 'gone.json'},
                    {metric: 'my data/annotations/instances_train.json'},
                    {f'{data}metainfo.classes': ('disk', 'triangle')}):
        found = told(changes)
        assert found and all(found), changes
    for text in ('{torn', '[]', '{}', json.dumps({
            **content, 'images': [{**content['images'][0],
                                   'file_name': 'gone.png'}]})):
        file.write_text(text)
        found = told({})
        assert found and all(found), text
    file.write_text(json.dumps(content))
    # An absolute path says it by itself; so does a message without a path.
    assert told({f'{data}ann_file': str(tmp_path / 'gone.json')}) == [False]
    assert told({'model.bbox_head.num_classes': 3}) == [False]
