import copy
from urllib.error import URLError

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import nn
from torchvision import models

from mtpd.backbones import TorchvisionBackbone
from mtpd.compat.checkpoints import CheckpointUnavailable
from mtpd.distill.detector import CheckpointMismatch

# The last block of each stride, read from torchvision's sources, and its
# channels, from the papers' tables.
BLOCKS = {
    'resnet18': ('layer1 layer2 layer3 layer4', (64, 128, 256, 512)),
    'resnext50_32x4d': ('layer1 layer2 layer3 layer4',
                        (256, 512, 1024, 2048)),
    'mobilenet_v2': ('features.3 features.6 features.13 features.18',
                     (24, 32, 96, 1280)),
    'mobilenet_v3_small': ('features.1 features.3 features.8 features.12',
                           (16, 24, 48, 576)),
    'mobilenet_v3_large': ('features.3 features.6 features.12 features.16',
                           (24, 40, 112, 960)),
    'shufflenet_v2_x0_5': ('maxpool stage2 stage3 conv5', (24, 48, 96, 1024)),
    'shufflenet_v2_x1_0': ('maxpool stage2 stage3 conv5',
                           (24, 116, 232, 1024)),
    'squeezenet1_0': ('features.5 features.10 features.12', (256, 512, 512)),
    'squeezenet1_1': ('features.4 features.7 features.12', (128, 256, 512)),
    'efficientnet_b0': ('features.2 features.3 features.5 features.8',
                        (24, 40, 112, 1280)),
    'regnet_y_400mf': ('trunk_output.block1 trunk_output.block2 '
                       'trunk_output.block3 trunk_output.block4',
                       (48, 104, 208, 440)),
    'mnasnet0_5': ('layers.8 layers.9 layers.11 layers.16',
                   (16, 24, 48, 1280)),
    'densenet121': ('features.denseblock1 features.denseblock2 '
                    'features.denseblock3 features.norm5',
                    (256, 512, 1024, 1024)),
    'convnext_tiny': ('features.1 features.3 features.5 features.7',
                      (96, 192, 384, 768)),
    'vgg11_bn': ('features.13 features.20 features.27 features.28',
                 (256, 512, 512, 512)),
}
HEADS = ('classifier', 'fc')
# VGG draws the 120 million weights of its classifier twice: torch's defaults,
# then its own, which take as long again.
OPTIONS = {'vgg11_bn': dict(init_weights=False)}


