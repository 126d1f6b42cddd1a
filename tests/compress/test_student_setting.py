"""``mtpd.student.sliced_from``: a student that starts as a slice."""
import copy

import pytest
import torch
from mmengine.config import Config

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.compress import narrowed, sliced_detector
from mtpd.distill.detector import build_detector
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import make_plan
from mtpd.progression import check, run_progression


@pytest.fixture
def half(toy, retinanet, tmp_path):
    """cfg(**changes of mtpd): the student has half of the toy's width."""
    def cfg(**changes):
        whole = toy()
        Config(dict(model=whole.model)).dump(str(tmp_path / 'whole.py'))
        cfg = toy(**{**dict(order=['wide'], student=dict(sliced_from=dict(
            config=str(tmp_path / 'whole.py'),
            checkpoint=whole.mtpd.student.checkpoint))), **changes})
        cfg.model = narrowed(retinanet, .5).model
        cfg.train_cfg.max_epochs = 1
        return cfg
    return cfg


def test_it_starts_with_the_most_important_channels(half, toy, retinanet):
    cfg = half()
    cfg.load_from = 'what a base config has'
    done = run_progression(copy.deepcopy(cfg), with_probe=False)
    plan = make_plan(cfg)
    assert plan.student.checkpoint == plan.paths.sliced
    start = read_checkpoint(plan.paths.sliced)
    expected = sliced_detector(build_detector(
        retinanet, toy().mtpd.student.checkpoint), cfg.model).state_dict()
    assert start['state_dict'].keys() == expected.keys()
    for key, value in expected.items():
        if '.running_' in key:
            assert not torch.equal(start['state_dict'][key], value)
        elif 'num_batches' not in key:
            assert torch.equal(start['state_dict'][key], value)
    assert start['meta']['dataset_meta']['classes'][0] == 'disc'

    # A resumed run takes what is there; the saved config means the same.
    before = open(plan.paths.sliced, 'rb').read()
    again = Config.fromfile(plan.paths.config)
    assert 'checkpoint' not in again.mtpd.student
    again.work_dir = cfg.work_dir
    assert run_progression(again, resume=True).student == done.student
    assert open(plan.paths.sliced, 'rb').read() == before
    # But not for a slice of another detector.
    other = copy.deepcopy(again)
    source = read_checkpoint(toy().mtpd.student.checkpoint)
    source['state_dict'] = {key: value + 1 for key, value
                            in source['state_dict'].items()}
    torch.save(source, f'{cfg.work_dir}/other.pth')
    other.mtpd.student.sliced_from.checkpoint = f'{cfg.work_dir}/other.pth'
    with pytest.raises(OtherTeacher, match='sliced_from'):
        run_progression(other, resume=True)


def test_frozen_stages_of_a_slice_are_told(half):
    cfg = half()
    cfg.model.backbone.frozen_stages = 1
    checked = check(cfg)
    note, = [one for one in checked.notes if 'frozen' in one]
    assert checked.problems == [] and note == (
        'model.backbone.frozen_stages is 1, so what is left of these stages '
        'is not trained. Set -1, as tools/compress.py does.')
    # A backbone that is whole may be frozen with the weights that it had.
    source = Config.fromfile(cfg.mtpd.student.sliced_from.config)
    cfg.model = source.model
    cfg.model.backbone.frozen_stages = 1
    cfg.model.neck.out_channels = cfg.model.bbox_head.in_channels = 8
    whole = check(cfg)
    assert whole.problems == []
    assert not any('frozen' in one for one in whole.notes)


def test_everything_wrong_is_found_before_training(half, toy, swin_mask_rcnn,
                                                   tmp_path):
    def problems(**student):
        given = half().mtpd.student.sliced_from
        return ' '.join(check(half(student=dict(
            sliced_from={**given, **student}))).problems)

    assert problems() == ''
    Config(dict(model=swin_mask_rcnn)).dump(str(tmp_path / 'swin.py'))
    teachers = toy().mtpd.teachers
    assert 'student.sliced_from: the two detectors differ in more than' in \
        problems(config=str(tmp_path / 'swin.py'),
                 checkpoint=teachers.swin.checkpoint).replace('The', 'the')
    assert 'mtpd.student.sliced_from.checkpoint: there is no file gone.pth' \
        in problems(checkpoint='gone.pth')
    gone = problems(config='gone.py')
    assert 'mtpd.student.sliced_from.config: gone.py cannot be read' in gone
    assert 'student.checkpoint' not in gone  # which nobody has named
    assert 'is not a checkpoint of this RetinaNet' in problems(
        checkpoint=teachers.wide.checkpoint)
    assert 'mtpd.student.sliced_from.width is not known' in problems(width=.5)
    with pytest.raises(PlanError, match='has a checkpoint and sliced_from'):
        cfg = half()
        cfg.mtpd.student.checkpoint = teachers.wide.checkpoint
        make_plan(cfg)
    with pytest.raises(PlanError, match='sliced_from.checkpoint is not set'):
        make_plan(half(student=dict(sliced_from=dict(config='a.py'))))
    narrower = half()
    narrower.model = toy().model
    narrower.model.neck.out_channels = 20
    narrower.model.bbox_head.in_channels = 20
    assert 'no more channels' in ' '.join(check(narrower).problems)
