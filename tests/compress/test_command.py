"""tools/compress.py: its files, that they train, and what it refuses."""
import copy
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from commands import run_command
from mmdet.registry import MODELS
from mmengine.config import Config

from mtpd.compat.atomic_files import atomic_file
from mtpd.compat.checkpoints import read_checkpoint
from mtpd.compress import files
from mtpd.plan.detectors import load_config
from mtpd.progression import make_plan

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / 'tools' / 'compress.py'


def test_a_detector_is_sliced_and_trained(mine):
    folder, teachers = mine
    out = folder / 'half'
    swin = teachers.swin
    done = run_command(
        TOOL, 'my.py', 'my.pth', '--width', .5, '--out', 'half', '--ap', 10,
        '--teacher', f'swin={swin.config},{swin.checkpoint},30', cwd=folder)
    assert done.returncode == 0, done.stderr
    assert 'Batch norms measured on 24 training images.' in done.stdout
    assert {path.name for path in out.iterdir()} == {
        'my_half.py', 'my_half_start.pth', 'my_half_mtpd.py'}

    cfg = Config.fromfile(str(out / 'my_half.py'))
    assert 'mtpd' not in cfg.pretty_text
    assert cfg.model.backbone.base_channels == 4
    assert cfg.load_from == str(out / 'my_half_start.pth')
    assert cfg.work_dir == str(folder / 'work' / 'my_half')
    content = torch.load(out / 'my_half_start.pth', weights_only=True)
    assert content['meta']['dataset_meta']['classes'][0] == 'disc'
    detector = MODELS.build(copy.deepcopy(cfg.model))
    detector.load_state_dict(content['state_dict'], strict=True)

    taught = load_config(str(out / 'my_half_mtpd.py'))
    assert taught.mtpd.order == 'bgs' and taught.load_from is None
    assert list(taught.mtpd.teachers) == ['original', 'swin']
    assert taught.mtpd.teachers.original.ap == 10
    assert taught.mtpd.distill == dict(
        type='FeatureL2Loss', normalise=True, loss_weight=dict(share=1))
    trained = run_command(
        REPOSITORY / 'tools' / 'train.py', out / 'my_half_mtpd.py',
        '--cfg-options', 'mtpd.order=original', 'train_cfg.max_epochs=1',
        cwd=folder)
    assert trained.returncode == 0, trained.stderr
    work = folder / 'work' / 'my_half_mtpd'
    student = read_checkpoint(str(work / 'student.pth'))['state_dict']
    assert student.keys() == content['state_dict'].keys()
    key = 'backbone.layer1.0.conv1.weight'
    assert not torch.equal(student[key], content['state_dict'][key])


def test_batch_norms_have_the_statistics_of_the_training_images(mine, tool):
    folder, _ = mine
    tool('my.py', 'my.pth', '--width', .75, '--out', folder / 'w', '--images',
         8)
    cfg = Config.fromfile(str(folder / 'w' / 'my_w75.py'))
    detector = MODELS.build(copy.deepcopy(cfg.model))
    weights = read_checkpoint(cfg.load_from)['state_dict']
    detector.load_state_dict(weights)
    from mtpd.search.images import Images
    images = Images(cfg)
    pixels = [next(images.load([[i]])).views[1][0] for i in images.spread(8)]
    data = detector.data_preprocessor(dict(inputs=pixels, data_samples=None))
    with torch.no_grad():
        out = detector.backbone.conv1(data['inputs'])
    torch.testing.assert_close(weights['backbone.bn1.running_mean'],
                               out.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weights['backbone.bn1.running_var'],
                               out.transpose(0, 1).flatten(1).var(1),
                               rtol=1e-4, atol=1e-4)


