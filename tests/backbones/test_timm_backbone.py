import copy
import lzma
import sys

import pytest
import timm
import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from safetensors.torch import save_file
from torch import nn

from mtpd.backbones import TimmBackbone
from mtpd.compat.checkpoints import CheckpointUnavailable, CorruptCheckpoint
from mtpd.distill.detector import CheckpointMismatch

# From the papers' tables, times the width in the name.
CHANNELS = {
    'resnet18': (64, 128, 256, 512),
    'mobilenetv2_050': (16, 16, 48, 160),
    'mobilenetv3_small_050': (8, 16, 24, 288),
    'efficientnet_lite0': (24, 40, 112, 320),
    'convnext_atto': (40, 80, 160, 320),
}


@pytest.mark.parametrize('name', CHANNELS)
def test_maps_are_those_of_timm(name):
    torch.manual_seed(0)
    plain = timm.create_model(name, features_only=True).eval()
    drawn = torch.get_rng_state()
    torch.manual_seed(0)
    backbone = TimmBackbone(name).eval()
    assert torch.equal(torch.get_rng_state(), drawn)

    assert backbone.strides == (4, 8, 16, 32)
    assert backbone.channels == CHANNELS[name]
    state = plain.state_dict()
    assert all(torch.equal(value, state[key])
               for key, value in backbone.model.state_dict().items())
    assert all(p.requires_grad for p in backbone.parameters())
    for size in ((64, 96), (97, 131)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            maps, expected = backbone(image), plain(image)[-4:]
        assert len(maps) == 4
        for seen, wanted, stride in zip(maps, expected, backbone.strides):
            assert torch.equal(seen, wanted)
            for positions, pixels in zip(seen.shape[2:], size):
                assert abs(positions - pixels / stride) < 1


def test_with_fewer_strides_unused_parameters_are_not_trained():
    # timm keeps MobileNet's stages after the last map.
    backbone = TimmBackbone('mobilenetv2_050', strides=(8, 4))
    assert backbone.strides == (4, 8) and backbone.channels == (16, 16)
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert [tuple(m.shape) for m in maps] == [(2, 16, 16, 16),
                                              (2, 16, 8, 8)]
    sum(m.sum() for m in maps).backward()
    trained = {k for k, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {k for k, p in backbone.named_parameters()
                       if p.grad is not None}
    assert 'model.conv_stem.weight' in trained
    assert not any('blocks.6' in key for key in trained)


def test_channels_last_maps_are_transposed():
    backbone = TimmBackbone('test_mambaout').eval()
    plain = timm.create_model('test_mambaout', features_only=True)
    plain.load_state_dict({
        k.removeprefix('model.').replace('stages.', 'stages_'): v
        for k, v in backbone.model.state_dict().items()})
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for seen, last in zip(backbone(image), plain.eval()(image)):
            torch.testing.assert_close(seen, last.permute(0, 3, 1, 2))
    assert backbone.channels == (16, 32, 48, 64)
    sum(m.sum() for m in backbone(image)).backward()
    assert all(p.grad is not None for p in backbone.parameters()
               if p.requires_grad)


def test_options_reach_timm():
    backbone = TimmBackbone('convnext_atto', drop_path_rate=0.5)
    paths = [m for m in backbone.modules()
             if isinstance(m, timm.layers.DropPath)]
    assert max(path.drop_prob for path in paths) == pytest.approx(0.5)


def test_state_round_trips_and_copies_are_whole():
    first = TimmBackbone('mobilenetv3_small_050').eval()
    second = TimmBackbone('mobilenetv3_small_050').eval()
    second.load_state_dict(first.state_dict())
    copied = copy.deepcopy(first).train().eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b, c in zip(first(image), second(image), copied(image)):
            assert torch.equal(a, b) and torch.equal(a, c)


@pytest.mark.parametrize('norm_eval', (False, True))
def test_batch_norms_keep_their_statistics_with_norm_eval(norm_eval):
    backbone = TimmBackbone('mobilenetv3_small_050', norm_eval=norm_eval)
    before = {k: v.clone() for k, v in backbone.named_buffers()}
    assert backbone.train() is backbone and backbone.training
    backbone(torch.randn(2, 3, 64, 64))
    changed = [not torch.equal(v, before[k])
               for k, v in backbone.named_buffers()]
    assert all(changed) if not norm_eval else not any(changed)


def test_batch_norms_without_their_activations_are_refused():
    backbone = TimmBackbone('mobilenetv3_small_050')
    nn.SyncBatchNorm.convert_sync_batchnorm(backbone)
    with pytest.raises(ValueError, match='sync_bn'):
        backbone.train()
    # ResNet's activations are not in its batch norms.
    nn.SyncBatchNorm.convert_sync_batchnorm(TimmBackbone('resnet18')).train()


class Parent(BaseModule):
    """Stands in for a detector: holds a backbone and has its own init_cfg."""

    def __init__(self, **backbone) -> None:
        super().__init__(dict(type='Constant', layer='Conv2d', val=7.))
        self.backbone = MODELS.build(dict(type='TimmBackbone', **backbone))


@pytest.mark.parametrize('name', ('mobilenetv3_small_050', 'convnext_atto'))
def test_pretrained_weights_are_loaded_last_and_only_if_set(name, tmp_path):
    torch.manual_seed(3)
    wanted = timm.create_model(name).state_dict()
    path = tmp_path / 'pretrained.pth'
    parent = Parent(model_name=name, pretrained=True,
                    pretrained_cfg_overlay=dict(file=str(path)))
    torch.save(wanted, path)  # only now: building reads no weights
    state = torch.get_rng_state()
    parent.init_weights()
    assert torch.equal(torch.get_rng_state(), state)
    own = parent.backbone.model.state_dict()
    assert len(own) > 100
    for key, value in own.items():
        # timm names the features' children stages_0 for stages.0.
        key = key.replace('stages_', 'stages.').replace('stem_', 'stem.') \
            if name == 'convnext_atto' else key
        assert torch.equal(value, wanted[key]), key
    for parameter in parent.parameters():
        nn.init.zeros_(parameter)
    parent.init_weights()
    assert all((p == 0).all() for p in parent.parameters())

    plain = Parent(model_name=name)
    plain.init_weights()
    convolution = next(m for m in plain.modules() if isinstance(m, nn.Conv2d))
    assert (convolution.weight == 7).all()


def initialised(**options) -> TimmBackbone:
    backbone = TimmBackbone(**options)
    backbone.init_weights()
    return backbone


def test_a_file_is_one_line_whoever_has_written_it(tmp_path):
    torch.manual_seed(3)
    # Not ImageNet's classes.
    weights = timm.create_model('resnet10t', num_classes=7).state_dict()
    torch.save({'model': {f'module.{key}': value
                          for key, value in weights.items()}, 'lr': 1},
               tmp_path / 'weights.pth')
    save_file(weights, tmp_path / 'weights.safetensors')
    with lzma.open(tmp_path / 'weights.pth.xz', 'wb') as file:
        file.write((tmp_path / 'weights.pth').read_bytes())
    for name in ('weights.pth', 'weights.safetensors', 'weights.pth.xz'):
        backbone = initialised(model_name='resnet10t',
                               pretrained=str(tmp_path / name))
        for key, value in backbone.model.state_dict().items():
            assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize('backbone', ['TimmBackbone', 'TorchvisionBackbone'])
def test_averages_are_taken_where_a_file_has_them(backbone, tmp_path):
    """As timm, torchvision and others name them; both backbones alike."""
    torch.manual_seed(3)
    last, averages = (timm.create_model('resnet18').state_dict()
                      for _ in range(2))
    file = tmp_path / 'weights.pth'
    for content in (
            dict(state_dict=last, state_dict_ema=averages),
            dict(model=last, model_ema={
                f'module.{key}': value for key, value in averages.items()}),
            dict(model=last, ema=averages),
            {f'_orig_mod.{key}': value for key, value in averages.items()}):
        torch.save(content, file)
        detector = MODELS.build(dict(type=backbone, model_name='resnet18',
                                     pretrained=str(file)))
        detector.init_weights()
        found = dict(detector.named_parameters())
        for name in ('model.conv1.weight', 'model.layer4.1.conv2.weight'):
            key = name.removeprefix('model.')
            assert torch.equal(found[name], averages[key]), content.keys()
    torch.save(dict(a=last, b=averages), file)
    with pytest.raises(CheckpointMismatch, match='backbone.pretrained: .*'
                       'weights.pth holds several .*fit equally'):
        MODELS.build(dict(type=backbone, model_name='resnet18',
                          pretrained=str(file))).init_weights()


def test_files_of_other_models_are_refused(tmp_path):
    # timm itself loads features of this family without reporting a mismatch,
    # also where the file is that of a deeper model of the same width.
    path = str(tmp_path / 'other.pth')
    weights = timm.create_model('mobilenetv2_050').state_dict()
    torch.save({k: v for k, v in weights.items() if 'blocks' not in k
                and 'conv_stem' not in k and 'bn' not in k}, path)
    with pytest.raises(CheckpointMismatch, match=(
            'other.pth does not hold the weights of mobilenetv2_050: 0 '
            r'of 255 tensors match.\n  missing in the file: conv_stem')):
        initialised(model_name='mobilenetv2_050', pretrained=True,
                    pretrained_cfg_overlay=dict(file=path))
    torch.save(timm.create_model('tf_efficientnet_lite1').state_dict(), path)
    with pytest.raises(CheckpointMismatch, match=(
            r'not in the model: blocks.1.2.conv_pw.weight, .*and 86 more')):
        initialised(model_name='tf_efficientnet_lite0', pretrained=path)
    torch.save({f'backbone.model.{k}': v for k, v in weights.items()}, path)
    with pytest.raises(CheckpointMismatch, match="prefix='backbone.'"):
        initialised(model_name='mobilenetv2_050', pretrained=path)
    torch.save(timm.create_model('mobilenetv2_035').state_dict(), path)
    with pytest.raises(CheckpointMismatch,
                       match='of another shape: blocks.1.0.conv_pwl'):
        initialised(model_name='mobilenetv2_050', pretrained=path)
    (tmp_path / 'other.pth').write_text('no weights')
    with pytest.raises(CorruptCheckpoint, match='other.pth is not a check'):
        initialised(model_name='mobilenetv2_050', pretrained=path)


@pytest.mark.parametrize('backbone', [
    dict(type='TimmBackbone', model_name='resnet18'),
    dict(type='TorchvisionBackbone', model_name='resnet18')])
def test_what_is_pretrained_is_yes_no_or_a_file(backbone, tmp_path):
    for wrong in (1, 0, [1], b'x', ''):
        with pytest.raises(ValueError, match='pretrained is .*; it has to be '
                           'True, False or a file'):
            MODELS.build(dict(backbone, pretrained=wrong))
    for right in (None, False):
        MODELS.build(dict(backbone, pretrained=right)).init_weights()
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'nothing of it')
    detector = MODELS.build(dict(backbone, pretrained=str(broken)))
    with pytest.raises(CorruptCheckpoint, match='broken.safetensors is no '
                       'whole .safetensors file'):
        detector.init_weights()


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = str(tmp_path / 'absent.pth')
    for options in (dict(pretrained=path),
                    dict(pretrained=True,
                         pretrained_cfg_overlay=dict(file=path))):
        with pytest.raises(CheckpointUnavailable,
                           match='mobilenetv2_050 in .*absent.pth could'):
            initialised(model_name='mobilenetv2_050', **options)


def test_without_a_network_the_hub_is_asked_once(monkeypatch, tmp_path):
    asked = []

    class Session:
        def head(self, url, timeout):
            asked.append(url)
            raise OSError('Name or service not known')

    monkeypatch.setattr('huggingface_hub.get_session', Session)
    monkeypatch.setattr('huggingface_hub.try_to_load_from_cache',
                        lambda *_args, **_options: None)
    with pytest.raises(CheckpointUnavailable,
                       match=r"not known\).*pretrained='FILE'"):
        initialised(model_name='mobilenetv2_050', pretrained=True)
    assert len(asked) == 1
    # What an earlier run has fetched is used.
    weights = timm.create_model('mobilenetv2_050').state_dict()
    save_file(weights, tmp_path / 'model.safetensors')
    monkeypatch.setattr(
        'huggingface_hub.try_to_load_from_cache',
        lambda repository, name, **_options: str(tmp_path / name)
        if (tmp_path / name).exists() and repository.startswith('timm/')
        else None)
    backbone = initialised(model_name='mobilenetv2_050', pretrained=True)
    assert torch.equal(backbone.model.conv_stem.weight,
                       weights['conv_stem.weight'])


@pytest.mark.parametrize('options, message', [
    (dict(model_name='mobilnetv3_small_050'), "Did you mean 'mobilenetv3_sm"),
    (dict(model_name='resnet18.mine'), 'cannot build resnet18.mine.*tag'),
    (dict(model_name='resnet18', strides=8), r'did you mean \(8,\)'),
    (dict(model_name=18), '18'),
    (dict(model_name='resnet18', nothing=1), "'nothing': 1.*Correct them"),
    (dict(model_name='resnet18', strides=(8, 64)),
     r'strides \(2, 4, 8, 16, 32\) and none of \[64\]'),
    (dict(model_name='vit_tiny_patch16_224'), 'vit_tiny.*cannot be used.*224'),
    (dict(model_name='vit_tiny_patch16_224', dynamic_img_size=True),
     r'vit_tiny.*no feature pyramid.*returns \(1, 192, 16, 20\), but'),
    (dict(model_name='swin_tiny_patch4_window7_224'), 'strict_img_size=False'),
])
def test_models_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(**options)


def test_without_timm_its_backbone_names_the_cure(monkeypatch):
    # tests/test_packaging.py imports mtpd without timm.
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ImportError, match=r'pip install timm .*mtpd\[timm\]'):
        TimmBackbone('resnet18')
