"""tools/pack.py: its files, what reads them, and what it refuses."""
import io
import lzma
import os
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mtpd.compat.checkpoints import CorruptCheckpoint, read_checkpoint
from mtpd.compress.calibrate import recalibrate
from mtpd.compress.layers.binary import binary_weights
from mtpd.distill.detector import build_detector
from mtpd.randomness import isolate_rng

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / 'tools' / 'pack.py'


@pytest.fixture(scope='module')
def mine(toy_in, tmp_path_factory):
    """A folder with my.py and my.pth, as a Runner leaves it: the weights
    beside the state of a training."""
    folder = tmp_path_factory.mktemp('mine')
    cfg = toy_in(folder / 'work' / 'my')
    student = cfg.pop('mtpd').student.checkpoint
    cfg.dump(str(folder / 'my.py'))
    content = torch.load(student, weights_only=True)
    content['meta'].update(epoch=8, cfg='model = ...')
    content['optimizer'] = dict(state={}, param_groups=[])
    content['ema_state_dict'] = dict(steps=torch.tensor(3))
    torch.save(content, folder / 'my.pth')
    return folder


@pytest.fixture
def tool(monkeypatch, mine, capsys):
    def run(*words, of=TOOL):
        monkeypatch.setattr(sys, 'argv', [str(of), *map(str, words)])
        monkeypatch.chdir(mine)
        runpy.run_path(str(of), run_name='__main__')
        return capsys.readouterr().out
    return run


def refused(tool, capsys, *words) -> str:
    """What the tool says instead of writing anything."""
    before = sorted(os.listdir())
    with pytest.raises(SystemExit) as stop:
        tool(*words)
    assert sorted(os.listdir()) == before
    return ' '.join(f'{stop.value} {capsys.readouterr().err}'.split())


@pytest.fixture(scope='module')
def layered(mine, toy_in):
    """layered(type): config and checkpoint of a detector whose backbone has
    other convolutions."""
    def make(kind: str) -> tuple[Path, Path]:
        cfg = toy_in(mine / 'work' / kind)
        cfg.pop('mtpd')
        cfg.model.backbone.conv_cfg = dict(type=kind, plain_channels=3)
        config, weights = mine / f'{kind}.py', mine / f'{kind}.pth'
        cfg.custom_imports = dict(imports=['mtpd'])
        cfg.dump(str(config))
        with isolate_rng(0):
            detector = MODELS.build(cfg.model)
            detector.init_weights()
        torch.save(dict(state_dict=detector.state_dict()), weights)
        return config, weights
    return make


@pytest.mark.parametrize('kind', ['BinaryWeightConv2d', 'XNORConv2d'])
def test_binary_layers_keep_their_signs(layered, tool, mine, kind):
    """What they compute with, also after pruning and with few values."""
    config, weights = layered(kind)
    said = tool(weights, '--bits', 3, '--prune', .3, '--config', config,
                '--out', f'{kind}_packed.pth')
    before = torch.load(weights, weights_only=True)['state_dict']
    after = torch.load(mine / f'{kind}_packed.pth',
                       weights_only=True)['state_dict']
    model = MODELS.build(Config.fromfile(config).model)
    layers = [name for name, layer in model.named_modules()
              if getattr(layer, 'takes_signs', False)]
    assert len(layers) == 19  # all of a ResNet-18 but the first
    assert 'The weights of 19 binary layers are stored as signs' in said
    for name in layers:
        expected, found = (binary_weights(one[f'{name}.weight'].float())
                           for one in (before, after))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)
        torch.testing.assert_close(after[f'{name}.weight'].float(), found,
                                   rtol=1e-3, atol=1e-7)
    values = after['bbox_head.retina_cls.weight']
    assert len(values.unique()) <= 8 and (values == 0).any()


def test_factors_of_low_rank_layers_share_values(layered, tool, mine):
    config, weights = layered('LowRankConv2d')
    tool(weights, '--bits', 3, '--out', 'low_packed.pth')
    after = torch.load(mine / 'low_packed.pth',
                       weights_only=True)['state_dict']
    factors = [key for key in after if key.endswith(('.first', '.second'))]
    assert len(factors) == 2 * 19 + 1  # the first is plain
    for key in factors:
        assert len(after[key].unique()) <= 8