@pytest.mark.parametrize('name', BLOCKS)
def test_maps_are_those_of_the_last_blocks(name):
    names, channels = BLOCKS[name]
    torch.manual_seed(0)
    options = OPTIONS.get(name, {})
    whole = models.get_model(name, **options).eval()
    drawn = torch.get_rng_state()
    torch.manual_seed(0)
    backbone = TorchvisionBackbone(name, **options).eval()
    assert torch.equal(torch.get_rng_state(), drawn)

    assert backbone.strides == (4, 8, 16, 32)[:len(channels)]
    assert backbone.channels == channels
    own = {k.removeprefix('model.'): v
           for k, v in backbone.state_dict().items()}
    kept = {k: v for k, v in whole.state_dict().items()
            if not k.startswith(HEADS)}
    assert own.keys() == kept.keys()
    assert all(torch.equal(own[k], kept[k]) for k in own)

    outputs = {}
    for block in names.split():
        whole.get_submodule(block).register_forward_hook(
            # A clone, since the following layers may work in place.
            lambda _m, _a, out, b=block: outputs.update({b: out.clone()}))
    for size in ((64, 96), (97, 131)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            maps = backbone(image)
            # Only the blocks are compared; VGG's classifier takes half a
            # second.
            features = getattr(whole, 'features', None)
            features(image) if name == 'vgg11_bn' else whole(image)
        assert len(maps) == len(channels)
        for seen, block, stride in zip(maps, names.split(),
                                       backbone.strides):
            torch.testing.assert_close(seen, outputs[block], rtol=0, atol=0)
            for positions, pixels in zip(seen.shape[2:], size):
                assert abs(positions - pixels / stride) <= 2


def test_with_fewer_strides_all_remaining_weights_are_trained():
    backbone = TorchvisionBackbone('mobilenet_v3_small', strides=(16, 8))
    assert backbone.strides == (8, 16) and backbone.channels == (24, 48)
    assert [m.shape[1] for m in backbone(torch.randn(2, 3, 64, 64))] \
        == [24, 48]
    sum(m.sum() for m in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert not any('features.9.' in k for k in backbone.state_dict())


def test_state_round_trips_and_copies_are_whole():
    first = TorchvisionBackbone('efficientnet_b0').eval()
    second = TorchvisionBackbone('efficientnet_b0').eval()
    second.load_state_dict(first.state_dict())
    copied = copy.deepcopy(first).train().eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b, c in zip(first(image), second(image), copied(image)):
            assert torch.equal(a, b) and torch.equal(a, c)
        # Stochastic depth is active in the training mode of the copy, also if
        # the mode of each module was restored by itself after a dry run.
        for module in copied.modules():
            module.training = True
        assert not torch.equal(copied(image)[-1], copied(image)[-1])
        copied.eval()
        copied.load_state_dict(first.state_dict())
        assert torch.equal(copied(image)[-1], first(image)[-1])


@pytest.mark.parametrize('norm_eval', (False, True))
def test_batch_norms_keep_their_statistics_with_norm_eval(norm_eval):
    backbone = TorchvisionBackbone('mobilenet_v3_small', norm_eval=norm_eval)
    before = {k: v.clone() for k, v in backbone.named_buffers()}
    assert backbone.train() is backbone and backbone.training
    backbone(torch.randn(2, 3, 64, 64))
    changed = [not torch.equal(v, before[k])
               for k, v in backbone.named_buffers()]
    assert all(changed) if not norm_eval else not any(changed)


class Parent(BaseModule):
    """Stands in for a detector: holds a backbone and has its own init_cfg."""

    def __init__(self, backbone: dict) -> None:
        super().__init__(dict(type='Constant', layer='Conv2d', val=7.))
        self.backbone = MODELS.build(backbone)


def test_pretrained_weights_are_loaded_last_and_only_if_set(monkeypatch):
    torch.manual_seed(3)
    source = models.squeezenet1_1()
    fetched = []

    def state_dict(self, *_args, **_kwargs):
        fetched.append(self.name)
        return source.state_dict()

    monkeypatch.setattr(models.SqueezeNet1_1_Weights, 'get_state_dict',
                        state_dict)
    parent = Parent(dict(type='TorchvisionBackbone', weights='DEFAULT',
                         model_name='squeezenet1_1'))
    assert not fetched
    state = torch.get_rng_state()
    parent.init_weights()
    assert torch.equal(torch.get_rng_state(), state)
    assert fetched == ['IMAGENET1K_V1']
    wanted = source.state_dict()
    for key, value in parent.backbone.model.state_dict().items():
        assert torch.equal(value, wanted[key])
    for parameter in parent.parameters():
        nn.init.zeros_(parameter)
    parent.init_weights()
    assert all((p == 0).all() for p in parent.parameters())

    plain = Parent(dict(type='TorchvisionBackbone',
                        model_name='squeezenet1_1'))
    plain.init_weights()
    assert (next(plain.backbone.parameters()) == 7).all()


def test_weights_that_cannot_be_fetched_are_named(monkeypatch):
    def state_dict(self, *_args, **_kwargs):
        raise URLError('no network')

    monkeypatch.setattr(models.SqueezeNet1_1_Weights, 'get_state_dict',
                        state_dict)
    backbone = TorchvisionBackbone('squeezenet1_1', weights='IMAGENET1K_V1')
    with pytest.raises(CheckpointUnavailable, match=(
            "(?s)squeezenet1_1.*no network.*pretrained='FILE'")):
        backbone.init_weights()


@pytest.mark.parametrize('options, message', [
    (dict(model_name='resnt18'), "no model 'resnt18'.*'resnet18'"),
    (dict(model_name='resnet18', weights='V7'), "'V7' of.*'IMAGENET1K_V1'"),
    (dict(model_name='squeezenet1_1', strides=(8, 32)),
     r'strides \(2, 4, 8, 16\) and none of \[32\]'),
    (dict(model_name='resnet18', strides=8), r'did you mean \(8,\)'),
    (dict(model_name=18), '18'),
    (dict(model_name='resnet18', nothing=1), "'nothing': 1.*Correct them"),
    (dict(model_name='vit_b_16'), 'vit_b_16 cannot.*Expected 224'),
    (dict(model_name='swin_t'), r'swin_t returns no.*\(1, 64, 80, 96\).*'
                                "type='SwinTransformer'"),
])
def test_models_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TorchvisionBackbone(**options)


def test_a_file_is_one_line_and_another_models_is_refused(tmp_path):
    torch.manual_seed(3)
    source = models.mobilenet_v2(num_classes=7)  # not ImageNet's classes
    path = str(tmp_path / 'weights.pth')
    torch.save({f'module.{k}': v for k, v in source.state_dict().items()},
               path)

    def initialised(name: str) -> TorchvisionBackbone:
        backbone = TorchvisionBackbone(name, pretrained=path)
        backbone.init_weights()
        return backbone

    own = initialised('mobilenet_v2').model.state_dict()
    for key, value in own.items():
        assert torch.equal(value, source.state_dict()[key]), key
    with pytest.raises(CheckpointMismatch, match=(
            r'does not hold the weights of resnet18: 0 of 100 tensors match'
            r'.\n  missing in the file: conv1.weight')):
        initialised('resnet18')
    # A deeper model of the same width holds all that is asked for.
    torch.save(models.resnet34().state_dict(), path)
    with pytest.raises(CheckpointMismatch, match=(
            'resnet18: 100 of 100 tensors match.\n  not in the model: '
            r'layer1.2.conv1.weight, .*\nName the model')):
        initialised('resnet18')
    path = str(tmp_path / 'absent.pth')
    with pytest.raises(CheckpointUnavailable, match='resnet18 in .*absent'):
        initialised('resnet18')


def test_densenets_published_names_are_read(tmp_path):
    source = models.densenet121().state_dict()
    published = {key.replace('.norm1.', '.norm.1.').replace(
        '.conv2.', '.conv.2.'): value for key, value in source.items()}
    assert len(published.keys() & source.keys()) < len(source) - 300
    torch.save(published, tmp_path / 'densenet121.pth')
    backbone = TorchvisionBackbone(
        'densenet121', pretrained=str(tmp_path / 'densenet121.pth'))
    backbone.init_weights()
    for key, value in backbone.model.state_dict().items():
        assert torch.equal(value, source[key]), key


def test_pretrained_is_the_default_weights():
    backbone = TorchvisionBackbone('squeezenet1_1', pretrained=True)
    assert backbone.weights == 'DEFAULT' and backbone.file is None
    backbone = TorchvisionBackbone('squeezenet1_1', pretrained=True,
                                   weights='IMAGENET1K_V1')
    assert backbone.weights == 'IMAGENET1K_V1'
    # Their images are normalised within the model.
    assert TorchvisionBackbone('googlenet', pretrained='x.pth', strides=(8,),
                               init_weights=False).options['transform_input']
