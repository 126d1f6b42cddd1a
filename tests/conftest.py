"""Small detectors, images and a progression that the tests share."""
import copy
import gc
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

# Values are compared to the last digit, and a GPU's kernels have others: the
# tests run on the CPU wherever they are. `make test-gpu` sets the variable.
if not os.environ.get('MTPD_TEST_GPU'):
    os.environ['CUDA_VISIBLE_DEVICES'] = ''

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from mmengine.config import Config, ConfigDict
from mmengine.dataset import base_dataset

import mtpd  # noqa: F401  (registers everything)
from mmengine.registry import DefaultScope

from plain_configs import use_plain_configs

REPOSITORY = Path(__file__).parent.parent
CLASSES = ('disc', 'triangle', 'square', 'star', 'cross')

# A busy machine is slow, and a slow test is no failure.
settings.register_profile('busy', deadline=None, suppress_health_check=[
    HealthCheck.too_slow])
settings.load_profile('busy')


@pytest.fixture(scope='session', autouse=True)
def _one_thread():
    # Maps of a few pixels: a second thread waits longer than it works, and
    # beside another busy process steps were seen to take ten times as long.
    torch.set_num_threads(1)


@pytest.fixture(scope='module', autouse=True)
def _what_was_there_before_is_no_garbage():
    # A stage collects garbage at its end: a quarter of a second each time,
    # nearly all for what imports and fixtures have made.
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def _nothing_is_waited_for_in_vain():
    with pytest.MonkeyPatch.context() as patch:
        # mmengine collects garbage for every data set, here of few images.
        patch.setattr(base_dataset, 'gc', SimpleNamespace(collect=int))
        # No test cuts the power, and a busy disk takes its time.
        patch.setattr(os, 'fsync', lambda file: None)
        yield


@pytest.fixture(scope='session', autouse=True)
def _plain_configs():
    with pytest.MonkeyPatch.context() as patch:
        use_plain_configs(patch)
        yield


def pytest_runtest_setup():
    """Registries look in mmdet, as they do below a Runner: before any fixture,
    and whatever scope an earlier test's Runner left behind."""
    scope = DefaultScope.get_current_instance()
    if scope is None or scope.scope_name != 'mmdet':
        DefaultScope.get_instance(f'tests{id(scope)}', scope_name='mmdet')


@pytest.fixture(scope='session')
def repository() -> Path:
    return REPOSITORY


def _shrunk(name: str, **changes) -> ConfigDict:
    from mtpd.plan.detectors import load_config
    model = load_config(name).model
    cfg = Config(dict(model=model))
    cfg.merge_from_dict({f'model.{k}': v for k, v in changes.items()})
    return cfg.model


@pytest.fixture(scope='session')
def retinanet() -> ConfigDict:
    """RetinaNet of mmdet, thin: strides 8 to 128, 16 channels."""
    return _shrunk(
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
        **{'backbone.depth': 18, 'backbone.base_channels': 8,
           'backbone.init_cfg': None, 'backbone.frozen_stages': -1,
           'backbone.norm_eval': False, 'neck.in_channels': [8, 16, 32, 64],
           'neck.out_channels': 16, 'bbox_head.in_channels': 16,
           'bbox_head.feat_channels': 16, 'bbox_head.stacked_convs': 1,
           'bbox_head.num_classes': 5,
           'bbox_head.anchor_generator.octave_base_scale': 2,
           # Random weights score about the focal prior of 0.01, so that all
           # boxes would be sorted out by NMS.
           'test_cfg.score_thr': 0.001, 'test_cfg.nms_pre': 100,
           'test_cfg.max_per_img': 30})


@pytest.fixture(scope='session')
def swin_mask_rcnn() -> ConfigDict:
    """Mask R-CNN on Swin of mmdet, thin: strides 4 to 64, 24 channels."""
    return _shrunk(
        'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
        **{'backbone.init_cfg': None, 'backbone.embed_dims': 16,
           'backbone.depths': [2, 2, 2, 2],
           'backbone.num_heads': [2, 2, 4, 4], 'backbone.window_size': 4,
           'neck.in_channels': [16, 32, 64, 128], 'neck.out_channels': 24,
           'rpn_head.in_channels': 24, 'rpn_head.feat_channels': 24,
           'roi_head.bbox_roi_extractor.out_channels': 24,
           'roi_head.bbox_head.in_channels': 24,
           'roi_head.bbox_head.fc_out_channels': 32,
           'roi_head.bbox_head.num_classes': 5,
           'roi_head.mask_roi_extractor.out_channels': 24,
           'roi_head.mask_head.in_channels': 24,
           'roi_head.mask_head.conv_out_channels': 16,
           'roi_head.mask_head.num_convs': 1,
           'roi_head.mask_head.num_classes': 5})


