"""Boxes for images and videos of the kinds that people have."""
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from commands import run_command
from mtpd.predict import (Predictor, UnusableInput, evaluate_checkpoint,
                          predict_files)
from mtpd.predict.evaluation import draw_boxes
from mtpd.predict.inputs import find_inputs

SIZE = (96, 64)


@pytest.fixture(scope='module')
def trained(toy_in, retinanet, checkpoint_of, tmp_path_factory):
    """A config file and a checkpoint, as a progression leaves them."""
    folder = tmp_path_factory.mktemp('a student')
    cfg = toy_in(folder / 'work')
    cfg.pop('mtpd')
    cfg.dump(str(folder / 'student.py'))
    return str(folder / 'student.py'), checkpoint_of(retinanet, 3, 'predict')


@pytest.fixture(scope='module')
def predictor(trained):
    return Predictor(*trained, device='cpu', threshold=0.0115)


@pytest.fixture
def colours(drawn) -> np.ndarray:
    """An image of the validation set, RGB."""
    return cv2.imread(str(sorted((drawn / 'val').glob('*.png'))[0]))[..., ::-1]


def test_the_boxes_are_those_of_a_validation(trained, predictor, drawn, toy_in,
                                             tmp_path):
    """With the runner's own loader and val_step."""
    from mmengine.runner import Runner
    out = tmp_path / 'out'
    result = predict_files(predictor, [str(drawn / 'val')], str(out),
                           dict(config='c'))
    content = json.loads((out / 'predictions.json').read_text())
    assert result.json == str(out / 'predictions.json')
    assert (result.done, result.unread) == (8, {})
    assert content['config'] == 'c' and content['not_read'] == {}
    assert content['classes'] == ['disc', 'triangle', 'square', 'star',
                                  'cross']
    by_name = {Path(one['file']).name: one for one in content['images']}

    detector = predictor._detector
    compared = 0
    for batch in Runner.build_dataloader(toy_in(tmp_path).val_dataloader):
        with torch.no_grad():
            for sample in detector.val_step(batch):
                one = by_name[Path(sample.img_path).name]
                expected = sample.pred_instances
                expected = expected[expected.scores >= 0.0115]
                assert len(one['detections']) == len(expected)
                assert (one['width'], one['height']) == SIZE
                for found, label, score, box in zip(
                        one['detections'], expected.labels.tolist(),
                        expected.scores.tolist(), expected.bboxes.tolist()):
                    assert found['label'] == label
                    assert found['class'] == content['classes'][label]
                    assert found['score'] == pytest.approx(score, abs=1e-3)
                    assert found['box'] == pytest.approx(box, abs=0.1)
                    compared += 1
    assert compared == result.detections > 8
    for name, one in by_name.items():
        before = cv2.imread(str(drawn / 'val' / name))
        after = cv2.imread(str(out / name))
        assert after.shape == before.shape
        assert (after != before).any() == bool(one['detections'])


