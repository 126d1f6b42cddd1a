"""From a detector of one's own to a small file that is shipped: the four
commands of docs/compress.md, one after another, on the demo's student."""
import json
from pathlib import Path

import pytest
from commands import run_command
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import save_checkpoint

REPOSITORY = Path(__file__).parents[2]


def run(tool, *words, cwd):
    done = run_command(REPOSITORY / 'tools' / tool, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def compared(folder, sizes):
    """All that was made of the detector, beside each other."""
    work = 'work_dirs/my_half_mtpd'
    printed = run('compress.py', '--compare', work, 'student.onnx',
                  'packed.pth', cwd=folder)
    train = f'python tools/train.py {work}/config.py --work-dir {work}'
    for row, flag in (('from random weights', '--scratch'),
                      ('trained on alone', '--control')):
        assert f'Not there: {row}, as long: {train} {flag}\n' in printed
    table = json.loads((folder / work / 'variants.json').read_text())
    rows = {row['name']: row for row in table['variants']}
    assert list(rows) == ['original', 'not trained', 'taught by original',
                          'student.onnx', 'packed.pth']
    assert [rows[name]['bytes'] for name in (
        'original', 'taught by original', 'packed.pth')] == sizes[:3]
    # The file was made of the packed one.
    assert rows['student.onnx']['ap'] == pytest.approx(
        rows['packed.pth']['ap'], abs=.1)
    assert rows['student.onnx']['parameters'] is None
    whole, half = (rows[name] for name in ('original', 'not trained'))
    assert half['parameters'] == rows['packed.pth']['parameters']
    assert .2 < half['parameters'] / whole['parameters'] < .4
    assert .2 < half['multiply_adds'] / whole['multiply_adds'] < .4
    assert whole['speed'] == [1, 1, 1]
    assert all(min(row['milliseconds'].values()) > 0 for row in rows.values())


def test_a_detector_is_sliced_taught_packed_and_shipped(drawn, tmp_path):
    (tmp_path / 'my.py').write_text(f"""
_base_ = '{REPOSITORY}/configs/demo/student.py'
model = dict(test_cfg=dict(score_thr=0., max_per_img=5))
data_root = '{drawn}/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
""")
    cfg = Config.fromfile(str(tmp_path / 'my.py'))
    init_default_scope('mmdet')
    detector = MODELS.build(cfg.model)
    detector.init_weights()
    save_checkpoint(dict(state_dict=detector.state_dict(), meta=dict(
        dataset_meta=dict(cfg.metainfo))), str(tmp_path / 'my.pth'))

    run('compress.py', 'my.py', 'my.pth', '--width', .5, cwd=tmp_path)
    half = Config.fromfile(str(tmp_path / 'my_half.py'))
    assert half.model.backbone.base_channels == 2
    run('train.py', 'my_half_mtpd.py', '--no-probe', '--cfg-options',
        'train_cfg.max_epochs=1', cwd=tmp_path)
    student, = tmp_path.glob('work_dirs/my_half_mtpd/student.pth')
    run('pack.py', student, '--bits', 6, '--config', 'my_half.py', '--out',
        'packed.pth', cwd=tmp_path)
    sizes = [path.stat().st_size for path in (
        tmp_path / 'my.pth', student, *sorted(tmp_path.glob('packed.pth*')))]
    assert len(sizes) == 4 and sizes == sorted(sizes, reverse=True)
    printed = run('export_onnx.py', 'my_half.py', 'packed.pth', '--out',
                  'student.onnx', cwd=tmp_path)
    assert 'a batch of two' in printed
    compared(tmp_path, sizes)

    for name, words in (('mmdet', ['my_half.py', 'packed.pth.xz']),
                        ('onnx', ['student.onnx'])):
        run('predict.py', *words, drawn / 'val', '--out', name,
            '--threshold', 0, cwd=tmp_path)
    theirs, ours = (
        json.loads((tmp_path / name / 'predictions.json').read_text())
        for name in ('mmdet', 'onnx'))
    for one, other in zip(theirs['images'], ours['images'], strict=True):
        assert one['file'] == other['file']
        scores = [[found['score'] for found in image['detections']]
                  for image in (one, other)]
        assert len(scores[0]) == 5
        assert scores[1] == pytest.approx(scores[0], abs=1e-4)