def test_nothing_that_is_read_is_written_over(mine, tool, tmp_path):
    folder, teachers = mine
    for name in ('my.py', 'my.pth'):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    weights = tmp_path / 'my.pth'
    (tmp_path / 'base.py').write_text("_base_ = 'my_half.py'\n")
    (tmp_path / 'my_half.py').write_text("_base_ = 'my.py'\n")
    swin = teachers.swin
    (tmp_path / 'swin.py').write_text(Path(swin.config).read_text())
    (tmp_path / 'my_half_mtpd.py').symlink_to(swin.checkpoint)
    cases = (
        ('my_half_start.pth', 'my.py', 'my_half_start.pth', '--width', .5),
        ('my_half.py', 'my.py', 'my.pth', '--width', .5, '--teacher',
         f'a={tmp_path}/base.py,{weights}'),
        ('my_half_mtpd.py', 'my.py', 'my.pth', '--width', .5, '--teacher',
         f'a={tmp_path}/swin.py,{tmp_path}/my_half_mtpd.py'),
        ('my_lowrank_start.pth', 'my.py', 'my_lowrank_start.pth',
         '--conv-cfg', 'LowRankConv2d'),
        ('my_plain.pth', 'layered.py', 'my_plain.pth', '--merge'))
    for path, config, checkpoint, *words in cases:
        if not (tmp_path / path).exists():
            # The same file by another name.
            (tmp_path / path).symlink_to(
                tmp_path / 'swin.py' if path.endswith('.py') else weights)
        if '--merge' in words:
            cfg = Config.fromfile(str(tmp_path / 'my.py'))
            cfg.model.backbone.conv_cfg = dict(type='BinaryWeightConv2d')
            (tmp_path / 'my').mkdir()
            cfg.dump(str(tmp_path / 'my' / 'my.py'))
            config = 'my/my.py'
            layered = MODELS.build(cfg.model).state_dict()
            torch.save(dict(state_dict=layered), weights)
        before = {one.name: one.read_bytes() for one in tmp_path.iterdir()
                  if one.is_file()}
        with pytest.raises(SystemExit, match=f'{path} would be written over '
                           'itself, as it is read too') as error:
            tool(tmp_path / config, tmp_path / checkpoint, *words, '--out',
                 tmp_path, '--overwrite')
        assert 'Traceback' not in str(error.value)
        assert before == {one.name: one.read_bytes()
                          for one in tmp_path.iterdir() if one.is_file()}


def test_what_stands_beside_the_model_is_kept(mine, tool, tmp_path,
                                              monkeypatch):
    """A data_preprocessor of the whole config, and an import as one name."""
    folder, _ = mine
    out = tmp_path / "Ann's slices"
    cfg = Config.fromfile(str(folder / 'my.py'))
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    cfg.custom_imports = dict(imports='json', allow_failed_imports=False)
    cfg.dump(str(tmp_path / 'above.py'))
    for words in (['--width', .5], ['--conv-cfg', 'LowRankConv2d']):
        tool(tmp_path / 'above.py', 'my.pth', *words, '--images', 8, '--out',
             out)
    monkeypatch.chdir(tmp_path.parent)  # no path depends on the call's folder
    tool(out / 'above_lowrank.py', out / 'above_lowrank_start.pth', '--merge')
    for name in ('half', 'half_mtpd', 'lowrank', 'lowrank_plain'):
        made = Config.fromfile(str(out / f'above_{name}.py'))
        plain = name in ('half', 'lowrank_plain')
        assert made.custom_imports == dict(
            imports='json' if name == 'half' else ['json'] + ['mtpd'] * (
                not plain), allow_failed_imports=False)
        assert made.data_preprocessor == cfg.data_preprocessor
        if name != 'lowrank_plain':
            assert 'data_preprocessor' not in made.model
        weights = name.replace('_mtpd', '') + '_start.pth' \
            if name != 'lowrank_plain' else 'lowrank_plain.pth'
        if name == 'half_mtpd':
            assert made.load_from is None
            continue
        assert made.load_from == str(out / f'above_{weights}')
        MODELS.build(made.model).load_state_dict(
            read_checkpoint(made.load_from)['state_dict'], strict=True)


def written(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob('*')
                  if 'work' not in path.parts and path.is_file())


def without(folder, name, **changes):
    """my.py with other settings."""
    cfg = Config.fromfile(str(folder / 'my.py'))
    cfg.merge_from_dict(changes)
    cfg.dump(str(folder / name))
    return name