def test_images_of_every_kind_in_folders_of_any_name(predictor, colours,
                                                     tmp_path):
    folder = tmp_path / 'Übung 照片' / 'sub folder'
    folder.mkdir(parents=True)
    picture = Image.fromarray(colours)
    picture.save(folder / 'plain.png')
    picture.save(folder.parent / 'größe № 1.JPG')
    picture.convert('L').save(folder / 'grey.png')
    picture.convert('RGBA').save(folder / 'alpha.png')
    picture.convert('P').save(folder / 'palette.png')
    picture.convert('CMYK').save(folder / 'cmyk.jpg')
    picture.save(folder / 'lossless.webp', lossless=True)
    picture.save(folder / 'other.tif')
    cv2.imwrite(str(folder / 'deep.png'),
                colours[..., ::-1].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    picture.save(folder / 'turned.jpg', exif=exif)
    (folder / 'torn.png').write_bytes((folder / 'plain.png'
                                       ).read_bytes()[:40])
    (folder / 'empty.jpg').touch()
    (folder / 'text.jpg').write_text('no image')
    Image.new('RGB', (3000, 2)).save(folder / 'thin.png')  # resized to none
    (folder / 'notes.txt').write_text('not asked for')
    (folder / '._hidden.jpg').write_text('of another system')
    (folder / 'no.mp4').write_text('no video')

    out = folder / 'boxes'  # inside: what it holds is not predicted on
    out.mkdir()
    picture.save(out / 'of before.png')
    result = predict_files(predictor, [str(tmp_path)], str(out), {})
    content = json.loads((out / 'predictions.json').read_text())
    found = {Path(one['file']).name: one for one in content['images']}
    assert sorted(found) == sorted([
        'alpha.png', 'cmyk.jpg', 'deep.png', 'grey.png', 'größe № 1.JPG',
        'lossless.webp', 'other.tif', 'palette.png', 'plain.png',
        'turned.jpg'])
    thin = content['not_read'].pop(str(folder / 'thin.png'))
    assert thin == result.unread.pop(str(folder / 'thin.png'))
    assert thin.startswith('the detector fails on it, 3000x2 pixels (')
    assert content['not_read'] == result.unread == {
        str(folder / name): why for name, why in {
            'empty.jpg': 'the file is empty',
            'no.mp4': 'it is no video that OpenCV can read',
            'text.jpg': 'it is no image that OpenCV can read',
            'torn.png': 'it is no image that OpenCV can read'}.items()}
    for same in ('alpha.png', 'deep.png', 'lossless.webp', 'other.tif'):
        assert found[same]['detections'] == found['plain.png']['detections']
    assert found['plain.png']['detections']
    assert (found['turned.jpg']['width'], found['turned.jpg']['height']
            ) == SIZE[::-1]
    drawn_names = {one['drawn'] for one in content['images']}
    assert 'Übung 照片/sub folder/other.tif.png' in drawn_names
    for name in drawn_names:
        assert Image.open(out / name).size in (SIZE, SIZE[::-1])


def test_a_video(predictor, colours, tmp_path):
    path = tmp_path / 'a film.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5.,
                             SIZE)
    frames = [colours[..., ::-1], colours[:, ::-1, ::-1], colours * 0]
    for frame in frames:
        writer.write(np.ascontiguousarray(frame))
    writer.release()
    result = predict_files(predictor, [str(path)], str(tmp_path / 'out'), {})
    content = json.loads(Path(result.json).read_text())
    video, = content['videos']
    assert (video['fps'], video['width'], video['height']) == (5., *SIZE)
    assert [frame['frame'] for frame in video['frames']] == [0, 1, 2]
    read = cv2.VideoCapture(str(path))
    for frame in video['frames']:
        sample = predictor.predict(read.read()[1])
        assert frame['detections'] == predictor.describe(sample)
    assert video['frames'][0]['detections'] != video['frames'][1]['detections']
    written = cv2.VideoCapture(str(tmp_path / 'out' / 'a film.avi.mp4'))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert written.get(cv2.CAP_PROP_FPS) == 5.


def test_masks_and_names_are_as_coco_has_them(swin_mask_rcnn, checkpoint_of,
                                              trained, colours, tmp_path):
    from mmengine.config import Config
    from pycocotools import mask
    cfg = Config.fromfile(trained[0])
    cfg.model = swin_mask_rcnn
    cfg.dump(str(tmp_path / 'masks.py'))
    checkpoint = torch.load(checkpoint_of(swin_mask_rcnn, 1, 'masks'))
    checkpoint['meta'] = {'CLASSES': ('a', 'b')}  # of mmdet 2, too few
    torch.save(checkpoint, tmp_path / 'masks.pth')
    predictor = Predictor(str(tmp_path / 'masks.py'),
                          str(tmp_path / 'masks.pth'), 'cpu', 0.)
    sample = predictor.predict(colours)
    described = predictor.describe(sample)
    assert len(described) > 2
    scores = [one['score'] for one in described]
    assert scores == sorted(scores, reverse=True)
    assert {one['class'] for one in described} <= {'a', 'b', '2', '3', '4'}
    assert json.loads(json.dumps(described)) == described
    assert mask.decode(described[0]['mask']).shape == SIZE[::-1]
    assert predictor.draw(colours, sample).shape == colours.shape