def test_a_checkpoint_alone(mine, tool):
    said = tool('my.pth', '--bits', 3, '--prune', .3, '--out', 'alone.pth')
    before = torch.load(mine / 'my.pth', weights_only=True)
    after = torch.load(mine / 'alone.pth', weights_only=True)
    assert after['meta']['epoch'] == 8
    assert after['meta']['dataset_meta']['classes'][0] == 'disc'
    assert after.keys() == {'meta', 'state_dict'}
    assert 'only training needs it: ema_state_dict, optimizer' in said
    assert 'Batch norms were not measured anew' in said
    assert after['state_dict'].keys() == before['state_dict'].keys()
    zeros = count = tensors = 0
    for key, value in after['state_dict'].items():
        old = before['state_dict'][key]
        if key.endswith('weight') and value.dim() > 1:
            assert value.dtype == torch.half
            assert len(value.unique()) <= 8
            assert (value == 0).sum() == int(.3 * old.numel())
            assert old[value == 0].abs().max() < old[value != 0].abs().min()
            assert (value - old).abs().mean() < .3 * old.abs().mean()
            zeros, count = zeros + (value == 0).sum(), count + value.numel()
            tensors += 1
        else:
            assert torch.equal(value, old.half() if old.is_floating_point()
                               else old)
    assert f'{tensors} of {len(before["state_dict"])} tensors' in said
    assert f'{100 * zeros / count:.1f}% of their weights are zero' in said

    # The table has the sizes of the files; they are equal in content.
    plain = (mine / 'alone.pth').read_bytes()
    packed = (mine / 'alone.pth.xz').read_bytes()
    assert lzma.decompress(packed) == plain
    whole = 4 * sum(v.numel() for v in before['state_dict'].values())
    assert f'{whole:,}' in said and f'{len(plain):,}' in said
    assert f'{len(packed):,}' in said and f'{whole / len(packed):.2f}' in said
    assert len(packed) < whole / 6
    assert 'alone.pth' in tool('alone.pth.xz', '--overwrite')
    assert (mine / 'alone.pth').read_bytes() == plain


@pytest.mark.parametrize('entry', ['model', 'ema.module', ''])
def test_what_is_left_out_are_no_weights(mine, tool, entry):
    content = torch.load(mine / 'my.pth', weights_only=True)['state_dict']
    for key in reversed(entry.split('.') if entry else []):
        content = {key: content}
    torch.save({**content, 'epoch': 3, 'optimizer': {}}, mine / 'own.pth')
    said = tool('own.pth', '--out', 'own_packed.pth', '--overwrite')
    assert 'only training needs it: epoch, optimizer\n' in said


def test_batch_norms_are_measured_anew_and_other_tools_read_it(mine, tool):
    said = tool('my.pth', '--bits', 4, '--config', 'my.py',
                '--out', 'new/n.pth')
    assert 'Batch norms measured on 24 training images.' in said
    assert 'python tools/test.py my.py new/n.pth' in said
    cfg = Config.fromfile(str(mine / 'my.py'))
    packed = torch.load(mine / 'new' / 'n.pth', weights_only=True)
    detector = MODELS.build(cfg.model)
    detector.load_state_dict(packed['state_dict'], strict=True)
    expected = MODELS.build(cfg.model)
    expected.load_state_dict(packed['state_dict'])
    recalibrate(expected, cfg, 200)
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(detector.state_dict()[key], value,
                                   rtol=2e-3, atol=1e-4)
    frames = mine / 'new' / 'frames'
    frames.mkdir()
    (frames / 'a.jpg').symlink_to(next(
        Path(cfg.train_dataloader.dataset.data_root, 'val').iterdir()))
    texts = []
    for name in ('n.pth', 'n.pth.xz'):
        tool('my.py', f'new/{name}', frames, '--out', f'new/{name}.out',
             '--threshold', .001, of=TOOL.with_name('predict.py'))
        texts.append((mine / 'new' / f'{name}.out' / 'predictions.json')
                     .read_text().replace('.xz', ''))
    assert texts[0] == texts[1] and '"box"' in texts[0]


def test_values_are_trained(mine, tool):
    words = ('my.pth', '--bits', 4, '--prune', .5)
    start = torch.load(mine / 'my.pth', weights_only=True)['state_dict']
    tool(*words, '--config', 'my.py', '--out', 'fixed.pth')
    said = tool(*words, '--fine-tune', 'my.py', '--epochs', 1, '--lr', .01,
                '--out', 'tuned.pth')
    assert 'Batch norms measured on 24 training images.' in said
    fixed, tuned = (torch.load(mine / name, weights_only=True)['state_dict']
                    for name in ('fixed.pth', 'tuned.pth'))
    assert tuned.keys() == start.keys()
    moved = 0
    for key, value in tuned.items():
        if not key.endswith('weight') or value.dim() < 2:
            continue
        zero = fixed[key] == 0
        assert zero.sum() == zero.numel() // 2
        assert (value[zero] == 0).all()
        assert len(value.unique()) <= 16
        for one in fixed[key].unique():  # no weight leaves its group
            assert len(value[fixed[key] == one].unique()) == 1
        moved += int(not torch.equal(value, fixed[key]))
    assert moved > 10
    assert not torch.equal(tuned['bbox_head.retina_cls.bias'],
                           fixed['bbox_head.retina_cls.bias'])
    again = torch.load(mine / 'my.pth', weights_only=True)['state_dict']
    assert all(torch.equal(again[key], start[key]) for key in start)