WRONG = {
    'no config': (['our.py', 'my.pth', '--width', .5], 'There is no config '
                  'our.py'),
    'no checkpoint': (['my.py', 'our.pth', '--width', .5], 'There is no '
                      'file our.pth'),
    'width': (['my.py', 'my.pth', '--width', 0], 'The width is 0; it has to '
              'be above 0'),
    'budget': (['my.py', 'my.pth', '--budget-params', 10], 'The nearest, '
               'with 5% of the channels, has'),
    'other architecture': (['my.py', 'WIDE', '--width', .5], 'is not a '
                           'checkpoint of this RetinaNet'),
    'folder': (['my.py', 'my.pth', '--width', .5, '--out', 'my.py/x'],
               '--out my.py/x cannot be written'),
    'no teacher': (['my.py', 'my.pth', '--width', .5, '--teacher',
                    'big=big.py,big.pth'], '--teacher big: There is no config '
                   'big.py'),
    'weights of another teacher': (
        ['my.py', 'my.pth', '--width', .5, '--teacher', 'big=my.py,WIDE'],
        'big: --teacher big.checkpoint: .* is not a checkpoint of this'),
    'no backbone': (['SEMI', 'my.pth', '--width', .5], 'model is a '
                    'SoftTeacher without a backbone of its own. Name'),
    'taken name': (['my.py', 'my.pth', '--width', .5, '--teacher',
                    'student=my.py,my.pth'], 'this name is taken'),
    'mixed AP': (['my.py', 'my.pth', '--width', .5, '--teacher',
                  'big=my.py,my.pth,40'], 'An AP is given for some'),
    'depth': (['my.py', 'my.pth', '--depth', 34], 'no stage of the original '
              'is twice as deep'),
    'kind of depth': (['my.py', 'my.pth', '--depth', 50], 'Choose a depth of '
                      'the same kind|no stage of the original'),
    'no such depth': (['my.py', 'my.pth', '--depth', 20], '--depth 20: '
                      'model.backbone is a ResNet, which has one of the '
                      'depths 18, 34, 50, 101, 152'),
    'images': (['NO_IMAGES', 'my.pth', '--width', .5], 'there is no folder'),
    'no data': (['NO_DATA', 'my.pth', '--width', .5], 'train_dataloader is '
                'not set'),
    'progression': (['MTPD', 'my.pth', '--width', .5], 'is the config of a '
                    'progression')}


@pytest.mark.parametrize('case', WRONG)
def test_what_is_wrong_is_said_and_nothing_is_written(case, mine, tool,
                                                      tmp_path):
    folder, teachers = mine
    words, message = WRONG[case]
    made = {'WIDE': lambda: teachers.wide.checkpoint,
            'NO_IMAGES': lambda: without(folder, 'no_images.py', **{
                'train_dataloader.dataset.data_prefix.img': 'gone/'}),
            'NO_DATA': lambda: without(folder, 'no_data.py',
                                       train_dataloader=None),
            'SEMI': lambda: without(folder, 'semi.py', model=dict(
                _delete_=True, type='SoftTeacher', detector=dict())),
            'MTPD': lambda: without(folder, 'progression.py',
                                    mtpd=dict(order='bgs'))}
    for word, make in made.items():
        words = [str(one).replace(word, make()) if word in str(one) else one
                 for one in words]
    before = written(folder)
    if '--out' not in words:
        words += ['--out', 'new']
    with pytest.raises(SystemExit) as error:
        tool(*words)
    assert error.match(message) and 'Traceback' not in str(error.value)
    assert written(folder) == before and not (folder / 'new').exists()


NOT_FINITE = {
    **{f'--budget-{flag} {value}': (['--budget-' + flag, value], 'number '
                                    'above 0, and finite')
       for flag in ('params', 'mb', 'ms') for value in ('nan', 'inf', '0')},
    **{f'--ap {value}': (['--width', .5, '--ap', value], 'percentage from 0 '
                         'to 100') for value in ('nan', 'inf', '-1', '101')},
    '--teacher': (['--width', .5, '--teacher', 'a=b.py,c.pth,nan'],
                  'nan in a=b.py,c.pth,nan is no AP in percent'),
    '--teacher class': (['--width', .5, '--teacher', 'class=b.py,c.pth'],
                        'class=b.py,c.pth is not NAME=CONFIG')}


