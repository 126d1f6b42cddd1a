import copy
import random

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mtpd.backbones.neck_channels import fill_in_channels
from mtpd.distill.detector import CheckpointMismatch, build_detector
from mtpd.distill.pyramid import (_stride, by_stride, pyramid_channels,
                                  record_output)
from mtpd.randomness import isolate_rng


def test_pyramids_are_read_from_the_model(retinanet, swin_mask_rcnn):
    assert pyramid_channels(MODELS.build(retinanet)) == dict.fromkeys(
        (8, 16, 32, 64, 128), 16)
    assert pyramid_channels(MODELS.build(swin_mask_rcnn)) == dict.fromkeys(
        (4, 8, 16, 32, 64), 24)


def test_the_dry_pass_leaves_no_trace(retinanet):
    detector = MODELS.build(retinanet).train()
    detector.backbone.layer1.eval()
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    modes = [m.training for m in detector.modules()]
    random_state = torch.get_rng_state()
    pyramid_channels(detector)
    assert torch.equal(random_state, torch.get_rng_state())
    assert modes == [m.training for m in detector.modules()]
    assert all(torch.equal(before[k], v)
               for k, v in detector.state_dict().items())


def test_weights_load_strictly(retinanet, swin_mask_rcnn, checkpoint_of,
                               tmp_path):
    path = checkpoint_of(retinanet, 0, 'whole')
    detector = build_detector(retinanet, path)
    saved = torch.load(path)['state_dict']
    assert all(torch.equal(v, saved[k])
               for k, v in detector.state_dict().items())

    with pytest.raises(CheckpointMismatch, match='not a checkpoint of this '
                                                 'RetinaNet'):
        build_detector(retinanet, checkpoint_of(swin_mask_rcnn, 0, 'other'))

    lacking = dict(saved)
    del lacking['neck.fpn_convs.0.conv.weight']
    torch.save(dict(state_dict=lacking), tmp_path / 'lacking.pth')
    with pytest.raises(CheckpointMismatch,
                       match=r'(?s)teachers.x.checkpoint.*143 of 144.*missing '
                             r'in the file: neck.fpn_convs.0.conv.weight'
                       ) as why:
        build_detector(retinanet, str(tmp_path / 'lacking.pth'),
                       'mtpd.teachers.x.checkpoint')
    assert 'bbox_head' not in str(why.value)

    other_classes = dict(saved)
    other_classes['bbox_head.retina_cls.bias'] = torch.zeros(9)
    torch.save(dict(state_dict=other_classes), tmp_path / 'classes.pth')
    with pytest.raises(CheckpointMismatch, match=r'\(9,\) in the file'):
        build_detector(retinanet, str(tmp_path / 'classes.pth'))


def test_checkpoints_of_wrapped_models_load(retinanet, checkpoint_of,
                                            tmp_path):
    saved = torch.load(checkpoint_of(retinanet, 0, 'plain'))['state_dict']
    torch.save(dict(state_dict={f'module.{k}': v for k, v in saved.items()}),
               tmp_path / 'wrapped.pth')
    detector = build_detector(retinanet, str(tmp_path / 'wrapped.pth'))
    assert torch.equal(detector.state_dict()['bbox_head.retina_cls.bias'],
                       saved['bbox_head.retina_cls.bias'])


def test_a_detector_without_neck_is_refused(retinanet):
    with pytest.raises(TypeError, match='has no neck'):
        build_detector({**retinanet, 'neck': None})
    with pytest.raises(TypeError, match='not an mmdet detector'):
        build_detector(retinanet.backbone)


def test_own_randomness_gives_back_what_it_took():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    plain = [draw(), draw()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = draw()
    with isolate_rng(3):
        inside = draw()
    assert [first, draw()] == plain
    with isolate_rng(3):
        assert draw() == inside


def test_output_is_recorded_within_the_block_only():
    layer = torch.nn.Linear(2, 3)
    with record_output(layer) as outputs:
        result = layer(torch.ones(1, 2))
    layer(torch.ones(1, 2))
    assert len(outputs) == 1 and outputs[0] is result
    with pytest.raises(RuntimeError), record_output(layer):
        raise RuntimeError
    assert not layer._forward_hooks


def test_another_number_of_maps_than_seen_is_an_error():
    with pytest.raises(ValueError, match='1 maps; its dry pass had 2'):
        by_stride((torch.ones(1),), (8, 16))


def test_strides_are_powers_of_two_where_pools_lose_the_border(retinanet):
    """SqueezeNet makes 31 and 15 positions of 256 pixels, at 8 and 16."""
    model = copy.deepcopy(retinanet)
    model.backbone = dict(type='TorchvisionBackbone',
                          model_name='squeezenet1_1')
    cfg = Config(dict(model=model))
    fill_in_channels(cfg)
    assert list(pyramid_channels(build_detector(cfg.model))) == [
        8, 16, 32, 64, 128]
    for side, positions, stride in ((256, 31, 8), (256, 15, 16), (256, 32, 8),
                                    (256, 1, 256), (256, 85, 3)):
        assert _stride(side, positions) == stride
