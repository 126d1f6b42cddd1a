"""Everything that would stop a progression is told before it, in one list."""
import copy
import importlib.util
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from commands import run_command
from shrink import shrunk

from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import load_config
from mtpd.plan.errors import PlanError, did_you_mean, joined_names
from mtpd.plan.plan import draft_plan, make_plan
from mtpd.plan.pool import eps_cure
from mtpd.plan.predictions import predicts_no_boxes
from mtpd.plan.registered import part_problems
from mtpd.plan.start_check import mechanism_problems
from mtpd.progression import check, prepare, run_progression


def told(problems: list[str], *words: str) -> None:
    """Each of these words is in a problem, each in another one, and there is
    no further one."""
    left = list(problems)
    for word in words:
        with_word = [problem for problem in left if word in problem]
        assert with_word, (word, left)
        left.remove(with_word[0])
    assert not left, left


@pytest.fixture
def other_classes(swin_mask_rcnn, checkpoint_of, tmp_path) -> dict:
    """A teacher of 80 classes, where the toy has 5."""
    model = copy.deepcopy(swin_mask_rcnn)
    model.roi_head.bbox_head.num_classes = 80
    model.roi_head.mask_head.num_classes = 80
    Config(dict(model=model)).dump(str(tmp_path / 'many.py'))
    path = checkpoint_of(model, 0, 'many')
    content = torch.load(path)
    content['meta'] = {}
    torch.save(content, path)
    return dict(config=str(tmp_path / 'many.py'), checkpoint=path)


def test_a_good_config_has_no_problem_and_its_detectors(toy):
    checked = check(toy(order='bgs'), resume=False)
    assert checked.problems == []
    assert list(checked.pool) == ['student', 'swin', 'wide']


def test_six_mistakes_in_one_config_are_all_told(toy, other_classes,
                                                 tmp_path):
    """Those that the dry run passed once, and one of the data."""
    cfg = toy(order='bgs', distill=dict(type='WeightedSum', losses=[
        dict(type='FeatureL2loss'),
        dict(type='FeatureL2Loss', normalize=True, loss_weight='0.5')]))
    teachers = cfg.mtpd.teachers
    teachers.swin.checkpoint = teachers.wide.checkpoint
    teachers.many = other_classes
    for teacher in teachers.values():
        teacher.pop('ap', None)
    cfg.train_dataloader.dataset.ann_file = 'annotations/none.json'
    words = ("losses[0].type 'FeatureL2loss' is not known; did you mean "
             "'FeatureL2Loss'?",
             'losses[1].normalize is no argument of FeatureL2Loss; did you '
             'mean mtpd.distill.losses[1].normalise?',
             "losses[1].loss_weight is '0.5'; it has to be a number or None",
             'mtpd.teachers.swin.checkpoint',
             'mtpd.teachers.many.ap is not known and cannot be measured',
             'train_dataloader.dataset.ann_file: there is no file')
    told(check(cfg, fetches=False).problems, *words)
    with pytest.raises(PlanError) as start:  # in one list, before any work
        run_progression(cfg)
    told(start.value.problems, *words)
    assert not Path(cfg.work_dir).exists()


def test_settings_do_not_hide_files_and_files_do_not_hide_settings(toy):
    cfg = toy(handover='lst', order=['wide', 'swim'], fade=dict(
        begin=1, ende=2), fast_teacher=dict(compil=True))
    cfg.mtpd.teachers.swin.checkpoint = 'no/such.pth'
    cfg.mtpd.teachers.wide.config = 'no/such.py'
    cfg.val_dataloader.dataset.data_prefix.img = 'nowhere/'
    told(check(cfg).problems, "'last' or 'best'", "did you mean 'swin'?",
         "'ende' is not known; did you mean 'end'?", 'fast_teacher.compile?',
         'swin.checkpoint: there is no file', 'wide.config: no/such.py',
         'val_dataloader.dataset.data_prefix.img')