def test_numbers_are_finite_and_possible(tool, capsys):
    for flag, (words, message) in NOT_FINITE.items():
        with pytest.raises(SystemExit, match='2'):
            tool('my.py', 'my.pth', *words, '--out', 'new')
        said = capsys.readouterr().err
        assert message in said and f'argument {flag.split()[0]}:' in said


def test_files_are_not_replaced_and_written_together(mine, tool, monkeypatch,
                                                     tmp_path):
    (tmp_path / 'my_half.py').write_text('mine')
    with pytest.raises(SystemExit, match='my_half.py exists already. Add '
                       '--overwrite'):
        tool('my.py', 'my.pth', '--width', .5, '--out', tmp_path)
    (tmp_path / 'folder' / 'my_half_start.pth').mkdir(parents=True)
    with pytest.raises(SystemExit, match='my_half_start.pth is a folder'):
        tool('my.py', 'my.pth', '--width', .5, '--out', tmp_path / 'folder',
             '--overwrite')
    shutil.rmtree(tmp_path / 'folder')
    # What is wrong with the files that are read comes first.
    other = read_checkpoint('my.pth')
    key = 'neck.fpn_convs.0.conv.weight'
    torch.save(dict(state_dict={**other['state_dict'], key: other[
        'state_dict'][key] * float('nan')}), tmp_path / 'other.pth')
    for words in (['--width', .5], ['--conv-cfg', 'LowRankConv2d']):
        with pytest.raises(SystemExit, match=f'{key} holds numbers that are '
                           'not finite'):
            tool('my.py', tmp_path / 'other.pth', *words, '--out',
                 tmp_path / 'new')
    assert not (tmp_path / 'new').exists()
    del other['state_dict']['neck.fpn_convs.0.conv.weight']
    torch.save(other, tmp_path / 'other.pth')
    for words in (['--width', .5], ['--conv-cfg', 'LowRankConv2d']):
        (tmp_path / 'my_lowrank.py').touch()
        with pytest.raises(SystemExit, match='is not a checkpoint of this'):
            tool('my.py', tmp_path / 'other.pth', *words, '--out', tmp_path)
    (tmp_path / 'my_lowrank.py').unlink()
    (tmp_path / 'other.pth').unlink()

    def full(path):
        if path.endswith('_mtpd.py'):
            raise OSError(28, 'No space left on device')
        return atomic_file(path)

    monkeypatch.setattr(files, 'atomic_file', full)
    with pytest.raises(SystemExit, match='No space left'):
        tool('my.py', 'my.pth', '--width', .5, '--out', tmp_path,
             '--overwrite')
    assert [p.name for p in tmp_path.iterdir()] == ['my_half.py']
    assert (tmp_path / 'my_half.py').read_text() == 'mine'


