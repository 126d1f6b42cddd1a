"""What can be wrong is found before any work, all of it, with a cure."""
import json
from pathlib import Path

import pytest
from mmengine.config import Config

from commands import run_command

from mtpd.plan.data_check import missing_files
from mtpd.plan.describe import describe_plan
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import make_plan
from mtpd.plan.pool import build_pool, common_strides


def problems(cfg) -> list[str]:
    with pytest.raises(PlanError) as error:
        make_plan(cfg)
    return error.value.problems


def test_a_good_config_is_a_plan(toy):
    plan = make_plan(toy(max_teachers=2))
    assert plan.order == (('wide',), ('swin',))
    assert 'mtpd' not in plan.student.config
    assert missing_files(plan) == []
    text = describe_plan(plan)
    for part in ('RetinaNet, ResNet-18', 'swin: MaskRCNN, SwinTransformer',
                 'wide > swin', '2 epochs', 'lr 0.004',
                 'LinearLR (iterations 0 to 3) + MultiStepLR (at epochs [1])',
                 'Stages    1: wide, 2 epochs; 2: swin, 2 epochs'):
        assert part in text


def test_later_teachers_matter_more(toy):
    assert make_plan(toy(max_teachers=1)).order == (('swin',),)


@pytest.mark.parametrize('changes, words', [
    (dict(order=['wide', 'swim']), r"names 'swim'.*did you mean 'swin'"),
    (dict(order=['wide', 'wide']), 'names a teacher twice'),
    (dict(order=[]), 'mtpd.order is empty'),
    (dict(max_teachers=0), 'max_teachers is 0; .* at least 1'),
    (dict(max_teachers='2'), "max_teachers is '2'"),
    (dict(teachers={}, order='bgs'), 'teachers is empty'),
    (dict(student=dict()), 'mtpd.student.checkpoint is not set'),
    (dict(student='x.pth'), r"mtpd.student is 'x.pth'; it has to be dict"),
    (dict(teachers=dict(a='x.py')), r"mtpd.teachers.a is 'x.py'"),
    (dict(strides=8), 'mtpd.strides is 8'), (dict(strides=()), 'strides is'),
    (dict(techers=1), 'mtpd.techers is not known; did you mean mtpd.teachers'),
    (dict(handover='first'), "'last' or 'best'"),
    (dict(distill=dict(loss_weight=1)), 'mtpd.distill'),
    (dict(order=None), 'mtpd.order is None; it has to be'),
    (dict(order=[1]), r"mtpd.order is .1.; it has to be 'bgs' or"),
    (dict(order=[[]]), 'mtpd.order is empty'),
    (dict(adapter='both'), "mtpd.adapter is 'both'.*'auto', 'conv' or None"),
    (dict(init_adapters='one'), "mtpd.init_adapters is 'one'.*'fitted'"),
    (dict(inherit=('stem',)), "mtpd.inherit is .'stem',.*'backbone'"),
    (dict(fade=dict(begin=3)), 'mtpd.fade is .*it has to be dict'),
    (dict(fade=dict(begin=3, end=1)), 'mtpd.fade is .*0 <= begin <= end'),
    (dict(costs=dict(images=0)), 'mtpd.costs.images is 0'),
    (dict(max_teachers=3), r'max_teachers is 3, and .* has 2 \(swin, wide\)'),
    (dict(max_teachers=3, order='bgs'), 'max_teachers is 3.* at most that'),
    (dict(fast_teacher='bf16'), "mtpd.fast_teacher is 'bf16'; it has to"),
    (dict(fast_teacher=dict(precision='int8')),
     "mtpd.fast_teacher.precision is 'int8'; .*'bf16', 'fp16' or None"),
    (dict(fast_teacher=dict(channels_last='x')),
     "mtpd.fast_teacher.channels_last is 'x'"),
    (dict(checkpoint_every=500), 'checkpoint_every is no longer a setting'),
])
def test_each_mistake_is_named(toy, changes, words):
    with pytest.raises(PlanError, match=words):
        make_plan(toy(**changes))


def test_all_mistakes_are_told_together(toy):
    found = problems(toy(order=['nobody'], max_teachers=-1, handover='x'))
    assert len(found) == 3


def test_declared_and_measured_ap_do_not_mix(toy):
    cfg = toy(order='bgs')
    cfg.mtpd.teachers.wide.pop('ap')
    found, = problems(cfg)
    assert 'declared for swin but not for wide' in found
    cfg.mtpd.order = ['wide', 'swin']  # an order by hand needs no AP
    make_plan(cfg)


def test_a_config_that_is_not_there_is_named(toy):
    cfg = toy()
    cfg.mtpd.teachers.wide.config = 'mmdet::retinanet/no_such_config.py'
    cfg.mtpd.teachers.swin.config = 'no/such/file.py'
    found = problems(cfg)
    assert 'mtpd.teachers.wide.config: mmdet::retinanet/no_such' in found[1] \
        or 'mtpd.teachers.wide.config: mmdet::retinanet/no_such' in found[0]
    assert any('mtpd.teachers.swin.config: no/such/file.py' in f
               for f in found)