def test_a_misspelt_teacher_on_the_command_line(toy):
    cfg = toy(order='bgs')
    cfg.merge_from_dict({'mtpd.teachers.swn.checkpoint': 'x.pth'})
    told(draft_plan(cfg)[1], 'mtpd.teachers.swn.config is not set',
         'mtpd.teachers.swn has no config; did you mean mtpd.teachers.swin?')


def test_a_delete_that_stayed(toy):
    cfg = toy()
    for part in (cfg.mtpd, cfg.mtpd.teachers, cfg.mtpd.teachers.swin):
        part['_delete_'] = True
    told(draft_plan(cfg)[1], 'the whole dict: mtpd = dict(...)',
         'mtpd.teachers._delete_: mmengine takes _delete_ out only where a '
         'config inherits by _base_; with update() it stays. Take it out, and '
         'assign the whole dict: mtpd.teachers = dict(...).',
         'the whole dict: mtpd.teachers.swin = dict(...)')


def test_a_batch_norm_with_an_eps_of_0(toy):
    """mmdet's NAS-FCOS has one; torch 2.11 refuses it."""
    model = Config(dict(model=toy().model)).model
    model.neck.norm_cfg = dict(type='BN', eps=0)
    model.layers = [dict(eps=0)]
    refused = 'ValueError: batch_norm eps must be positive, but got 0.0'
    assert eps_cure(refused, model) == ', and neck.norm_cfg.eps is 0. Set ' \
        'it to a small number, such as 1e-5.'
    assert eps_cure('ValueError: another', model) == ''
    del model.neck.norm_cfg
    assert ', and layers.0.eps is 0' in eps_cure(refused, model)
    del model.layers
    assert eps_cure(refused, model) == ''


def test_paa_names_the_package_that_it_needs(monkeypatch):
    found = importlib.util.find_spec
    for there in (False, True):
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name: (
            there or None) if name == 'sklearn' else found(name))
        problems = part_problems(dict(model=dict(
            bbox_head=dict(type='PAAHead'))), 'mtpd.teachers.paa.config: ')
        told(problems, *['mtpd.teachers.paa.config: model.bbox_head is a '
                         'PAAHead, whose training needs the package '
                         'scikit-learn'] * (not there))


@pytest.mark.parametrize('hook, key', [
    (dict(type='LoggerHook', interval=0), 'interval'),
    (dict(type='LoggerHook', interval_exp_name=.5), 'interval_exp_name'),
    (dict(type='EMAHook', interval=0), 'interval'),
    (dict(type='DetVisualizationHook', interval=0, draw=True), 'interval'),
    (dict(type='DetVisualizationHook', interval=0), None),
    (dict(type='CheckpointHook', interval=-1), None),
    (dict(type='LoggerHook', interval=1), None)])
def test_hooks_that_divide_by_an_interval(hook, key):
    words = [] if key is None else [
        f'own.{key} is {hook[key]!r}; it has to be an integer of at least 1']
    told(part_problems(dict(default_hooks=dict(own=hook))), *words)
    told(part_problems(dict(custom_hooks=[hook])),
         *[word.replace('own', 'custom_hooks[0]') for word in words])


def test_one_mistake_of_a_teacher_does_not_hide_its_others(toy):
    cfg = toy(order='bgs')
    cfg.mtpd.teachers.swin.update(ap='54.3', checkpoint='no/such.pth')
    problems = check(cfg).problems
    told(problems, "swin.ap is '54.3'", 'swin.checkpoint: there is no file')
    assert not [p for p in problems if 'ap is declared for' in p]