@pytest.fixture(scope='session')
def caffe_fcos() -> ConfigDict:
    """FCOS of mmdet in caffe style: other means, no std, BGR; 16 channels."""
    return _shrunk(
        'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        **{'backbone.depth': 18, 'backbone.base_channels': 8,
           'backbone.init_cfg': None, 'backbone.frozen_stages': -1,
           'neck.in_channels': [8, 16, 32, 64], 'neck.out_channels': 16,
           'bbox_head.in_channels': 16, 'bbox_head.feat_channels': 16,
           'bbox_head.stacked_convs': 1, 'bbox_head.num_classes': 5,
           'bbox_head.norm_cfg': dict(type='GN', num_groups=4),
           'data_preprocessor.pad_size_divisor': 64})


@pytest.fixture(scope='session')
def checkpoint_of(tmp_path_factory):
    """Writes a checkpoint of a model config with given random weights."""
    def write(model, seed: int, name: str) -> str:
        from mtpd.distill.detector import build_detector
        from mtpd.randomness import isolate_rng
        with isolate_rng(seed):
            detector = build_detector(model)
            detector.init_weights()
            # Fresh detectors are too alike: batch norms all 1 and 0.
            for parameter in detector.parameters():
                parameter.data += 0.02 * torch.randn_like(parameter)
        path = str(tmp_path_factory.mktemp('weights') / f'{name}.pth')
        torch.save(dict(state_dict=detector.state_dict(), meta=dict(
            dataset_meta=dict(classes=CLASSES))), path)
        return path
    return write


@pytest.fixture(scope='session')
def drawn(tmp_path_factory) -> Path:
    """A tiny drawn data set: 24 training and 8 validation images."""
    from mtpd.data.drawn_shapes import draw_shapes
    folder = tmp_path_factory.mktemp('drawn')
    draw_shapes(folder, train=24, val=8, size=(96, 64), seed=3)
    return folder


@pytest.fixture(scope='session')
def frames(tmp_path_factory) -> Path:
    """Eleven drawn images without labels, four of them in a folder below."""
    from mtpd.data.drawn_shapes import draw_shapes
    root = tmp_path_factory.mktemp('unlabelled')
    draw_shapes(root / 'drawn', train=11, val=1, size=(96, 64), seed=9)
    night = root / 'frames' / 'night'
    night.mkdir(parents=True)
    for i, path in enumerate(sorted((root / 'drawn' / 'train').iterdir())):
        path.rename((night if i > 6 else night.parent) / path.name)
    return root / 'frames'


def dataset(root, split: str, **changes) -> dict:
    steps = [dict(type='LoadImageFromFile'),
             dict(type='Resize', scale=(96, 64), keep_ratio=True)]
    if split == 'train':
        steps += [dict(type='LoadAnnotations', with_bbox=True),
                  dict(type='RandomFlip', prob=0.5),
                  dict(type='PackDetInputs')]
    else:
        steps += [dict(type='LoadAnnotations', with_bbox=True),
                  dict(type='PackDetInputs', meta_keys=(
                      'img_id', 'img_path', 'ori_shape', 'img_shape',
                      'scale_factor'))]
    return dict(type='CocoDataset', data_root=str(root),
                metainfo=dict(classes=CLASSES),
                ann_file=f'annotations/instances_{split}.json',
                data_prefix=dict(img=f'{split}/'), pipeline=steps,
                test_mode=split == 'val', **changes)


@pytest.fixture(scope='session')
def toy_in(drawn, retinanet, swin_mask_rcnn, checkpoint_of, tmp_path_factory):
    """cfg(work_dir, **changes of cfg.mtpd): a progression of seconds,
    2 stages of 2 epochs of 3 steps; random student, random Swin and FPN
    teachers with declared APs."""
    def loader(split, shuffle):
        return dict(batch_size=8, num_workers=0,
                    sampler=dict(type='DefaultSampler', shuffle=shuffle),
                    dataset=dataset(drawn, split))

    wide = copy.deepcopy(retinanet)
    wide.neck.out_channels = 24
    wide.bbox_head.in_channels = 24
    configs = {}
    for name, model in (('swin', swin_mask_rcnn), ('wide', wide)):
        path = str(tmp_path_factory.mktemp('configs') / f'{name}.py')
        Config(dict(model=model)).dump(path)
        configs[name] = dict(config=path, checkpoint=checkpoint_of(
            model, {'swin': 1, 'wide': 2}[name], name),
            ap={'swin': 30., 'wide': 20.}[name])
    student = checkpoint_of(retinanet, 3, 'student')

    def cfg(work_dir, **changes) -> Config:
        validation = loader('val', False)
        return Config(copy.deepcopy(dict(
            default_scope='mmdet', model=retinanet,
            train_dataloader=loader('train', True), val_dataloader=validation,
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2,
                           val_interval=2),
            val_cfg=dict(type='ValLoop'),
            val_evaluator=dict(type='CocoMetric', metric='bbox', ann_file=str(
                drawn / 'annotations' / 'instances_val.json')),
            optim_wrapper=dict(type='OptimWrapper',
                               optimizer=dict(type='SGD', lr=0.004)),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.25, by_epoch=False,
                     begin=0, end=3),
                dict(type='MultiStepLR', milestones=[1], gamma=0.5)],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                param_scheduler=dict(type='ParamSchedulerHook'),
                checkpoint=dict(type='CheckpointHook', interval=1)),
            visualizer=dict(type='DetLocalVisualizer', name='visualizer',
                            vis_backends=[dict(type='LocalVisBackend')]),
            randomness=dict(seed=0), work_dir=str(work_dir),
            mtpd={**dict(student=dict(checkpoint=student), teachers=configs,
                         order=['wide', 'swin'],
                         distill=dict(type='FeatureL2Loss', loss_weight=1.0)),
                  **changes})))
    return cfg


