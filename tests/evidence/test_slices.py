"""The arms of the slices: what is cut, how long and by whom it is taught."""
import copy

import pytest
from evidence.comparisons import COMPARISONS, all_jobs
from evidence.jobs import slices
from evidence.jobs.slices import SLICE_ARMS, SLICE_EPOCHS, Slice, SliceTraining
from evidence.jobs.training import config_of
from evidence.jobs.students import Node
from mmdet.registry import MODELS

from mtpd.compress import narrowed
from mtpd.compress.files import ORIGINAL, Teacher, write_files
from mtpd.deploy import NotExportable
from mtpd.plan.detectors import load_config
from mtpd.progression import make_plan


@pytest.fixture(scope='module')
def start(repository, tmp_path_factory):
    """Half of BCCD's student, with the files of tools/compress.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)  # before each test's own change
        patch.setattr(slices, 'WEIGHTS', tmp_path_factory.mktemp('slices'))
        start = Slice('bccd', 1, .5)
        start.folder.mkdir(parents=True)
        cfg = load_config(start.request.config)
        model = narrowed(copy.deepcopy(cfg.model), .5).model
        detector = MODELS.build(model)
        write_files(start.files, cfg, model, detector, {
            ORIGINAL: Teacher(start.request.config, start.original.weights)})
        yield start


def test_all_arms_are_as_long_and_differ_in_nothing_else(start):
    for arm, teachers in SLICE_ARMS.items():
        cfg = SliceTraining(start, arm).config()
        stages = max(1, len(teachers))
        length = 3 if arm.endswith('_longer') else 1
        assert cfg.train_cfg.max_epochs * stages == 16 * length \
            == SLICE_EPOCHS['bccd'] * length
        assert cfg.param_scheduler[1].T_max == cfg.train_cfg.max_epochs
        assert cfg.randomness.seed == 1
        assert cfg.model.backbone.base_channels == 8
        assert cfg.load_from == {
            'alone': start.files.weights,
            'alone_longer': start.files.weights}.get(arm)
        assert ('mtpd' in cfg) == bool(teachers)
        fade = cfg.get('mtpd', {}).get('fade')
        assert fade == ({'begin': 32 / 3 / stages, 'end': 16 // stages}
                        if arm.endswith('fading') else None)


@pytest.mark.parametrize('arm, order', [
    ('distilled', (('original',),)),
    ('share2', (('original',),)), ('share1', (('original',),)),
    ('twice', (('original',), ('again',))),
    ('progression', (('original',), ('two_stage',))),
    ('gentle', (('original',), ('two_stage',)))])
def test_the_tools_settings_are_taken_as_they_are(start, arm, order):
    cfg = SliceTraining(start, arm).config()
    share = {'share2': 2., 'share1': 1., 'gentle': 1.}.get(arm, 4.)
    assert cfg.mtpd.distill.pop('loss_weight') == {'share': share}
    assert cfg.mtpd.distill == dict(type='FeatureL2Loss', normalise=True)
    cfg.mtpd.distill.loss_weight = {'share': share}
    plan = make_plan(cfg)
    assert plan.order == order
    assert plan.teachers['original'].checkpoint.endswith(
        f'{start.original.name}/student.pth')
    assert plan.adapter == 'conv'
    if arm in ('progression', 'gentle'):
        pool = make_plan(config_of('bccd')).teachers['two_stage']
        teacher = plan.teachers['two_stage']
        assert teacher.scale == pool.scale == 2
        assert teacher.config.model == pool.config.model


def test_they_are_on_both_data_sets():
    def names(dataset, *comparisons):
        return {type(job).__name__ for job in all_jobs(
            [dataset], comparisons, (0, 1, 2))}

    assert {'Slice', 'SliceTraining', 'Shipped', 'Packed'} <= names(
        'bccd', 'compress')
    assert names('txl', 'compress') == {
        'Slice', 'SliceTraining', 'Shipped', 'Packed'}
    assert names('txl', 'main', 'labels') == {
        'Node', 'Arrival', 'Costs', 'Limit'}
    assert names('bccd', 'labels') == {'Costs'}


def test_jobs_begin_with_half_of_the_width():
    jobs = list(COMPARISONS['compress']('bccd', range(5)))
    assert len(jobs) == len({job.name for job in jobs}) \
        == 3 * (14 + 4 + 4 + 3 * 3)
    assert [job.name for job in jobs[:4]] == [
        f'seed0_w50_{arm}' for arm in ('sliced', 'scratch', 'alone',
                                       'distilled')]
    assert {job.seed for job in jobs} == {0, 1, 2}
    assert {job.results.name for job in jobs} == {'bccd_slices.jsonl'}
    needs = {need.name for job in jobs for need in job.needs}
    assert 'pool_two_stage' in needs
    assert {name for name in needs if 'student' in name} == {
        Node('bccd', seed).name for seed in range(3)}


def test_a_file_that_is_refused_is_a_result(start, monkeypatch):
    student = SliceTraining(start, 'distilled')
    student.folder.mkdir(exist_ok=True)
    (student.folder / 'student.pth').write_bytes(b'weights')

    def refuse(*args, **settings):
        raise NotExportable('The AP is another.')

    monkeypatch.setattr(slices, 'export_onnx', refuse)
    result = slices.Shipped(student, 8).measure()
    assert result['refused'] == 'The AP is another.'
    assert result['bytes'] == {'student.pth': 7}
    assert 'onnxruntime' in result['made_with'] and 'AP' not in result
