"""Small detectors and pictures that the tests share."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict

import mtpd  # noqa: F401  (registers everything)
from mmengine.registry import DefaultScope

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope='session', autouse=True)
def _one_thread():
    # Maps of a few pixels: a second thread waits longer than it works, and
    # beside another busy process steps were seen to take ten times as long.
    torch.set_num_threads(1)


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
    from mtpd.progression.plan import load_config
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
           # Random weights score about the focal prior of 0.01.
           'test_cfg.score_thr': 0.001})


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
           'bbox_head.norm_cfg.num_groups': 4,
           'data_preprocessor.pad_size_divisor': 64})


@pytest.fixture(scope='session')
def checkpoint_of(tmp_path_factory):
    """Writes a checkpoint of a model config with given random weights."""
    def write(model, seed: int, name: str) -> str:
        from mtpd.distill.detector import build_detector, own_randomness
        with own_randomness(seed):
            detector = build_detector(model)
            detector.init_weights()
            # Fresh detectors are too alike: batch norms all 1 and 0.
            for parameter in detector.parameters():
                parameter.data += 0.02 * torch.randn_like(parameter)
        path = str(tmp_path_factory.mktemp('weights') / f'{name}.pth')
        torch.save(dict(state_dict=detector.state_dict(), meta=dict(
            dataset_meta=dict(classes=('disc', 'triangle', 'square', 'star',
                                       'cross')))), path)
        return path
    return write


@pytest.fixture(scope='session')
def drawn(tmp_path_factory) -> Path:
    """A tiny drawn data set: 24 training and 8 validation pictures."""
    from mtpd.data.drawn_shapes import draw_shapes
    folder = tmp_path_factory.mktemp('drawn')
    draw_shapes(folder, train=24, val=8, size=(96, 64), seed=3)
    return folder
