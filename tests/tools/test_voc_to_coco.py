import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'voc_to_coco.py'
_spec = importlib.util.spec_from_file_location('voc_to_coco', TOOL)
_tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tool)
voc_to_coco = _tool.voc_to_coco

OBJECT = ('<object><name>{0}</name><difficult>{5}</difficult><bndbox>'
          '<xmin>{1}</xmin><ymin>{2}</ymin><xmax>{3}</xmax><ymax>{4}</ymax>'
          '</bndbox></object>')


def write_image(voc, stem, *objects):
    (voc / 'JPEGImages' / f'{stem}.jpg').write_bytes(f'jpeg {stem}'.encode())
    (voc / 'Annotations' / f'{stem}.xml').write_text(
        '<annotation><filename>another.jpg</filename>'
        '<size><width>64</width><height>48</height><depth>3</depth></size>'
        + ''.join(OBJECT.format(*o) for o in objects) + '</annotation>')


@pytest.fixture
def voc(tmp_path):
    folder = tmp_path / 'voc'
    for part in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (folder / part).mkdir(parents=True)
    write_image(folder, 'b1', ('RBC', 1, 1, 64, 48, 0),
                ('Platelets', 10, 20, 14, 29, 1))
    write_image(folder, 'b2', ('RBC', 9, 9, 9, 9, 0),
                ('WBC', 9, 9, 8, 20, 0), ('WBC', '3.0', 5, 4, 7, 0))
    write_image(folder, 'b3', ('RBC', 2, 3, 12, 23, 0))
    (folder / 'ImageSets/Main/train.txt').write_text('b2\nb1\n\n')
    (folder / 'ImageSets/Main/val.txt').write_text('b3  1\n')
    return folder


def read(out, split):
    return json.loads(
        (out / 'annotations' / f'instances_{split}.json').read_text())


def test_boxes_cover_whole_pixels(voc, tmp_path):
    out = tmp_path / 'data' / 'bccd'
    counts = voc_to_coco(voc, out, ['train', 'val'],
                         ['RBC', 'WBC', 'Platelets'])
    assert counts == dict(train=dict(images=2, annotations=3, dropped=2),
                          val=dict(images=1, annotations=1, dropped=0))
    train = read(out, 'train')
    assert train['categories'] == [
        dict(id=1, name='RBC'), dict(id=2, name='WBC'),
        dict(id=3, name='Platelets')]
    assert train['images'] == [
        dict(id=1, file_name='b2.jpg', width=64, height=48),
        dict(id=2, file_name='b1.jpg', width=64, height=48)]
    assert [(a['image_id'], a['category_id'], a['bbox'], a['area'],
             a['iscrowd']) for a in train['annotations']] == [
                 (1, 2, [2, 4, 2, 3], 6, 0),
                 (2, 1, [0, 0, 64, 48], 64 * 48, 0),
                 (2, 3, [9, 19, 5, 10], 50, 1)]
    assert [a['id'] for a in train['annotations']] == [1, 2, 3]
    assert (out / 'train' / 'b1.jpg').read_bytes() == b'jpeg b1'
    assert [path.name for path in (out / 'val').iterdir()] == ['b3.jpg']


def test_classes_are_found_and_sorted_over_all_splits(voc, tmp_path):
    voc_to_coco(voc, tmp_path / 'out', ['val', 'train'])
    assert [c['name'] for c in read(tmp_path / 'out', 'val')['categories']] \
        == ['Platelets', 'RBC', 'WBC']


def test_running_twice_gives_the_same(voc, tmp_path):
    voc_to_coco(voc, tmp_path / 'out', ['train'])
    first = read(tmp_path / 'out', 'train')
    voc_to_coco(voc, tmp_path / 'out', ['train'])
    assert read(tmp_path / 'out', 'train') == first


def test_names_and_lists_as_people_have_them(voc, tmp_path):
    """Any image suffix, spaces and dots in names, sub-folders; lists with a
    byte order mark, Windows' line ends, suffixes and a second column."""
    names = ['a b', 'cell 1', 'v1.2', 'sub/c']
    files = ['a b.PNG', 'cell 1.jpeg', 'v1.2.Jpg', 'sub/c.tif']
    for part in ('JPEGImages', 'Annotations'):
        (voc / part / 'sub').mkdir()
    for name, file in zip(names, files):
        write_image(voc, name, ('RBC', 1, 1, 5, 5, 0))
        (voc / 'JPEGImages' / f'{name}.jpg').rename(
            voc / 'JPEGImages' / file)
    (voc / 'JPEGImages/a b.txt').write_text('a note')
    (voc / 'ImageSets/Main/all.txt').write_bytes(
        '\ufeffa b\r\ncell 1\r\nv1.2.jpg\r\nsub/c  -1\r\n\r\nb3\r\n'
        .encode())
    counts = voc_to_coco(voc, tmp_path / 'out', ['all'])
    assert counts['all'] == dict(images=5, annotations=5, dropped=0)
    assert [image['file_name'] for image in read(
        tmp_path / 'out', 'all')['images']] == [*files, 'b3.jpg']
    for name, file in zip(names, files):
        assert (tmp_path / 'out/all' / file).read_bytes() \
            == f'jpeg {name}'.encode()