def test_a_training_that_ends_in_no_numbers(mine, tool, capsys, monkeypatch):
    def diverges(cfg, weights, books, epochs, lr):
        assert (epochs, lr) == (2, 1) and len(books) > 10
        detector = build_detector(cfg.model)
        detector.bbox_head.retina_cls.bias.data[3] = float('nan')
        return detector

    monkeypatch.setattr('mtpd.pack.packing.fine_tune', diverges)
    monkeypatch.chdir(mine)
    assert '--lr 1: the fine-tuning ended with weights that are not finite' \
        in refused(tool, capsys, 'my.pth', '--lr', 1, '--epochs', 2,
                   '--fine-tune', 'my.py', '--out', 'far.pth')


def test_a_wrong_byte_is_found(mine, tool, capsys):
    """In any place: what is read is either refused or equal."""
    torch.save(dict(state_dict={'backbone.a.weight': torch.randn(8, 12)},
                    meta=dict(dataset_meta=dict(classes=('a', 'b')))),
               mine / 'small.pth')
    tool('small.pth', '--bits', 2)
    for name, step in (('small_packed.pth', 7), ('small_packed.pth.xz', 3)):
        path = mine / name
        whole = path.read_bytes()
        good = read_checkpoint(str(path))
        refusals = 0
        places = {*range(0, len(whole), step)}
        if step == 7:  # and in the keys that say that it was packed
            for key in (b'\4\0\0\0meta', b'\6\0\0\0packed'):
                start = whole.index(key)
                places.update(range(start, start + len(key)))
        for place in sorted(places):
            torn = bytearray(whole)
            torn[place] ^= 1 << place % 8
            path.write_bytes(torn)
            try:
                found = read_checkpoint(str(path))
            except CorruptCheckpoint:
                refusals += 1
            else:
                assert found['meta'] == good['meta'], place
                key, = found['state_dict']
                assert torch.equal(found['state_dict'][key],
                                   good['state_dict'][key]), place
        assert refusals > len(places) / 4
        # Of the compressed file every byte counts.
        assert name.endswith('.pth') or refusals == len(places)

    # The mark of a folder, of which torch reads nothing.
    path = mine / 'small_packed.pth'
    torn = bytearray(path.read_bytes())
    torn[torn.rindex(b'PK\1\2', 0, torn.rindex(b'/data/0')) + 38] ^= 0x10
    path.write_bytes(torn)
    with pytest.raises(CorruptCheckpoint, match='is damaged'):
        read_checkpoint(str(path))

    torn = bytearray(whole)
    torn[len(whole) // 2] ^= 1
    (mine / 'torn.pth.xz').write_bytes(torn)
    (mine / 'short.pth.xz').write_bytes(whole[:-40])
    (mine / 'other.pth.xz').write_bytes(b'no xz')
    for name in ('torn', 'short', 'other'):
        said = refused(tool, capsys, f'{name}.pth.xz')
        assert f'{name}.pth.xz is damaged: xz finds an error or a checksum ' \
            'that does not match' in said and 'Traceback' not in said
    # Also of a checkpoint that was not packed yet, which torch itself loads.
    content = bytearray((mine / 'my.pth').read_bytes())
    content[content.find(torch.load(mine / 'my.pth', weights_only=True)[
        'state_dict']['neck.fpn_convs.0.conv.weight'].numpy().tobytes())] ^= 4
    (mine / 'torn.pth').write_bytes(content)
    torch.load(mine / 'torn.pth', weights_only=True)
    assert 'torn.pth is damaged: its checksum does not match' in refused(
        tool, capsys, 'torn.pth')


def test_files_without_checksums_are_read(mine):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(state_dict={}, meta=dict(packed=1)), mine / 'no.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    torch.save(dict(state_dict={}, meta=dict(packed=1)), mine / 'old.pth',
               _use_new_zipfile_serialization=False)
    for name in ('no.pth', 'old.pth'):
        assert read_checkpoint(str(mine / name))['meta'] == {'packed': 1}