@pytest.fixture
def toy(toy_in, tmp_path):
    """``toy_in`` with a work dir of the test's own."""
    return partial(toy_in, tmp_path / 'work')


@pytest.fixture(scope='session')
def two_runs(toy_in, tmp_path_factory) -> tuple[Path, Path]:
    """Work dirs of a finished progression that validates every epoch and of
    its twin without distillation; to look at and not to change."""
    from mtpd.progression import run_progression
    work = tmp_path_factory.mktemp('two_runs') / 'work'
    for folder, weight in ((work, 1.), (work / 'alone', 0)):
        cfg = toy_in(folder, distill=dict(type='FeatureL2Loss',
                                          loss_weight=weight))
        cfg.train_cfg.val_interval = 1
        run_progression(cfg, with_probe=False)
    return work, work / 'alone'


# Published graph of the paper, with the two edges that it does not draw.
PUBLISHED = {('S', 'I'): .939, ('S', 'II'): .060, ('I', 'II'): .070,
             ('II', 'I'): 1.181, ('I', 'III'): .934, ('II', 'III'): 1.94,
             ('I', 'IV'): .963, ('II', 'IV'): 1.401, ('III', 'IV'): .89,
             ('S', 'III'): 2.5, ('S', 'IV'): 3.0}


@pytest.fixture
def published():
    from mtpd.order.costs import AdaptationCosts
    names = ('S', 'I', 'II', 'III', 'IV')
    return AdaptationCosts.from_dicts(
        names, (8, 16), mse={
            (a, b): {8: PUBLISHED.get((a, b), 5.) - .01,
                     16: PUBLISHED.get((a, b), 5.) + .01}
            for a in names for b in names if a != b},
        variance={n: {8: 2., 16: 2.} for n in names},
        positions={8: 100, 16: 25})


@pytest.fixture
def aps() -> dict[str, float]:
    return {'I': 38.2, 'II': 38.7, 'III': 42.3, 'IV': 47.0}


@pytest.fixture
def limits():
    """resolution(costs, at 8, at 16), given as shares of the variance."""
    def resolution(costs, fine: float, coarse: float):
        into = costs.variance * [[fine], [coarse]]
        return np.where(np.isnan(costs.mse), np.nan, into[:, None])
    return resolution


@pytest.fixture(scope='session')
def found_run(toy_in, tmp_path_factory) -> Path:
    """Work dir of a finished progression whose order was found by costs: swin
    alone. To look at and not to change."""
    cfg = toy_in(tmp_path_factory.mktemp('found') / 'work', order='bgs')
    return _run(cfg)


@pytest.fixture(scope='session')
def stopped_run(toy_in, tmp_path_factory) -> Path:
    """Work dir of a progression of a given order, wide and swin, that stopped
    in its second stage before iteration 6 of 6, went on from iteration 3 and
    stopped again before 5."""
    cfg = toy_in(tmp_path_factory.mktemp('stopped') / 'work')
    from mtpd.distill.distiller import FeatureDistiller
    whole = FeatureDistiller.loss
    for last, resume in ((11, False), (1, True)):
        steps = 0

        def dies(self, *args):
            nonlocal steps
            if steps == last:
                raise KeyboardInterrupt
            steps += 1
            return whole(self, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FeatureDistiller, 'loss', dies)
            with pytest.raises(KeyboardInterrupt):
                _run(copy.deepcopy(cfg), resume=resume)
    return Path(cfg.work_dir)


def _run(cfg, **options) -> Path:
    from mtpd.progression import run_progression
    run_progression(cfg, with_probe=False, **options)
    return Path(cfg.work_dir)
