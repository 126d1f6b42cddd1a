"""Everything from scratch, on the toy: missing detectors are trained."""
import json

import pytest
from mmengine.config import Config

from commands import run_command


@pytest.mark.slow
def test_pool_progression_and_comparison(toy, drawn, repository, tmp_path):
    cfg = toy(order=['wide', 'swin'])
    for name, teacher in cfg.mtpd.teachers.items():
        own = toy()
        own.pop('mtpd')
        own.model = Config.fromfile(teacher.config).model
        own.train_cfg.max_epochs = own.train_cfg.val_interval = 1
        if name == 'swin':  # a Mask R-CNN
            own.train_dataloader.dataset.pipeline[2].with_mask = True
        own.dump(str(tmp_path / f'{name}.py'))
        teacher.config = str(tmp_path / f'{name}.py')
        teacher.checkpoint = str(tmp_path / f'pool/{name}.pth')
    cfg.mtpd.student.checkpoint = str(tmp_path / 'pool/student.pth')
    cfg.dump(str(tmp_path / 'cfg.py'))

    def run():
        done = run_command('tools/from_scratch.py', tmp_path / 'cfg.py',
                           cwd=repository)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    printed = run()
    for words in ('Training student from random', 'Training wide from random',
                  'Probe of stage 2, swin', 'student trained on alone',
                  'stage 2, taught by swin', 'teacher wide', '(no teacher)',
                  'AP from the student trained on alone'):
        assert words in printed
    assert 'No control was run' not in printed
    rows = json.load(open(tmp_path / 'work/results.json'))
    aps = {row['what']: row['box_ap'] for row in rows}
    assert {row['what']: row['minus_alone'] for row in rows
            if row['minus_alone'] is not None} == {
        f'stage {index}, taught by {teacher}': pytest.approx(
            aps[f'stage {index}, taught by {teacher}'] - aps[
                f'student trained on alone, as long as stages 1 to {index}'])
        for index, teacher in ((1, 'wide'), (2, 'swin'))}
    assert [r['what'] for r in rows] == [
        'student alone', 'student trained on alone, as long as stages 1 to 1',
        'student trained on alone, as long as stages 1 to 2',
        'stage 1, taught by wide', 'stage 2, taught by swin', 'teacher swin',
        'teacher wide']
    # Again: nothing is trained twice, the results are the same.
    printed = run()
    assert 'from random weights' not in printed
    assert 'Epoch(train)' not in printed
    again = json.load(open(tmp_path / 'work/results.json'))
    assert [(r['what'], r['box_ap']) for r in again] \
        == [(r['what'], r['box_ap']) for r in rows]