def test_files_that_are_no_weights_of_their_detector(toy, tmp_path):
    cfg = toy()
    whole = Path(cfg.mtpd.student.checkpoint).read_bytes()
    (tmp_path / 'torn.pth').write_bytes(whole[:len(whole) // 2])
    cfg.mtpd.student.checkpoint = str(tmp_path / 'torn.pth')
    teachers = cfg.mtpd.teachers
    teachers.swin.checkpoint, teachers.wide.checkpoint = \
        teachers.wide.checkpoint, teachers.swin.checkpoint
    cfg.mtpd.strides = (4, 8)  # is looked at all the same
    told(check(cfg).problems, 'torn.pth', 'mtpd.teachers.swin.checkpoint',
         'mtpd.teachers.wide.checkpoint', 'asks for [4]', 'asks for [4]')


def test_nothing_is_fetched_by_a_dry_run(toy, monkeypatch):
    """The model of a checkpoint that is not there yet is built all the
    same."""
    def fails(*args, **options):
        raise AssertionError('a download')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', fails)
    cfg = toy(strides=(4, 8))
    cfg.mtpd.teachers.swin.checkpoint = 'https://example.org/swin.pth'
    cfg.mtpd.student.checkpoint = None
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='torchvision://resnet18')
    cfg.model.neck.init_cfg = dict(type='Pretrained', checkpoint='neck.pth')
    told(check(cfg, fetches=False).problems, 'teachers.swin has',
         'teachers.wide has',
         'model.neck.init_cfg.checkpoint: there is no file neck.pth')


@pytest.mark.parametrize('change, words', [
    (dict(train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=0)),
     ['train_cfg.max_epochs is 0']),
    (dict(train_cfg=dict(type='EpochBasedTrainLoop')), ['no length']),
    (dict(val_evaluator=dict(type='CocoMetric', metric='bbox',
                             metric_items=['mAP_50'])), ["Add 'mAP'"]),
    (dict(val_evaluator=dict(type='VOCMetric', metric='recall')),
     ["Set metric='mAP'"]),
    (dict(visualizer=dict(type='DetLocalVisualizer', name='visualizer',
                          vis_backends=[dict(type='WandbVisBackend')])),
     ['package wandb is not installed']),
    (dict(custom_hooks=[dict(type='EMAHok'), dict(
        type='EMAHook', priority=49, momentum=.1)]),
     ["custom_hooks[0].type 'EMAHok' is not known; did you mean 'EMAHook'"]),
    (dict(optim_wrapper=dict(type='OptimWraper', optimizer=dict(
        type='SGD', lr=.1, momentun=.9))),
     ["did you mean 'OptimWrapper'", 'mean optim_wrapper.optimizer.momentum']),
    (dict(param_scheduler=[dict(type='MultistepLR', milestones=[1])]),
     ["param_scheduler[0].type 'MultistepLR' is not known; did you mean "
      "'MultiStepLR'"]),
    (dict(load_from='coco.pth', mtpd=dict(student=dict(checkpoint=None))),
     ['load_from is coco.pth, and mtpd.student.checkpoint is None']),
    (dict(mtpd=dict(handover='best'), train_cfg=dict(
        type='EpochBasedTrainLoop', max_epochs=2, val_begin=3)),
     ['train_cfg.val_begin 3 lies after the end of a stage (2)']),
    (dict(mtpd=dict(inherit='neck', order=['swin'])),
     ["mtpd.inherit: the neck of swin makes maps of strides"]),
    (dict(model=dict(data_preprocessor=None)), ['no data_preprocessor']),
    (dict(model=dict(backbone=dict(type='ResNt'))),
     ["the type 'ResNt' is not known; did you mean 'ResNet'"]),
    (dict(model=dict(neck=dict(in_channels=[1, 2]))),
     ['mtpd.student.checkpoint: ', 'model cannot be built: AssertionError: '
      'assert ']),
])
def test_what_would_stop_it_later(toy, change, words):
    cfg = toy()
    for key, value in change.items():
        if key in ('mtpd', 'model'):
            for name, inner in value.items():
                if isinstance(inner, dict) and key == 'model':
                    cfg[key][name].update(inner)
                else:
                    cfg[key][name] = inner
        else:
            cfg[key] = value
    told(check(cfg).problems, *words)