def test_what_cannot_be_drawn_or_written_leaves_the_rest(
        trained, colours, tmp_path, monkeypatch):
    checkpoint = torch.load(trained[1])
    names = ('cost $x_$ y', '$\\foo$', 'a$b$c', '$', 'e')
    checkpoint['meta'] = dict(dataset_meta=dict(classes=names))
    torch.save(checkpoint, tmp_path / 'dollars.pth')
    predictor = Predictor(trained[0], str(tmp_path / 'dollars.pth'), 'cpu', 0.)
    long = f'{"l" * 250}.tif'  # .png is added to it
    for name in ('a.png', 'b.png', long):
        Image.fromarray(colours).save(tmp_path / name)
    (tmp_path / 'out' / 'b.png').mkdir(parents=True)
    paths = [str(tmp_path / name) for name in ('a.png', 'b.png', long)]
    result = predict_files(predictor, paths, str(tmp_path / 'out'), {})
    content = json.loads(Path(result.json).read_text())
    (one,) = content['images']
    assert one['drawn'] == 'a.png' and content['classes'] == list(names)
    assert {detection['class'] for detection in one['detections']} <= {*names}
    assert list(content['not_read']) == paths[1:]
    assert 'Is a directory' in content['not_read'][paths[1]]
    assert 'File name too long' in content['not_read'][paths[2]]

    def broken(*_):
        raise ValueError('no such colour')

    monkeypatch.setattr(predictor, 'draw', broken)
    film = str(tmp_path / 'film.avi')
    writer = cv2.VideoWriter(film, cv2.VideoWriter_fourcc(*'MJPG'), 5., SIZE)
    writer.write(np.ascontiguousarray(colours))
    writer.release()
    result = predict_files(predictor, [paths[0], film],
                           str(tmp_path / 'other'), {})
    assert set(result.unread) == {paths[0], film}
    assert all('cannot be drawn (ValueError: no such colour)' in why
               for why in result.unread.values())
    assert [path.name for path in (tmp_path / 'other').iterdir()] == [
        'predictions.json']


def test_unknown_classes_of_a_checkpoint_are_those_of_the_config(trained,
                                                                 tmp_path):
    """mmdet 2 writes CLASSES=None where it did not know them."""
    checkpoint = torch.load(trained[1])
    classes = Config.fromfile(trained[0]).val_dataloader.dataset.metainfo[
        'classes']
    for meta in (dict(CLASSES=None), dict(dataset_meta=dict(classes=()))):
        checkpoint['meta'] = meta
        torch.save(checkpoint, tmp_path / 'unknown.pth')
        assert Predictor(trained[0], str(tmp_path / 'unknown.pth'), 'cpu',
                         0.).classes == tuple(classes)


def test_a_file_that_is_named_twice_is_taken_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'one/two').mkdir(parents=True)
    for name in ('a.jpg', 'two/b.jpg'):
        (tmp_path / 'one' / name).touch()
    found = find_inputs(['one', 'one/a.jpg', str(tmp_path / 'one/two/b.jpg'),
                         'one/two/../a.jpg'], 'out')
    assert [one.name for one in found] == ['a.jpg', 'two/b.jpg']


