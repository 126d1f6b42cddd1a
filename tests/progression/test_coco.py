"""The COCO config on real COCO images, full size, random weights.

Needs a COCO-format subset in the folder that MTPD_COCO_SUBSET names (or in
../shared/data/coco_subset): annotations/instances_{train,val}2017.json,
train2017/, val2017/. Run with `make test-slow`.
"""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import load_config
from mtpd.randomness import isolate_rng

REPOSITORY = Path(__file__).parents[2]
SUBSET = Path(os.environ.get('MTPD_COCO_SUBSET',
                             REPOSITORY / '../shared/data/coco_subset'))

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    not SUBSET.is_dir(), reason=f'no COCO images in {SUBSET}')]


@pytest.mark.parametrize('teacher', ['swin_t', 'x101'])
def test_real_steps_at_full_size(teacher, tmp_path):
    pool = Config.fromfile(str(REPOSITORY / 'configs/mtpd_retina.py')).mtpd
    options = []
    for field, name in (
            ('student', 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
            (f'teachers.{teacher}', pool.teachers[teacher].config)):
        with isolate_rng(0):
            model = load_config(name).model
            model.backbone.init_cfg = None  # ImageNet weights are downloads
            detector = build_detector(model)
            detector.init_weights()
        path = tmp_path / f'{field}.pth'
        torch.save(dict(state_dict=detector.state_dict()), path)
        options.append(f'mtpd.{field}.checkpoint={path}')
    annotations, = SUBSET.glob('annotations/*train*.json')
    validation, = SUBSET.glob('annotations/*val*.json')
    for part, file in (('train', annotations), ('val', validation)):
        options += [f'{part}_dataloader.dataset.data_root={SUBSET}/',
                    f'{part}_dataloader.dataset.ann_file={file}',
                    f'{part}_dataloader.dataset.indices=4',
                    f'{part}_dataloader.num_workers=0',
                    f'{part}_dataloader.persistent_workers=False']
    done = subprocess.run(
        [sys.executable, 'tools/train.py', 'configs/mtpd_retina.py',
         '--work-dir', str(tmp_path / 'work'), '--cfg-options',
         f'mtpd.order={teacher}', 'train_cfg.max_epochs=1',
         'default_hooks.logger.interval=1',
         f'val_evaluator.ann_file={validation}', *options],
        cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    width, height = map(int, re.search(
        rf'Probe of stage 1, {teacher}: (\d+)x(\d+)', done.stdout).groups())
    assert min(width, height) >= 800 and max(width, height) >= 1000
    assert 'loss_distill_s64' in done.stdout
    assert not re.search(r'\bnan\b', done.stdout)
    saved = torch.load(tmp_path / 'work' / 'student.pth')
    assert all(torch.isfinite(v).all() for v in saved['state_dict'].values()
               if v.is_floating_point())
    print(done.stdout[-6000:])