def test_a_file_that_a_teachers_model_reads_is_named_with_its_field(toy):
    """mmdet's LD configs name their own teacher's relative to mmdet."""
    cfg = toy()
    teacher = Config.fromfile(cfg.mtpd.teachers.wide.config)
    teacher.model.type = 'KnowledgeDistillationSingleStageDetector'
    teacher.model.teacher_config = 'configs/gfl/gfl_r101_fpn_ms-2x_coco.py'
    teacher.dump(path := f'{cfg.work_dir}_ld.py')
    cfg.mtpd.teachers.wide.config = path
    told(check(cfg).problems,
         'mtpd.teachers.wide.config: model cannot be built: teacher_config '
         'names the file configs/gfl/gfl_r101_fpn_ms-2x_coco.py, which is '
         f'not in {os.getcwd()}. Correct the path.')


@pytest.mark.parametrize('sampler', [
    'InfiniteSampler', 'mmdet.GroupMultiSourceSampler'])
def test_a_sampler_without_end_needs_a_loop_by_iterations(toy, sampler):
    cfg = toy()
    cfg.train_dataloader.sampler = dict(type=sampler)
    told(check(cfg).problems, 'which never ends an epoch, and train_cfg '
         'counts in max_epochs')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=4)
    assert not any('never ends' in one for one in check(cfg).problems)


def test_a_scale_that_is_true_is_no_scale(toy):
    cfg = toy()
    cfg.mtpd.teachers.wide.scale = True
    told(check(cfg).problems,
         'mtpd.teachers.wide.scale is True; it has to be a number above 0')


def test_loaders_and_masks(toy, swin_mask_rcnn):
    cfg = toy(order=['wide'])
    cfg.model = swin_mask_rcnn
    cfg.mtpd.student.checkpoint = None
    cfg.train_dataloader.persistent_workers = True
    cfg.val_dataloader.batch_size = 0
    cfg.train_dataloader.dataset.pipeline[1].scales = 2
    told(check(cfg).problems, 'train_dataloader.persistent_workers is True',
         'val_dataloader.batch_size is 0', 'LoadAnnotations loads none',
         'pipeline[1].scales is no argument of Resize; did you mean '
         'train_dataloader.dataset.pipeline[1].scale?')


@pytest.mark.parametrize('options, words', [
    (dict(train_cfg=dict(val_interval=0)), 'train_cfg.val_interval is 0'),
    (dict(train_cfg=dict(dynamic_intervals=[(0, 1), (1, 0)])),
     'train_cfg.dynamic_intervals[1][1] is 0'),
    (dict(train_cfg=dict(dynamic_intervals=[3])), 'its entry 0 is 3'),
    (dict(train_dataloader=dict(num_batch_per_epoch=0)),
     'train_dataloader.num_batch_per_epoch is 0'),
    *((dict(randomness=dict(seed=seed)), f'randomness.seed is {seed!r}; ')
      for seed in ('abc', -1, 1.5, 2 ** 40))])
def test_numbers_that_mmengine_could_not_use(toy, options, words):
    cfg = toy(order=['wide'])
    cfg.merge_from_dict(options)
    told(check(cfg).problems, words)


def test_a_teacher_whose_model_has_no_preprocessor(toy, tmp_path):
    """mmdet takes it from the whole config, which may have none."""
    cfg = toy(order=['wide'])
    teacher = Config.fromfile(cfg.mtpd.teachers.wide.config)
    preprocessor = teacher.model.pop('data_preprocessor')
    for name, more in (('within', dict(data_preprocessor=preprocessor)),
                       ('without', {})):
        path = str(tmp_path / f'{name}.py')
        Config({**teacher._cfg_dict, **more}).dump(path)
        cfg.mtpd.teachers.wide.config = path
        words = ['wide.config: model has no data_preprocessor'] \
            if name == 'without' else []
        told(check(cfg).problems, *words)