def test_without_torch_pruning_the_command_is_named(mine, tool, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch_pruning', None)
    with pytest.raises(SystemExit, match='pip install torch-pruning .the'):
        tool('my.py', 'my.pth', '--width', .5, '--out', 'new')


def test_depth_leaves_out_every_second_block(mine, tool):
    folder, _ = mine
    name = without(folder, 'deep.py', **{'model.backbone.depth': 34})
    deep = MODELS.build(Config.fromfile(str(folder / name)).model)
    torch.save(dict(state_dict=deep.state_dict()), folder / 'deep.pth')
    tool(name, 'deep.pth', '--depth', 18, '--images', 8, '--out', 'shallow')
    cfg = Config.fromfile(str(folder / 'shallow' / 'deep_d18.py'))
    assert cfg.model.backbone.depth == 18
    weights = read_checkpoint(cfg.load_from)['state_dict']
    MODELS.build(cfg.model).load_state_dict(weights, strict=True)
    for key, value in deep.state_dict().items():
        if 'running' in key or 'num_batches' in key:
            continue  # measured anew
        # Stages of 3, 4, 6 and 3 blocks keep the first and the third.
        stage, block = re.search(r'layer(\d)\.(\d)', key).groups() \
            if 'layer' in key else ('', '0')
        if block in '02':
            shallow = key.replace(f'layer{stage}.2', f'layer{stage}.1')
            assert torch.equal(weights[shallow], value), key
    # As the widest within a budget, it has all its channels.
    count = sum(one.numel() for one in MODELS.build(cfg.model).parameters())
    for limit in (count, count - 1):
        tool(name, 'deep.pth', '--depth', 18, '--budget-params', limit,
             '--images', 8, '--out', 'budget')
    made = {path.stem for path in (folder / 'budget').glob('*.py')
            if not path.stem.endswith('mtpd')}
    # 97% of the neck's 16 channels are 16, after rounding; 96% are 15.
    assert made == {'deep_d18', 'deep_d18_w96'}


def test_paths_lead_on_through_links_and_from_names_with_spaces(
        mine, tool, tmp_path, capsys):
    folder, _ = mine
    far = tmp_path / 'far' / 'away' / 'x'
    far.mkdir(parents=True)
    (folder / 'linked').symlink_to(far)
    tool('my.py', 'my.pth', '--width', .5, '--out', 'linked/my small')
    said = capsys.readouterr().out
    assert "python tools/train.py 'linked/my small/my_half_mtpd.py'" in said
    written = folder / 'linked' / 'my small'
    taught = load_config(str(written / 'my_half_mtpd.py'))
    assert taught.model.backbone.base_channels == 4
    plan = make_plan(taught)
    for path in (plan.student.checkpoint, plan.teachers['original'].checkpoint,
                 plan.teachers['original'].config.filename):
        assert Path(path).is_file()


@pytest.mark.parametrize('name', ['"q"', """it's "x\"""", 'a\\b', "o'x"])
def test_a_folder_may_have_any_name(mine, tool, tmp_path, name):
    tool('my.py', 'my.pth', '--width', .5, '--images', 4, '--out',
         tmp_path / name)
    made = Config.fromfile(str(tmp_path / name / 'my_half.py'))
    assert Path(made.load_from) == tmp_path / name / 'my_half_start.pth'


def test_what_cannot_be_read_back_is_not_left(mine, tool, tmp_path,
                                              monkeypatch):
    monkeypatch.setattr(files, 'load_from', lambda weights: 'load_from = "')
    with pytest.raises(SystemExit, match='removed again: .*my_half.py cannot '
                       'be read as a config'):
        tool('my.py', 'my.pth', '--width', .5, '--images', 4, '--out',
             tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_a_resumed_run_dumped_begins_anew(mine, tool):
    folder, _ = mine
    (folder / 'resumed.py').write_text(
        "_base_ = 'my.py'\nresume = True\n"
        "optim_wrapper = dict(clip_grad=dict(max_norm=float('inf')))\n")
    tool('resumed.py', 'my.pth', '--width', .5, '--out', 'anew')
    for name in 'resumed_half.py', 'resumed_half_mtpd.py':
        cfg = load_config(str(folder / 'anew' / name))
        assert cfg.resume is False
        assert cfg.optim_wrapper.clip_grad.max_norm == float('inf')


@pytest.mark.parametrize('words', [
    ['--compare', 'work', '--out', 'x'], ['--compare', 'work', '--width', .3],
    ['--compare', 'work', '--overwrite'],
    ['my.py', 'my.pth', '--merge', '--images', 5],
    ['my.py', 'my.pth', '--merge', '--ap', 50]])
def test_flags_that_would_do_nothing_are_refused(tool, capsys, words):
    with pytest.raises(SystemExit) as error:
        tool(*words)
    assert error.value.code == 2
    assert re.search('stands alone|does nothing', capsys.readouterr().err)


def test_a_home_folder_may_be_written_short(mine, tool, monkeypatch,
                                            tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    tool('my.py', 'my.pth', '--width', .5, '--out=~/made')
    assert (tmp_path / 'made' / 'my_half.py').is_file()
    assert not (mine[0] / '~').exists()
