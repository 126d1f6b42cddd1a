import hashlib
import json

import numpy as np
import pytest

cv2 = pytest.importorskip('cv2')
pytest.importorskip('pycocotools')

from pycocotools.coco import COCO  # noqa: E402

from mtpd.data.drawn_shapes import CLASSES, draw_shapes  # noqa: E402

SIZE = (96, 72)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp('drawn')
    draw_shapes(folder, 24, 8, SIZE, seed=3)
    return folder


def digests(folder):
    return {str(path.relative_to(folder)):
            hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def test_same_seed_gives_the_same_bytes(drawn, tmp_path):
    np.random.seed(0)  # the global generator must have no influence
    draw_shapes(tmp_path, 24, 8, SIZE, seed=3)
    assert digests(tmp_path) == digests(drawn)


def test_global_random_state_is_left_alone(tmp_path):
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    draw_shapes(tmp_path, 1, 1, SIZE, seed=0)
    assert np.random.random() == expected


def test_another_seed_gives_other_images(drawn, tmp_path):
    draw_shapes(tmp_path, 2, 2, SIZE, seed=4)
    other, first = digests(tmp_path), digests(drawn)
    assert all(other[name] != first[name] for name in other)


def test_splits_do_not_share_images(drawn):
    train = {h for name, h in digests(drawn).items() if name[:5] == 'train'}
    val = {h for name, h in digests(drawn).items() if name[:3] == 'val'}
    assert len(train) == 24 and len(val) == 8 and not train & val


def test_a_larger_set_starts_with_the_smaller_one(drawn, tmp_path):
    draw_shapes(tmp_path, 3, 1, SIZE, seed=3)
    for name in ('train/00000.png', 'train/00002.png', 'val/00000.png'):
        assert (tmp_path / name).read_bytes() == (drawn / name).read_bytes()


@pytest.mark.parametrize('split, count', [('train', 24), ('val', 8)])
def test_annotations_fit_the_masks(drawn, split, count, capsys):
    coco = COCO(drawn / 'annotations' / f'instances_{split}.json')
    assert len(coco.imgs) == count
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == [*CLASSES]
    for entry in coco.imgs.values():
        image = cv2.imread(str(drawn / split / entry['file_name']))
        assert image.shape == (SIZE[1], SIZE[0], 3)
        assert (entry['width'], entry['height']) == SIZE
        annotations = coco.imgToAnns[entry['id']]
        assert annotations
        covered = np.zeros(image.shape[:2], int)
        for annotation in annotations:
            mask = coco.annToMask(annotation)
            ys, xs = np.nonzero(mask)
            assert annotation['bbox'] == [
                xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert annotation['area'] == mask.sum()
            covered += mask
        assert covered.max() == 1


def test_all_classes_and_sizes_occur(drawn):
    coco = COCO(drawn / 'annotations' / 'instances_train.json')
    assert all(coco.getAnnIds(catIds=[i]) for i in coco.getCatIds())
    sides = [np.sqrt(a['area']) for a in coco.anns.values()]
    assert min(sides) < 12 and max(sides) > 24


def test_some_shapes_are_partly_hidden(drawn):
    coco = COCO(drawn / 'annotations' / 'instances_train.json')
    boxes = [[a['bbox'] for a in anns] for anns in coco.imgToAnns.values()]
    overlapping = sum(
        a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and
        a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
        for image in boxes for i, a in enumerate(image) for b in image[:i])
    assert overlapping >= 5


def test_a_finished_folder_is_not_drawn_again(tmp_path):
    draw_shapes(tmp_path, 1, 1, SIZE, seed=0)
    (tmp_path / 'train' / '00000.png').write_bytes(b'kept')
    draw_shapes(tmp_path, 1, 1, SIZE, seed=0)
    assert (tmp_path / 'train' / '00000.png').read_bytes() == b'kept'


def test_what_was_removed_is_drawn_again(tmp_path):
    draw_shapes(tmp_path, 2, 1, SIZE, seed=0)
    whole = digests(tmp_path)
    for name in ('train/00001.png', 'annotations/instances_val.json'):
        (tmp_path / name).unlink()
        draw_shapes(tmp_path, 2, 1, SIZE, seed=0)
        assert digests(tmp_path) == whole


def test_other_files_are_not_written_over(tmp_path):
    (tmp_path / 'train').mkdir()
    own = tmp_path / 'train' / '00000.png'
    own.write_text('own')
    with pytest.raises(FileExistsError, match='Name an empty folder'):
        draw_shapes(tmp_path, 1, 1, SIZE, seed=0)
    assert digests(tmp_path).keys() == {'train/00000.png'}
    assert own.read_text() == 'own'


def test_a_smaller_set_leaves_no_image_of_a_larger_one(drawn, tmp_path):
    draw_shapes(tmp_path, 3, 2, SIZE, seed=3)
    draw_shapes(tmp_path, 1, 1, SIZE, seed=3)
    assert sorted(tmp_path.rglob('*.png')) == [
        tmp_path / 'train/00000.png', tmp_path / 'val/00000.png']


def test_other_parameters_draw_again(tmp_path):
    draw_shapes(tmp_path, 1, 1, SIZE, seed=0)
    before = digests(tmp_path)
    draw_shapes(tmp_path, 2, 1, SIZE, seed=1)
    after = digests(tmp_path)
    assert 'train/00001.png' in after
    assert after['train/00000.png'] != before['train/00000.png']


def test_an_interrupted_drawing_is_drawn_again(tmp_path, monkeypatch):
    whole = tmp_path / 'whole'
    draw_shapes(whole, 2, 2, SIZE, seed=0)
    broken, written = tmp_path / 'broken', []

    def imwrite(path, image, write=cv2.imwrite):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        return write(path, image)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cv2, 'imwrite', imwrite)
        draw_shapes(broken, 2, 2, SIZE, seed=0)
    assert not (broken / 'annotations' / 'instances_val.json').exists()
    draw_shapes(broken, 2, 2, SIZE, seed=0)
    assert digests(broken) == digests(whole)


def test_an_interrupted_redrawing_is_noticed(tmp_path, monkeypatch):
    draw_shapes(tmp_path, 1, 1, SIZE, seed=0)
    expected = digests(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(cv2, 'imwrite', lambda path, image: False)
        draw_shapes(tmp_path, 1, 1, SIZE, seed=1)
    (tmp_path / 'train' / '00000.png').write_bytes(b'half')
    draw_shapes(tmp_path, 1, 1, SIZE, seed=0)
    assert digests(tmp_path) == expected
    (tmp_path / 'drawn_shapes.json').write_text('[1,')
    draw_shapes(tmp_path, 1, 1, SIZE, seed=0)
    assert digests(tmp_path) == expected


@pytest.mark.parametrize('arguments', [
    (0, 1, SIZE, 0), (1, 0, SIZE, 0), (1, 1, (63, 96), 0), (1, 1, SIZE, -1)])
def test_wrong_parameters_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match='at least'):
        draw_shapes(tmp_path / 'none', *arguments)
    assert not (tmp_path / 'none').exists()


def test_the_record_holds_the_parameters(drawn):
    record = json.loads((drawn / 'drawn_shapes.json').read_text())
    assert record['seed'] == 3 and record['size'] == list(SIZE)


@pytest.mark.parametrize('arguments', [
    (2.5, 1, SIZE, 3), (1, True, SIZE, 3), (1, 1, (64.5, 64), 3),
    (1, 1, SIZE, 1.5), (1, 1, SIZE, None), ('3', 1, SIZE, 3)])
def test_numbers_that_are_not_whole_leave_a_folder_as_it_is(tmp_path,
                                                            arguments):
    draw_shapes(tmp_path, 1, 1, SIZE, seed=3)
    before = digests(tmp_path)
    with pytest.raises(TypeError, match='is no whole number'):
        draw_shapes(tmp_path, *arguments)
    assert digests(tmp_path) == before