def test_a_student_without_a_scope_is_trained_in_mmdets(toy):
    cfg = toy(order=['wide'])
    cfg.pop('default_scope')
    assert make_plan(cfg).student.config.default_scope == 'mmdet'
    cfg.train_cfg.max_epochs = 1
    assert len(run_progression(cfg, with_probe=False).stages) == 1


def test_load_from_is_the_students_checkpoint_where_none_is_set(toy):
    cfg = toy()
    cfg.load_from = cfg.mtpd.student.pop('checkpoint')
    assert make_plan(cfg).student.checkpoint == cfg.load_from
    cfg.mtpd.student.checkpoint = 'trained_on.pth'
    assert make_plan(cfg).student.checkpoint == 'trained_on.pth'


def test_aps_that_are_fractions_or_no_numbers(toy):
    for given, words in (((.508, .46), 'swin (0.46), wide (0.508) is at'),
                         ((50.8, .46), 'that of swin (0.46) is at most 1'),
                         ((50.8, '54.3'), "swin.ap is '54.3'"),
                         ((50.8, [54.3]), 'swin.ap is [54.3]'),
                         ((50.8, 543), 'swin.ap is 543'),
                         ((50.8, float('nan')), 'swin.ap is nan'),
                         ((0, 0), 'the declared ap of every teacher is 0')):
        cfg = toy(order='bgs')
        cfg.mtpd.teachers.wide.ap, cfg.mtpd.teachers.swin.ap = given
        problems = check(cfg).problems
        assert any(words in problem for problem in problems), (given, problems)
    cfg = toy(order='bgs')
    cfg.mtpd.teachers.wide.ap, cfg.mtpd.teachers.swin.ap = 1.5, 54
    assert check(cfg).problems == []


def test_a_missing_comma_is_called_that(toy):
    assert joined_names('abc', ['a', 'ab', 'bc', 'x']) == ['a', 'bc']
    assert joined_names('aaa', ['a']) == ['a', 'a', 'a']
    assert joined_names('abx', ['a', 'b']) == []
    assert did_you_mean('wideswin', ['swin', 'wide']) == \
        "; a comma is missing between 'wide' and 'swin'."
    for changes in (dict(order=['wide' 'swin']), dict(order='wideswin'),
                    dict(order=[('wide' 'swin',)])):
        found, = draft_plan(toy(**changes))[1]
        assert "a comma is missing between 'wide' and 'swin'" in found
    found, = draft_plan(toy(inherit=('backbone' 'neck')))[1]
    assert "a comma is missing between 'backbone' and 'neck'" in found


@pytest.mark.parametrize('distill, words', [
    (dict(type='FeatureL2Loss', loss_weight='0.5'),
     ["mtpd.distill.loss_weight is '0.5'; it has to be a number, 'auto'"]),
    (dict(type='FeatureL2Loss', loss_weight='auto', normalise='yes'),
     ["mtpd.distill.normalise is 'yes'; it has to be True or False."]),
    (dict(type='CWDLoss', tau='1', loss_weight=True),
     ["mtpd.distill.tau is '1'; it has to be a number.",
      'mtpd.distill.loss_weight is True; it has to be a number or None.']),
    (dict(type='FeatureL2Loss', loss_weight=dict(shar=1)), ["['shar']"]),
    (dict(type='FeatureL2Loss', loss_weight=dict(share='x')), ["'x'"]),
    (dict(type='MGDLoss', mask_ration=.5, loss_weight=-1),
     ['did you mean mtpd.distill.mask_ratio?', 'loss_weight is -1']),
    (dict(type='no.such.Loss'), ["'no.such.Loss'"]),
    (dict(type=''), ["mtpd.distill.type '' is not known"]),
    (dict(type='RetinaNet'), ["'RetinaNet' is not known"]),
    (dict(type=3), ['mtpd.distill.type 3 is no mtpd Mechanism']),
    (dict(type='WeightedSum'), ['mtpd.distill.losses is None; it has to']),
    (dict(type='WeightedSum', losses=5), ['mtpd.distill.losses is 5']),
    (dict(type='WeightedSum', losses=[dict(type='PKDLos', loss_weight='auto'),
                                      'PKDLoss']),
     ['losses[0].loss_weight: the automatic weight', "did you mean 'PKDLoss'",
      "losses[1] is 'PKDLoss'"]),
    (dict(type='WeightedSum', loss_weight='auto',
          losses=[dict(type='PKDLoss', loss_weight=6)]), []),
    (dict(type='LogitLoss', temperature=2, loss_weight=dict(share=.5)), []),
])
def test_every_mistake_of_a_mechanism_is_named(distill, words):
    told(mechanism_problems(distill), *words)


