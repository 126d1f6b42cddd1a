"""The commands as a user types them, on the toy progression."""
import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from commands import run_command


@pytest.fixture
def config(toy, tmp_path) -> Path:
    cfg = toy(order='bgs')
    path = tmp_path / 'toy.py'
    cfg.dump(str(path))
    return path


def run(repository, *words, ok: bool = True):
    done = run_command(*words, cwd=repository)
    assert (done.returncode == 0) == ok, done.stdout[-3000:] + \
        done.stderr[-3000:]
    return done


def test_order_then_training_then_export(config, repository, tmp_path,
                                         monkeypatch):
    done = run(repository, 'tools/bgs_order.py', config)
    assert 'final teacher swin: highest AP 30' in done.stdout
    assert 'Mean squared error per level' in done.stdout
    assert 'WARNING - At stride 64 a map of 24 channels' in done.stdout
    assert 'Warning' not in done.stderr
    content = json.load(open(tmp_path / 'work/order/order.json'))
    assert content['order']['teachers'][-1] == 'swin'
    assert (tmp_path / 'work/order/teacher_order.png').stat().st_size > 5000
    assert 'standard errors' in done.stdout
    assert 'backward greedy' in done.stdout and 'shortest path' in done.stdout
    aps, _, _ = done.stdout.partition('shortest path')
    assert re.search(r'student +│ +\d+\.\d │', aps)
    assert re.search(r'teacher swin +│ +30\.0 │ +\+\d+\.\d', aps)

    other = tmp_path / 'other'
    (tmp_path / 'results.json').write_text('{"wide": 31.5}')
    done = run(repository, 'tools/bgs_order.py', '--from',
               tmp_path / 'work/order/order.json', '--teachers', 'wide',
               '--strides', 8, 16, '--out', other, '--results',
               tmp_path / 'results.json')
    assert re.search(r'best measured +│ +wide .* 31\.5', done.stdout)
    anew = json.load(open(other / 'order.json'))
    assert anew['order']['teachers'] == ['wide']
    assert anew['costs']['mse']['student']['wide'] == {
        s: content['costs']['mse']['student']['wide'][s] for s in ('8', '16')}
    assert (other / 'adaptation_cost.png').stat().st_size > 5000
    (tmp_path / 'no.json').write_text('[31.5]')
    (tmp_path / 'who.json').write_text('{"nobody": 31.5}')
    (tmp_path / 'none.json').write_text('{}')
    before = (other / 'order.json').read_bytes()
    for words, flags in (
            ('No AP of .*nobody', ['--teachers', 'nobody']),
            (r'strides \[8.*asked for \[4\]', ['--strides', '4']),
            ('2 teachers were asked for, and the pool has 1',
             ['--max-teachers', '2']),
            ('--out .*cannot be written, because .*no.json is no folder',
             ['--out', tmp_path / 'no.json' / 'x']),
            (r'--results .*Expected \{"first > second": AP',
             ['--results', tmp_path / 'no.json']),
            ('--results names .*nobody', ['--results', tmp_path / 'who.json']),
            ('--results: Expected the result of at least one',
             ['--results', tmp_path / 'none.json']),
            ('--images has no effect here', ['--images', '3'])):
        monkeypatch.setattr(sys, 'argv', list(map(str, (
            'bgs_order.py', '--from', other / 'order.json', '--out', other,
            *flags))))
        with pytest.raises(SystemExit, match=words):
            runpy.run_path(str(repository / 'tools/bgs_order.py'),
                           run_name='__main__')
        assert (other / 'order.json').read_bytes() == before

    done = run(repository, 'tools/train.py', config, '--cfg-options',
               'mtpd.max_teachers=1', 'train_cfg.max_epochs=1')
    assert 'Costs taken from' in done.stdout
    assert 'Probe of stage 1, swin: 96x64' in done.stdout
    assert 's per step, peak' in done.stdout and 'GiB, 3 steps' in done.stdout
    assert 'In all' in done.stdout
    assert 'Progression (box AP of the student alone)' in done.stdout
    # Everybody's AP, before the first stage.
    assert re.search(r'teacher wide +│ +20\.0 │ +\+\d+\.\d │ +declared',
                     done.stdout)

    out = tmp_path / 'plain.pth'
    done = run(repository, 'tools/export_student.py',
               tmp_path / 'work/stage1_swin/epoch_1.pth', '--out', out)
    assert 'student after epoch 1 of stage 1 (swin)' in done.stdout
    again = run(repository, 'tools/export_student.py', out, '--out', out,
                ok=False)
    assert 'would be written over itself' in again.stderr
    plain, final = torch.load(out), torch.load(tmp_path / 'work/student.pth')
    assert all(torch.equal(plain['state_dict'][k], v)
               for k, v in final['state_dict'].items())
    assert plain['meta']['dataset_meta']['classes'][0] == 'disc'

    run(repository, 'tools/test.py', config,
        tmp_path / 'work/stage1_swin/epoch_1.pth')
    tested, = (tmp_path / 'work/test').glob('*/*.json')
    assert 100 * json.loads(tested.read_text())['coco/bbox_mAP'] == \
        pytest.approx(final['meta']['mtpd']['end_ap'])

    done = run(repository, 'tools/train.py', config, '--cfg-options',
               'mtpd.max_teachers=1', 'train_cfg.max_epochs=1', ok=False)
    assert 'Add --resume' in done.stderr and 'Traceback' not in done.stderr