def test_missing_files_are_named_with_their_fields(toy, tmp_path):
    cfg = toy()
    cfg.mtpd.teachers.swin.checkpoint = str(tmp_path / 'gone.pth')
    cfg.train_dataloader.dataset.ann_file = 'annotations/none.json'
    cfg.val_dataloader.dataset.data_prefix.img = 'nowhere/'
    found = missing_files(make_plan(cfg))
    assert len(found) == 3
    assert 'mtpd.teachers.swin.checkpoint: there is no file' in found[0]
    assert 'train_dataloader.dataset.ann_file' in found[1]
    assert 'val_dataloader.dataset.data_prefix.img' in found[2]


def test_images_that_annotations_name_have_to_be_there(toy, drawn,
                                                       tmp_path):
    content = json.load(open(drawn / 'annotations/instances_train.json'))
    content['images'][5]['file_name'] = 'lost.png'
    (tmp_path / 'lost.json').write_text(json.dumps(content))
    cfg = toy()
    cfg.train_dataloader.dataset.ann_file = str(tmp_path / 'lost.json')
    found, = missing_files(make_plan(cfg))
    assert '1 of 24 images' in found and 'lost.png' in found
    assert 'train_dataloader.dataset' in found


def test_an_empty_training_set_is_named(toy, drawn, tmp_path):
    cfg = toy()
    cfg.train_dataloader.dataset.filter_cfg = dict(min_size=500)
    found, = missing_files(make_plan(cfg))
    assert "no training image is left" in found and "'min_size': 500" in found


def test_wrapped_data_sets_are_looked_into(toy, drawn):
    cfg = toy()
    inner = cfg.train_dataloader.dataset
    bad = {**inner, 'ann_file': 'none.json'}
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2,
        dataset=dict(type='ConcatDataset', datasets=[inner, bad]))
    found, = missing_files(make_plan(cfg))
    assert 'train_dataloader.dataset.dataset.datasets.1.ann_file' in found


def test_a_checkpoint_of_another_architecture_is_refused(toy):
    cfg = toy()
    teachers = cfg.mtpd.teachers
    teachers.swin.checkpoint, teachers.wide.checkpoint = \
        teachers.wide.checkpoint, teachers.swin.checkpoint
    with pytest.raises(PlanError) as error:
        build_pool(make_plan(cfg))
    assert len(error.value.problems) == 2
    assert 'mtpd.teachers.wide.checkpoint' in str(error.value)


def test_a_package_that_is_not_there_is_named_and_not_installed(toy):
    cfg = toy()
    cfg.mtpd.teachers.wide.config = 'no_such_package::x/y.py'
    found, = problems(cfg)
    assert 'mtpd.teachers.wide.config: no_such_package::x/y.py' in found
    assert 'package no_such_package is not installed' in found


def test_mechanism_and_preprocessors_are_tried_before_any_pass(toy):
    cfg = toy(distill=dict(type='FeatureL2Loss', loss_weight=-1))
    cfg.model.data_preprocessor.batch_augments = [
        dict(type='BatchFixedSizePad', size=(128, 128))]
    with pytest.raises(PlanError) as error:
        build_pool(make_plan(cfg))
    assert any('mtpd.distill: ' in p and 'loss_weight is -1' in p
               for p in error.value.problems)
    assert any('batch_augments' in p for p in error.value.problems)


@pytest.mark.parametrize('changes, words', [
    (dict(distill=dict(type='PKDLoss'), init_adapters='zero'),
     "'zero' does not go with PKDLoss"),
    (dict(distill=dict(type='LogitLoss')), 'do not agree'),
    (dict(distill=dict(type='WeightedSum', losses=['PKDLoss'])),
     'distill.losses is .*at least one'),
    (dict(distill=dict(type='WeightedSum', losses=dict(type='PKDLoss'))),
     'distill.losses is .*at least one'),
    (dict(distill=dict(type='CWDLoss', loss_weight='much')), "'much'")])
def test_settings_of_mechanisms_are_tried_before_any_pass(toy, changes, words):
    with pytest.raises(PlanError, match=words):
        build_pool(make_plan(toy(**changes)))