def test_parts_that_the_check_cannot_judge_are_left_alone():
    class Own:
        def __init__(self, **anything):
            pass

    assert part_problems(dict(
        custom_hooks=[dict(type=Own, x=1), object()],
        default_hooks=dict(timer=None, logger=dict(interval=3)),
        optim_wrapper=dict(type='OptimWrapper', constructor='Mine',
                           theirs=3, optimizer=dict(type='Mine')),
        param_scheduler=dict(type='mmengine.optim.MultiStepLR', by_epoch=True,
                             milestones=[2], convert_to_iter_based=True),
        train_dataloader=dict(dataset=dict(
            type='RepeatDataset', times=2, dataset=dict(
                type='CocoDataset', ann_file='x', pipeline=[dict(
                    type='RandomChoice', transforms=[[dict(
                        type='mmdet.Resize', scale=(1, 2))]])]))))) == []


def test_a_used_work_dir_is_in_the_list(toy):
    cfg = toy(handover='lst')
    Path(cfg.work_dir).mkdir()
    (Path(cfg.work_dir) / 'progression.json').write_text('{"identity": {}}')
    told(check(cfg, resume=False).problems, 'holds a progression already',
         "'last' or 'best'")
    told(check(cfg).problems, "'last' or 'best'")


def test_mixed_precision_stops_the_start_and_is_said_by_the_dry_run(
        toy, tmp_path, repository, monkeypatch):
    monkeypatch.setattr('mtpd.plan.start_check.training.is_cuda_available',
                        lambda: False)
    cfg = toy(handover='lst')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    with pytest.raises(PlanError) as error:
        prepare(cfg)
    told(error.value.problems, "'last' or 'best'", 'AmpOptimWrapper')
    prepare_order = toy(order='bgs')
    prepare_order.optim_wrapper.type = 'AmpOptimWrapper'
    assert len(prepare(prepare_order, trains=False)[1]) == 3


def test_the_tools_tell_the_same_list(toy, repository, tmp_path):
    cfg = toy(order='bgs', distill=dict(type='FeatureL2loss'))
    cfg.mtpd.teachers.swin.checkpoint = 'gone.pth'
    cfg.val_evaluator.metric_items = ['mAP_50']
    path = str(tmp_path / 'mine.py')
    cfg.dump(path)
    words = ("did you mean 'FeatureL2Loss'", "Add 'mAP'")
    for tool, flags, expected in (
            ('train', ['--dry-run'], (*words, 'no file gone.pth')),
            ('train', [], (*words, 'no file gone.pth')),
            ('bgs_order', [], (words[0], 'no file gone.pth')),
            ('from_scratch', [], (*words, 'swin.config: train_dataloader, '
                                  'train_cfg, optim_wrapper not set'))):
        done = run_command(repository / 'tools' / f'{tool}.py', path, *flags,
                           '--work-dir', str(tmp_path / 'work'), cwd=tmp_path)
        assert done.returncode == 1 and 'Traceback' not in done.stderr
        problems = [line for line in done.stderr.splitlines()
                    if line.startswith('  - ')]
        told(problems, *expected)
    assert not (tmp_path / 'work').exists()