def test_a_config_without_mtpd_is_plain_training(toy, repository, tmp_path,
                                                  retinanet):
    from mmdet.registry import MODELS
    cfg = toy()
    cfg.pop('mtpd')
    cfg.dump(str(tmp_path / 'plain.py'))
    run(repository, 'tools/train.py', tmp_path / 'plain.py', '--cfg-options',
        'train_cfg.max_epochs=1')
    saved = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)
    assert 'mtpd' not in saved
    assert set(saved['state_dict']) == set(MODELS.build(
        retinanet).state_dict())
    # mmengine's own checkpoint, resumed by file as mmdet's tool does.
    done = run(repository, 'tools/train.py', tmp_path / 'plain.py',
               '--resume', tmp_path / 'work/epoch_1.pth')
    assert 'resumed epoch: 1, iter: 3' in done.stdout
    assert (tmp_path / 'work/epoch_2.pth').exists()


def test_mistakes_end_with_a_message(config, repository, tmp_path):
    for words, options in (
            ("names 'none'", ['mtpd.order=none']),
            ('at least 1', ['mtpd.max_teachers=0']),
            ('there is no file gone.pth',
             ['mtpd.teachers.swin.checkpoint=gone.pth'])):
        done = run(repository, 'tools/train.py', config, '--cfg-options',
                   *options, ok=False)
        assert words in done.stderr
        assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'work').exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_mixed_precision_without_a_gpu_is_refused(config, repository,
                                                  tmp_path, monkeypatch,
                                                  capsys):
    def train(*flags):
        monkeypatch.setattr(sys, 'argv', ['train.py', str(config), *flags])
        runpy.run_path(str(repository / 'tools/train.py'),
                       run_name='__main__')

    for flags in (['--amp'], ['--cfg-options',
                              'optim_wrapper.type=AmpOptimWrapper']):
        with pytest.raises(SystemExit, match=(
                '(?s)PlanError: .*AmpOptimWrapper .--amp sets it.*without '
                '--amp')):
            train(*flags)
    assert not (tmp_path / 'work').exists()
    train('--amp', '--dry-run')  # a plan can be looked at anywhere
    printed = capsys.readouterr().out
    assert 'Stages    1: teacher 1 of the order' in printed
    assert re.search(r'teacher swin +│ +30\.0 │ +- │ +declared', printed)
