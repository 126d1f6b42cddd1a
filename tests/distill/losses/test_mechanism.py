"""The base class of mechanisms, and a user's own."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from commands import run_command

from mtpd.distill.losses import (BatchContext, Mechanism, Pairing,
                                 build_mechanism, known_mechanisms)

PAIRING = Pairing({8: 4, 16: 4})
CONTEXT = BatchContext((64, 64), ())


class Sum(Mechanism):
    published_weight = (2.0, 3.0)

    def level_loss(self, stride, student, teacher, context):
        return (student - teacher).sum() * stride


def maps(value: float) -> dict:
    return {8: torch.full((1, 4, 2, 2), value),
            16: torch.full((1, 4, 1, 1), value)}


def test_published_weight_by_kind_of_student():
    for two_stage, weight in ((False, 2.0), (True, 3.0)):
        loss = Sum(Pairing(PAIRING.channels, two_stage))
        assert loss(maps(1.), maps(0.), CONTEXT) == {
            'loss_distill_s8': weight * 8 * 16,
            'loss_distill_s16': weight * 16 * 4}
    assert Sum(PAIRING, 0.5)(maps(1.), maps(0.), CONTEXT)[
        'loss_distill_s8'] == 0.5 * 8 * 16


def test_maps_that_do_not_meet_are_refused():
    loss = Sum(PAIRING)
    with pytest.raises(ValueError, match=r'Sum got .* \[8\] and .* \[8, 16\]'):
        loss({8: maps(0.)[8]}, maps(0.), CONTEXT)
    for shape in ((1, 3, 2, 2), (1, 4, 2, 3), (2, 4, 2, 2)):
        with pytest.raises(ValueError, match='Sum at stride 8.*Adapt it'):
            loss({**maps(0.), 8: torch.zeros(shape)}, maps(0.), CONTEXT)
    for weight in (-1, float('nan')):
        with pytest.raises(ValueError, match='Sum: loss_weight is'):
            Sum(PAIRING, weight)


def test_every_mechanism_is_built_by_its_name_alone():
    for name in known_mechanisms():
        settings = dict(losses=[dict(type='PKDLoss')]) \
            if name == 'WeightedSum' else {}
        assert type(build_mechanism(dict(type=name, **settings),
                                    PAIRING)).__name__ == name
    assert len(known_mechanisms()) >= 10


def test_a_file_that_cannot_be_imported_is_said(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'broken_loss.py').write_text('import no_such_package\n')
    for kind, words in (('broken_loss.A', 'no_such_package'),
                        ('no_such_file.A', 'no_such_file.*PYTHONPATH'),
                        ('torch.NoSuchClass', 'not known.*own class')):
        with pytest.raises(ValueError, match=words):
            build_mechanism(dict(type=kind), PAIRING)


def test_a_mechanism_of_ones_own_as_the_docs_say(toy, repository, tmp_path):
    """The docs' file and the docs' line, in a folder of the user's."""
    blocks = re.findall(r'```python\n(.*?)```', (
        repository / 'docs' / 'mechanisms.md').read_text(), re.DOTALL)
    source, = (b for b in blocks if b.startswith('# my_loss.py'))
    line, = (b for b in blocks if 'my_loss.HuberLoss' in b)
    (tmp_path / 'my_loss.py').write_text(source)
    cfg = toy(order=['swin'])
    cfg.train_cfg.max_epochs = 1
    cfg.dump(str(tmp_path / 'base.py'))
    (tmp_path / 'config.py').write_text(
        "_base_ = 'base.py'\nmtpd = dict(distill=dict(_delete_=True, "
        + re.search(r'distill=dict\((.*)\)\)', line)[1] + '))\n')
    done = run_command(repository / 'tools' / 'train.py', 'config.py',
                       '--work-dir', 'work', '--no-probe', cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    used = Config.fromfile(next(Path(tmp_path / 'work' / 'stage1_swin').glob(
        '*.py'))).model.distill
    assert used == dict(type='my_loss.HuberLoss', loss_weight=2.0)
    assert 'loss_distill_s8' in next((tmp_path / 'work' / 'stage1_swin').glob(
        '*/vis_data/scalars.json')).read_text()


def test_a_mechanism_may_name_its_last_argument_as_it_likes():
    class Named(Mechanism):
        def level_loss(self, stride, student, teacher, scene):
            return student.sum() * len(scene.boxes)

    ones = {8: torch.ones(1, 2, 3, 3)}
    losses = Named(Pairing({8: 2}))(ones, ones, BatchContext(
        (24, 24), (torch.zeros(0, 4),)))
    assert losses['loss_distill_s8'] == 18