def switches(*steps) -> list:
    return [dict(type='PipelineSwitchHook', switch_epoch=1, switch_pipeline=[
        dict(type='LoadImageFromFile'), *steps, dict(type='PackDetInputs')])]


def test_the_pipeline_that_is_switched_to_is_looked_at(toy):
    cfg = toy()
    cfg.custom_hooks = switches(dict(type='Resiz'),
                                dict(type='Resize', scal=(64, 64)))
    field = 'custom_hooks[0].switch_pipeline'
    told(check(cfg).problems,
         f"{field}[1].type 'Resiz' is not known; did you mean 'Resize'?",
         f'{field}[2].scal is no argument of Resize')
    cfg.custom_hooks = switches(dict(type='Normalize', mean=[123.] * 3,
                                     std=[58.] * 3))
    told(check(cfg).problems, 'custom_hooks[0] has a Normalize')


@pytest.mark.parametrize('kind, package', [
    ('Albu', 'albumentations'), ('Corrupt', 'imagecorruptions')])
def test_a_package_that_a_step_needs_is_named(monkeypatch, kind, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None
                        if name == package else find(name))
    (problem,) = part_problems(dict(train_dataloader=dict(dataset=dict(
        pipeline=[dict(type=kind)]))), 'mtpd.teachers.wide.config: ')
    assert problem.startswith('mtpd.teachers.wide.config: train_dataloader.')
    assert f'the package {package} is not installed' in problem


def test_norms_that_are_computed_again_cannot_stand_still(toy, frames):
    """In the backward pass they are in train mode again."""
    cfg = toy(unlabelled=dict(folder=str(frames), batch_norm='running'))
    assert check(cfg).problems == []
    cfg.model.backbone.with_cp = True
    told(check(cfg).problems, "mtpd.unlabelled.batch_norm is 'running', and")
    cfg.model.backbone.norm_eval = True  # they stand still in any case
    assert check(cfg).problems == []
    cfg.model.backbone.update(with_cp=False, norm_eval=False)
    cfg.activation_checkpointing = ['backbone.layer2']
    told(check(cfg).problems, 'such as backbone.layer2, are computed again')
    cfg.mtpd.unlabelled.batch_norm = 'train'
    assert check(cfg).problems == []


@pytest.mark.parametrize('begin', ['1', True])
def test_a_fade_is_of_numbers(toy, begin):
    told(check(toy(fade=dict(begin=begin, end=2))).problems,
         f'mtpd.fade.begin is {begin!r}; it has to be a number')


def test_what_the_distiller_gives_is_no_setting():
    for field, settings in (('', {}), ('losses[0].', dict(
            type='WeightedSum', losses=[dict(type='PKDLoss', pairing=3)]))):
        (problem,) = mechanism_problems(
            settings or dict(type='PKDLoss', pairing=3))
        assert problem.startswith(f'mtpd.distill.{field}pairing is no '
                                  'argument of PKDLoss. Known: loss_weight')


@pytest.mark.parametrize('clip, words', [
    (dict(max_norm=35, norm_type=2), []),
    (dict(type='value', clip_value=1.), []),
    (dict(max_norms=35), ['clip_grad.max_norms is no argument of']),
    (dict(norm_type=2), ['clip_grad.max_norm is not set']),
    (dict(type='nrom'), ["clip_grad.type is 'nrom'"])])
def test_how_gradients_are_clipped(toy, clip, words):
    cfg = toy()
    cfg.optim_wrapper.clip_grad = clip
    told(check(cfg).problems, *words)


@pytest.mark.parametrize('best, handover, words', [
    ('coco/bbox_mAP', 'best', []), ('auto', 'best', []), (None, 'best', []),
    (['coco/bbox_mAP', 'coco/bbox_mAP_50'], 'last', []),
    (['coco/bbox_mAP', 'coco/bbox_mAP_50'], 'best',
     ["mtpd.handover is 'best', and default_hooks.checkpoint.save_best names "
      '2 metrics: coco/bbox_mAP, coco/bbox_mAP_50. Name the one']),
    ('bbox_mAP', 'last', ["save_best: 'bbox_mAP' is none of the metrics that "
                          "val_evaluator reports; did you mean "
                          "coco/bbox_mAP?"])])