def test_scales_that_cannot_be_are_named_before_any_pass(toy):
    for scale, words in ((0, 'swin.scale is 0; it has to be a number above 0'),
                         ('big', "scale is 'big'; it has to be a number"),
                         (1.15, 'scale is 23/20: .* multiples of 640 pixels')):
        cfg = toy()
        cfg.mtpd.teachers.swin.scale = scale
        with pytest.raises(PlanError, match=words):
            build_pool(make_plan(cfg))
    cfg = toy()
    cfg.mtpd.teachers.swin.scale = 2
    cfg.train_dataloader.dataset.pipeline.insert(3, dict(
        type='CutOut', n_holes=1, cutout_shape=(4, 4)))
    cfg.custom_hooks = [dict(type='PipelineSwitchHook', switch_epoch=1,
                             switch_pipeline=[])]
    with pytest.raises(PlanError, match='(?s)CutOut.*PipelineSwitchHook'):
        build_pool(make_plan(cfg))
    cfg.mtpd.teachers.swin.scale = 1  # at its own size it all goes
    build_pool(make_plan(cfg))


def test_strides_of_the_whole_pool(toy):
    plan = make_plan(toy())
    pool = build_pool(plan)
    assert common_strides(plan, pool) == (8, 16, 32, 64)
    narrow = make_plan(toy(strides=(16, 8)))
    assert common_strides(narrow, pool) == (8, 16)
    with pytest.raises(PlanError, match=r'asks for \[4\].*swin'):
        build_pool(make_plan(toy(strides=(4, 8))))


def test_ap_that_is_neither_known_nor_measurable(toy, swin_mask_rcnn,
                                                  checkpoint_of, tmp_path):
    import copy

    from mtpd.search.find_order import find_order
    other = copy.deepcopy(swin_mask_rcnn)
    other.roi_head.bbox_head.num_classes = 7
    other.roi_head.mask_head.num_classes = 7
    Config(dict(model=other)).dump(str(tmp_path / 'other.py'))
    cfg = toy(order='bgs')
    cfg.mtpd.teachers.wide.pop('ap')
    cfg.mtpd.teachers.swin = dict(config=str(tmp_path / 'other.py'),
                                  checkpoint=checkpoint_of(other, 0, 'other'))
    plan = make_plan(cfg)
    with pytest.raises(PlanError, match='swin.ap is not known and cannot be '
                                        'measured: it predicts 7 classes'):
        find_order(plan, build_pool(plan))


def test_other_classes_are_said_once(toy, caplog, tmp_path):
    import torch
    cfg = toy()
    content = torch.load(cfg.mtpd.teachers.swin.checkpoint)
    content['meta']['dataset_meta']['classes'] = ('a', 'b', 'c', 'd', 'e')
    cfg.mtpd.teachers.swin.checkpoint = str(tmp_path / 'other.pth')
    torch.save(content, cfg.mtpd.teachers.swin.checkpoint)
    import mtpd.plan.pool as search
    said = []
    plan = make_plan(cfg)
    original, search.print_log = search.print_log, \
        lambda text, **_: said.append(text)
    try:
        build_pool(plan)
    finally:
        search.print_log = original
    assert len([t for t in said if 'other classes' in t]) == 1
    assert 'mtpd.teachers.swin' in said[0]


@pytest.mark.slow  # four detectors of full size are built
def test_the_coco_config_is_planned_without_data(repository):
    """The command of the config's header, up to what is not there."""
    done = run_command(
        'tools/train.py', 'configs/mtpd_retina.py', '--dry-run',
        '--cfg-options', 'mtpd.max_teachers=1',
        'train_dataloader.dataset.data_root=none/', cwd=repository)
    assert done.returncode == 1
    for part in ('RetinaNet, ResNet-50', 'swin_s: MaskRCNN', 'at most 1',
                 'Stages    1: teacher 1 of the order, 12 epochs',
                 'MultiStepLR (at epochs [8, 11])'):
        assert part in done.stdout
    assert 'train_dataloader.dataset.ann_file: there is no file ' \
           'none/annotations/instances_train2017.json' in done.stderr
    assert 'Traceback' not in done.stderr


def test_the_coco_config_is_short(repository):
    lines = (repository / 'configs/mtpd_retina.py').read_text().splitlines()
    code = [line for line in lines if line.strip()
            and not line.startswith(('#', '_base_'))]
    assert len(code) <= 12


def test_the_zoo_of_the_coco_config_is_mmdets(repository):
    """Every URL and AP is the one of mmdet's own metafiles."""
    import mmdet
    metafiles = Path(mmdet.__file__).parent / '.mim' / 'configs'
    import yaml
    known = {}
    for family in ('retinanet', 'swin'):
        content = yaml.safe_load((metafiles / family / 'metafile.yml'
                                  ).read_text())
        for model in content['Models'] if isinstance(content, dict) \
                else content:
            known[model['Config'].removeprefix('configs/')] = model
    pool = Config.fromfile(str(repository / 'configs/mtpd_retina.py')).mtpd
    entries = [*pool.teachers.values(), dict(
        pool.student, config='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')]
    for entry in entries:
        model = known[entry['config'].removeprefix('mmdet::')]
        assert entry['checkpoint'] == model['Weights']
        if 'ap' in entry:
            box, = (r['Metrics']['box AP'] for r in model['Results']
                    if r['Task'] == 'Object Detection')
            assert entry['ap'] == box