def test_a_class_is_named_once(voc, tmp_path):
    with pytest.raises(ValueError, match='names a class twice: RBC WBC RBC'):
        voc_to_coco(voc, tmp_path / 'out', ['val'], ['RBC', 'WBC', 'RBC'])


def test_a_link_to_the_images_leaves_them_alone(voc, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/train').symlink_to(voc / 'JPEGImages')
    voc_to_coco(voc, tmp_path / 'out', ['train'])
    assert (voc / 'JPEGImages/b1.jpg').read_bytes() == b'jpeg b1'
    assert len(read(tmp_path / 'out', 'train')['images']) == 2


def test_images_are_copied_where_links_fail(voc, tmp_path, monkeypatch):
    def link(*_):
        raise OSError

    monkeypatch.setattr(_tool.os, 'link', link)
    voc_to_coco(voc, tmp_path / 'out', ['val'])
    assert (tmp_path / 'out/val/b3.jpg').read_bytes() == b'jpeg b3'


def test_mmdet_reads_boxes_of_the_same_corner(voc, tmp_path):
    COCO = pytest.importorskip('pycocotools.coco').COCO
    voc_to_coco(voc, tmp_path / 'out', ['train'])
    coco = COCO(tmp_path / 'out/annotations/instances_train.json')
    assert len(coco.getAnnIds(iscrowd=False)) == 2


@pytest.mark.parametrize('breakage, error, words', [
    (lambda v: (v / 'Annotations/b1.xml').unlink(), FileNotFoundError,
     r'b1\.xml is missing'),
    (lambda v: (v / 'JPEGImages/b1.jpg').unlink(), FileNotFoundError,
     r'b1\.jpg is missing'),
    (lambda v: (v / 'ImageSets/Main/train.txt').unlink(), FileNotFoundError,
     r'train\.txt is missing'),
    (lambda v: (v / 'ImageSets/Main/train.txt').write_text('\n'), ValueError,
     'names no image'),
    (lambda v: (v / 'ImageSets/Main/train.txt').write_text('b1\nb1\n'),
     ValueError, 'twice'),
    (lambda v: (v / 'Annotations/b1.xml').write_text('<annotation>'),
     ValueError, r'b1\.xml lacks'),
    (lambda v: (v / 'Annotations/b1.xml').write_text('<annotation/>'),
     ValueError, r'b1\.xml lacks'),
    (lambda v: (v / 'JPEGImages/b1.png').touch(), ValueError,
     r'has b1\.jpg and b1\.png, and a split names b1'),
    (lambda v: (v / 'ImageSets/Main/train.txt').write_text(
        'b1', encoding='utf-16'), ValueError, r'train\.txt is not in UTF-8'),
    (lambda v: (v / 'Annotations/b1.xml').write_text(
        '<annotation><size><width>0</width><height>0</height></size>'
        '</annotation>'), ValueError, r'b1\.xml lacks .*size is 0 x 0'),
    (lambda v: write_image(v, 'b1', ('RBC', 1, 1, 1e400, 5, 0)), ValueError,
     r'b1\.xml lacks .*infinity'),
    (lambda v: write_image(v, 'b1', (' ', 1, 1, 5, 5, 0)), ValueError,
     r'b1\.xml lacks .*there is no name'),
    (lambda v: (v / 'Annotations/b1.xml').write_bytes(
        b'<?xml version="1.0" encoding="foo"?><annotation/>'), ValueError,
     r'b1\.xml lacks .*foo'),
    (lambda v: ((v / 'JPEGImages/b1.jpg').unlink(),
                (v / 'JPEGImages/b1.png').mkdir()), FileNotFoundError,
     r'b1\.jpg is missing'),
    (lambda v: write_image(v, 'b1', ('Yeast', 1, 1, 5, 5, 0)), ValueError,
     'name Yeast, and the classes are RBC, WBC'),
])
def test_errors_come_before_anything_is_written(voc, tmp_path, breakage, error,
                                                words):
    breakage(voc)
    with pytest.raises(error, match=words):
        voc_to_coco(voc, tmp_path / 'out', ['val', 'train'],
                    ['RBC', 'WBC', 'Platelets'])
    assert not (tmp_path / 'out').exists()


def test_command_line(voc, tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(TOOL), *arguments], capture_output=True,
            text=True, env={**os.environ, 'HOME': str(tmp_path)})

    done = run(str(voc), '--out=~/out')
    assert (tmp_path / 'out').is_dir()
    assert done.returncode == 0
    assert done.stdout == (
        'train: 2 images, 3 boxes, 2 of zero or negative size dropped\n'
        'val: 1 images, 1 boxes, 0 of zero or negative size dropped\n')
    failed = run(str(voc), '--out', str(tmp_path / 'out'), '--splits', 'test')
    assert failed.returncode == 1
    assert 'test.txt is missing' in failed.stderr
    assert 'Traceback' not in failed.stderr
    (tmp_path / 'file').touch()
    failed = run(str(voc), '--out=~/file')
    assert (failed.returncode, failed.stderr) == (
        1, f'{tmp_path}/file/train: Not a directory\n')