def test_the_best_checkpoint_is_of_a_known_metric(toy, best, handover, words):
    cfg = toy(handover=handover)
    cfg.default_hooks.checkpoint.save_best = best
    told(check(cfg).problems, *words)
    cfg.val_evaluator.prefix = 'mine'
    if best in ('coco/bbox_mAP', 'mine/bbox_mAP'):
        told(check(cfg).problems, 'did you mean mine/bbox_mAP?')
    cfg.val_evaluator.update(prefix=None, classwise=True)  # names unknown
    if not isinstance(best, list):
        assert check(cfg).problems == []


def test_names_of_checkpoints_that_no_stage_keeps_are_said(toy):
    cfg = toy()
    assert not any('is not used' in note for note in check(cfg).notes)
    cfg.default_hooks.checkpoint.update(out_dir='elsewhere')
    assert any(note.startswith('default_hooks.checkpoint.out_dir is not used')
               for note in check(cfg).notes)


def test_a_head_of_other_classes_is_not_inherited(toy, tmp_path):
    """In another order its outputs would mean other classes."""
    cfg = toy(order=['wide'], inherit=('head',))
    cfg.mtpd.teachers = dict(wide=dict(
        config=str(tmp_path / 'same.py'),
        checkpoint=str(tmp_path / 'same.pth')))
    Config(dict(model=cfg.model)).dump(str(tmp_path / 'same.py'))
    content = torch.load(cfg.mtpd.student.checkpoint, weights_only=True)
    classes = cfg.val_dataloader.dataset.metainfo.classes
    for names in (classes, classes[::-1]):
        content['meta'] = dict(dataset_meta=dict(classes=names))
        torch.save(content, tmp_path / 'same.pth')
        cfg.mtpd.inherit = ('head',)
        words = [] if names == classes else [
            'mtpd.inherit takes the head of wide, and mtpd.teachers.wide was '
            'trained on other classes']
        told(check(cfg).problems, *words)
        cfg.mtpd.inherit = ('neck',)
        assert check(cfg).problems == []


def test_what_is_inherited_of_another_kind_is_noted(toy, tmp_path):
    cfg = toy(order=['same'], inherit=('backbone', 'head'))
    cfg.mtpd.teachers = dict(same=dict(
        config=str(tmp_path / 'same.py'),
        checkpoint=cfg.mtpd.student.checkpoint))
    other = copy.deepcopy(cfg.model)
    Config(dict(model=other)).dump(str(tmp_path / 'same.py'))
    assert check(cfg).notes == []
    other.data_preprocessor.bgr_to_rgb = not other.data_preprocessor.get(
        'bgr_to_rgb', False)
    other.bbox_head.anchor_generator.octave_base_scale = 3
    Config(dict(model=other)).dump(str(tmp_path / 'same.py'))
    told(check(cfg).notes, 'the backbone of same, whose data_preprocessor',
         'the head of same, whose anchors or encoding')


def test_names_and_channels_that_no_progression_takes(toy):
    cfg = toy(order=['wide'])
    cfg.mtpd.teachers['wide+swin'] = copy.deepcopy(cfg.mtpd.teachers.wide)
    cfg.model.backbone.in_channels = 1
    told(check(cfg).problems, 'mtpd.teachers.wide+swin: teachers that teach '
         'at once are joined by +', 'model.backbone takes 1 channels')


def test_a_detector_of_masks_alone_has_no_ap_of_boxes():
    solo = build_detector(shrunk(load_config(
        'mmdet::solo/solo_r50_fpn_1x_coco.py').model))
    mask_rcnn = build_detector(shrunk(load_config(
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py').model))
    assert predicts_no_boxes(solo) and not predicts_no_boxes(mask_rcnn)