def test_what_is_refused(mine, tool, capsys, swin_mask_rcnn, monkeypatch):
    def said(*words):
        return refused(tool, capsys, *words)

    monkeypatch.chdir(mine)
    for bits in (0, 17, -1):
        assert f'--bits is {bits}; it has to be from 1 to 16' in said(
            'my.pth', '--bits', bits)
    for prune in (1, -.1, 'nan'):
        assert '--prune is' in said('my.pth', '--prune', prune)
    for lr in (0, -1, 1.1, 'nan', 'inf'):
        assert '--lr is' in said('my.pth', '--fine-tune', 'my.py', '--lr', lr)
    for words in (['--epochs', 3], ['--config', 'my.py', '--lr', .1],
                  ['--images', 7]):
        assert re.search('--(epochs|lr|images) needs --', said(
            'my.pth', *words))
    assert 'There is no file gone.pth in' in said('gone.pth')
    assert 'There is no file gone.pth.xz' in said('gone.pth.xz')
    assert 'There is no config gone.py' in said(
        'my.pth', '--config', 'gone.py')
    assert '(2 problems)' in said('my.pth', '--bits', 0, '--prune', 1)
    (mine / 'text.pth').write_text('no checkpoint')
    assert 'text.pth is not a checkpoint of torch' in said('text.pth')
    torch.save(dict(a=1), mine / 'a.pth')
    assert "holds no weights of a detector, but ['a']" in said('a.pth')
    torch.save(dict(state_dict={'neck.a.weight': torch.full((2, 2), 1e400)}),
               mine / 'inf.pth')
    assert 'neck.a.weight holds numbers that are not finite' in said(
        'inf.pth')
    Config(dict(model=swin_mask_rcnn)).dump(str(mine / 'swin.py'))
    assert 'train_dataloader is not set' in said(
        'my.pth', '--config', 'swin.py')
    other = Config.fromfile('my.py')
    other.model.neck.out_channels = other.model.bbox_head.in_channels = 20
    other.dump('other.py')
    assert 'my.pth is not a checkpoint of this RetinaNet' in said(
        'my.pth', '--config', 'other.py')
    other.mtpd = dict(order='bgs')
    other.dump('progression.py')
    assert 'progression.py is the config of a progression' in said(
        'my.pth', '--fine-tune', 'progression.py')
    assert 'would be written over itself' in said(
        'my.pth', '--out', 'my.pth', '--overwrite')
    (mine / 'there.pth.xz').touch()
    assert 'there.pth.xz exists already. Add --overwrite' in said(
        'my.pth', '--out', 'there.pth')
    (mine / 'there.pth').touch()
    assert 'cannot be unpacked: - there.pth exists already' in said(
        'there.pth.xz')
    assert '--out new/ is no name of a file' in said(
        'there.pth.xz', '--out', 'new/')
    assert 'it has to end in .pth' in said('my.pth', '--out', 'there.onnx')
    assert 'text.pth is no folder' in said('my.pth', '--out', 'text.pth/a.pth')
    assert 'for which --bits, --prune does nothing' in said(
        'there.pth.xz', '--bits', 3, '--prune', .1)
    # The old files stay as they were if the new ones cannot be written.
    monkeypatch.setattr(os, 'fsync', lambda _: (_ for _ in ()).throw(
        OSError(28, 'No space left on device')))
    assert 'No space left' in said('my.pth', '--out', 'full.pth')


def test_one_tensor_under_two_keys_stays_one(mine, tool):
    weight = torch.randn(16, 16, 3, 3)
    torch.save(dict(state_dict={'bbox_head.a.0.weight': weight,
                                'bbox_head.a.1.weight': weight}),
               mine / 'tied.pth')
    tool('tied.pth')
    assert (mine / 'tied_packed.pth').stat().st_size < 1.5 * 2 * weight.numel()
    found = torch.load(mine / 'tied_packed.pth', weights_only=True)
    one, other = found['state_dict'].values()
    assert one.data_ptr() == other.data_ptr()
    buffer = io.BytesIO((mine / 'tied_packed.pth').read_bytes())
    assert torch.load(buffer, weights_only=True)['meta']['packed']['bits'] == 6


def test_packed_weights_are_a_teacher(mine, tool):
    tool('my.pth', '--out', 'teacher.pth')
    cfg = Config.fromfile(str(mine / 'my.py'))
    for name in ('teacher.pth', 'teacher.pth.xz'):
        detector = build_detector(cfg.model, str(mine / name))
        assert {p.dtype for p in detector.parameters()} == {torch.float}