def test_inputs_that_cannot_be_used(predictor, trained, drawn, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').touch()
    for paths, out, why in (
            (['gone.jpg'], 'out', 'There is no file or folder gone.jpg'),
            (['rtsp://host/stream'], 'out', 'rtsp://host/stream is an addr'),
            (['empty'], 'out', 'empty has no image and no video'),
            (['one/a.jpg', 'two/a.jpg'], 'out', 'would both be written.*that '
             'holds both'),
            (['both'], 'out', 'would both be written.*Rename one'),
            (['one'], 'file', '--out file cannot be written to'),
            (['one'], 'one', '--out one is, or holds, one'),
            (['one'], '.', '--out . is, or holds, one'),
            (['one/a.jpg'], 'one', '--out one would write over one/a.jpg')):
        os.chdir(tmp_path)
        for folder in ('one', 'two'):
            os.makedirs(folder, exist_ok=True)
            (tmp_path / folder / 'a.jpg').touch()
        (tmp_path / 'both').mkdir(exist_ok=True)
        for name in ('a.gif', 'a.gif.png'):
            (tmp_path / 'both' / name).touch()
        with pytest.raises((UnusableInput, FileNotFoundError), match=why):
            predict_files(predictor, paths, out, {})
    model_only = tmp_path / 'model.py'
    model_only.write_text("model = dict(type='RetinaNet')")
    empty = tmp_path / 'nothing.py'
    empty.write_text('')
    for config, device, why in (
            (str(model_only), 'cpu', 'no test_dataloader and no val_data'),
            (str(empty), 'cpu', 'has no model'),
            (trained[0], 'cuda:7', '--device cuda:7: PyTorch cannot use it'),
            (trained[0], 'gpu', '--device gpu: PyTorch cannot use it')):
        with pytest.raises(UnusableInput, match=why):
            Predictor(config, trained[1], device, 0.3)


def test_the_commands(trained, drawn, repository, tmp_path):
    folder = tmp_path / 'my photos'
    folder.mkdir()
    (folder / 'a.png').write_bytes(
        sorted((drawn / 'val').glob('*.png'))[0].read_bytes())
    words = (repository / 'tools/predict.py', *trained, folder)
    done = run_command(*words, '--threshold', 0.0115, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'detections in 1 of 1 files: predictions/predictions.json' in \
        done.stdout
    assert (tmp_path / 'predictions' / 'a.png').exists()

    (folder / 'b.png').write_text('no image')
    done = run_command(*words, cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert done.stderr.endswith(f'Not read: {folder}/b.png: it is no image '
                                'that OpenCV can read\n')
    assert 'in 1 of 2 files' in done.stdout

    done = run_command(repository / 'tools/test.py', *trained, '--work-dir',
                       tmp_path / 'tested', '--out', tmp_path / 'all.pkl',
                       '--show-dir', 'drawn boxes', '--cfg-options',
                       'default_hooks.visualization.score_thr=0.0115',
                       cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'the checkpoint: 144 of 144 tensors match' in done.stdout
    assert 'no test_dataloader; its val_dataloader is used' in done.stdout
    assert 'coco/bbox_mAP: ' in done.stdout
    assert (tmp_path / 'all.pkl').exists()
    names = sorted(path.name for path in (drawn / 'val').glob('*.png'))
    shown = tmp_path / 'drawn boxes'
    assert sorted(path.name for path in shown.iterdir()) == names
    changed = [not np.array_equal(cv2.imread(str(shown / name)), cv2.imread(
        str(drawn / 'val' / name))) for name in names]
    assert any(changed)
    metrics, = (tmp_path / 'tested').glob('*/*.json')
    assert 0 <= json.loads(metrics.read_text())['coco/bbox_mAP'] <= 1


@pytest.mark.parametrize('hooks', [
    None, {}, dict(visualization=None), dict(
        visualization=dict(score_thr=.5), logger=dict(type='LoggerHook'))])
def test_drawn_boxes_need_no_hook_in_the_config(trained, hooks):
    cfg = Config.fromfile(trained[0])
    cfg.pop('default_hooks', None)
    cfg.pop('visualizer', None)
    if hooks is not None:
        cfg.default_hooks = hooks
    draw_boxes(cfg, 'shown')
    hook = cfg.default_hooks.visualization
    assert (hook.type, hook.draw) == ('DetVisualizationHook', True)
    assert hook.test_out_dir == os.path.abspath('shown')
    assert hook.get('score_thr') == (.5 if hooks and 'logger' in hooks
                                     else None)
    assert ('logger' in cfg.default_hooks) == bool(hooks and 'logger' in hooks)


def test_a_test_needs_nothing_of_training(trained, tmp_path):
    cfg = Config.fromfile(trained[0])
    cfg.work_dir = str(tmp_path / 'work')
    for part in ('optim_wrapper', 'train_cfg'):
        cfg.pop(part)
    (tmp_path / 'folder.pkl').mkdir()
    (tmp_path / 'file').touch()
    for options, why in (
            (dict(out=str(tmp_path / 'folder.pkl')), 'is a folder'),
            (dict(show_dir=str(tmp_path / 'file')), 'is a file')):
        with pytest.raises(UnusableInput, match=why):
            evaluate_checkpoint(cfg, trained[1], **options)
    assert 'coco/bbox_mAP' in evaluate_checkpoint(cfg, trained[1])


def test_several_views_of_an_image(trained, tmp_path, monkeypatch):
    """Two equal views have the boxes of one: the AP is the same."""
    def tested(views=None, **options):
        cfg = Config.fromfile(trained[0])
        cfg.work_dir = str(tmp_path / 'work')
        if views:
            steps = cfg.val_dataloader.dataset.pipeline
            pack = dict(steps[-1], meta_keys=(
                *steps[-1].meta_keys, 'flip', 'flip_direction'))
            cfg.tta_model = dict(type='DetTTAModel', tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=.5), max_per_img=100))
            # As of several sets, each of which gets the views.
            cfg.val_dataloader.dataset = dict(type='ConcatDataset', datasets=[
                cfg.val_dataloader.dataset])
            cfg.tta_pipeline = [*steps[:-2], dict(
                type='TestTimeAug', transforms=[[
                    dict(type='RandomFlip', prob=prob) for prob in views],
                    steps[-2:-1], [pack]])]
        return evaluate_checkpoint(cfg, trained[1], **options)

    with pytest.raises(UnusableInput, match='no tta_model and no tta_pipe.*'
                                            'retinanet_tta.py'):
        tested(tta=True)
    once = tested()['coco/bbox_mAP_50']
    assert tested((0., 0.), tta=True)['coco/bbox_mAP_50'] == \
        pytest.approx(once, abs=.003)
    flipped = tested((1., 0.), tta=True)['coco/bbox_mAP_50']
    assert 0 <= flipped <= 1


def test_links_and_names_of_any_bytes(predictor, colours, tmp_path):
    """A linked folder is followed once; predictions.json can be read, and the
    names in it are those on the disk."""
    folder = tmp_path / 'photos'
    other = tmp_path / 'other'
    for place in folder, other:
        place.mkdir()
    name = os.fsdecode(b'caf\xe9.png')
    for path in (folder / name, other / 'b.png'):
        path.write_bytes(cv2.imencode('.png', colours[..., ::-1])[1])
    (folder / 'linked').symlink_to(other)
    (other / 'round').symlink_to(folder)
    result = predict_files(predictor, [str(folder)], str(tmp_path / 'out'), {})
    assert (result.done, result.files, result.unread) == (2, 2, {})
    found = json.loads(Path(result.json).read_text())['images']
    assert [Path(one['file']).name for one in found] == [name, 'b.png']
    for one in found:
        assert os.path.isfile(one['file'])
        assert (tmp_path / 'out' / one['drawn']).is_file()


def test_a_video_that_ends_before_its_time_is_said(predictor, colours,
                                                   tmp_path, monkeypatch):
    path = tmp_path / 'film.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5.,
                             SIZE)
    for _ in range(40):
        writer.write(np.ascontiguousarray(colours[..., ::-1]))
    writer.release()
    monkeypatch.setattr(predictor, 'draw', lambda image, sample: image)
    whole = predict_files(predictor, [str(path)], str(tmp_path / 'a'), {})
    assert whole.unread == {}
    with path.open('r+b') as file:
        file.truncate(path.stat().st_size // 2)
    cut = predict_files(predictor, [str(path)], str(tmp_path / 'b'), {})
    content = json.loads(Path(cut.json).read_text())
    count = len(content['videos'][0]['frames'])
    assert 0 < count < 30 and cut.done == cut.files == 1
    assert cut.unread == content['not_read'] == {str(path): (
        f'it ends after {count} of the 40 frames that its header tells of; '
        'these are in the results')}


@pytest.mark.parametrize('palette', [
    [[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 1, 1], [2, 2, 2]],
    tuple((i, i, i) for i in range(5)), ['red', 'green', 'blue', 'k', 'w'],
    'coco', None])
def test_palettes_of_every_form(trained, colours, tmp_path, palette):
    cfg = Config.fromfile(trained[0])
    cfg.val_dataloader.dataset.metainfo.palette = palette
    cfg.test_dataloader = cfg.val_dataloader
    cfg.dump(str(tmp_path / 'student.py'))
    predictor = Predictor(str(tmp_path / 'student.py'), trained[1], 'cpu', 0.)
    image = np.ascontiguousarray(colours[..., ::-1])
    drawn_image = predictor.draw(image, predictor.predict(image))
    assert drawn_image.shape == image.shape
    assert (drawn_image != image).any()


def test_classes_that_are_one_text_are_refused(trained, tmp_path):
    cfg = Config.fromfile(trained[0])
    cfg.val_dataloader.dataset.metainfo = dict(classes='disc')
    cfg.test_dataloader = cfg.val_dataloader
    cfg.dump(str(tmp_path / 'student.py'))
    content = torch.load(trained[1], weights_only=True)
    torch.save(dict(state_dict=content.get('state_dict', content)),
               tmp_path / 'without_meta.pth')
    with pytest.raises(UnusableInput, match="classes is the text 'disc'"):
        Predictor(str(tmp_path / 'student.py'),
                  str(tmp_path / 'without_meta.pth'), 'cpu', 0.)


@pytest.mark.parametrize('content', [
    '[]', '{}', 'no JSON', '{"images": [{"id": 1}]}', None])
def test_a_test_set_that_cannot_be_read_is_said(trained, tmp_path, content):
    cfg = Config.fromfile(trained[0])
    cfg.work_dir = str(tmp_path / 'work')
    file = tmp_path / 'a.json'
    if content is not None:
        file.write_text(content)
    cfg.val_dataloader.dataset.ann_file = str(file)
    cfg.val_evaluator.ann_file = str(file)
    with pytest.raises(UnusableInput, match='cannot be read .*val_dataloader'):
        evaluate_checkpoint(cfg, trained[1])
