"""What a tool says before it imports the package, which takes seconds."""
import argparse
import os
import runpy
import subprocess
import sys
from dataclasses import fields

import pytest

from mtpd.backbones.imagenet_files import PACKAGES
from mtpd.commands.compress import BUDGETS
from mtpd.compress.calibrate import IMAGES
from mtpd.compress.layers.low_rank import SCHEMES
from mtpd.compress.layers.model import LAYERS
from mtpd.flags import (missing_config, missing_file, missing_work_dir,
                        stop_if)
from mtpd.pack import Request
from mtpd.pack.files import XZ

# Tool -> arguments of which a file or folder is not there, and what is said.
# There are here.py, here.pth and the folder work.
MISSING = {
    'analyze': (['work', 'wrk', '--out', 'out'],
                'There is no folder wrk in {0}. Did you mean work?'),
    'bgs_order': (['--from', 'her.pth', '--out', 'out', '--results', 'work'],
                  '--from: There is no file her.pth in {0}. Did you mean '
                  'here.pth?\n--results: work is a folder. Name a file in '
                  'it.'),
    'compress': (['her.py', 'her.pth', '--width', '.5', '--teacher',
                  'big=here.py,big.pth'],
                 'There is no config her.py in {0}. Did you mean here.py?\n'
                 'There is no file her.pth in {0}. Did you mean here.pth?\n'
                 '--teacher big: There is no file big.pth in {0}. Correct the '
                 'path.'),
    'compress --compare': (['--compare', 'gone', 'x/a.onnx'],
                           '--compare: There is no folder gone in {0}. Name '
                           'the work dir of a progression, which '
                           'tools/train.py writes.\n--compare: There is no '
                           'file x/a.onnx: there is no folder x in {0}.'),
    'draw_shapes': (['her.py'],
                    'There is no config her.py in {0}. Did you mean here.py?'),
    'export_onnx': (['here.py', 'her.pth', '--out', 'out.onnx'],
                    'There is no file her.pth in {0}. Did you mean here.pth?'),
    'export_student': (['her.pth', '--out', 'out.pth'],
                       'There is no file her.pth in {0}. Did you mean '
                       'here.pth?'),
    'from_scratch': (['work'], 'work is a folder. Name a config file in it.'),
    'get_weights': (['mobilenet-v2', '--file', 'her.pth'],
                    '--file: There is no file her.pth in {0}. Did you mean '
                    'here.pth?'),
    'pack': (['her.pth.xz'], 'There is no file her.pth.xz in {0}. Did you '
             'mean here.pth?'),
    'predict': (['here.py', 'here.pth', 'work', 'photos'],
                'There is no file or folder photos in {0}. Correct the path.'),
    'predict .onnx': (['a.onnx', 'b.png'], 'There is no file a.onnx in {0}. '
                      'Correct the path.\nThere is no file or folder b.png in '
                      '{0}. Correct the path.'),
    'report': (['work', '--control', 'here.py', '--config', 'her.py'],
               '--config: There is no config her.py in {0}. Did you mean '
               'here.py?\n--control: here.py is a file. Name the work dir of '
               'a progression, which tools/train.py writes.'),
    'sizes': (['here.py', 'none/*.py'], 'There is no config none/*.py: there '
              'is no folder none in {0}.'),
    'test': (['here.py', 'work'], 'work is a folder. Name a file in it.'),
    'train': (['her.py', '--resume', 'her.pth', '--dry-run'],
              'There is no config her.py in {0}. Did you mean here.py?\n'
              '--resume: There is no file or folder her.pth in {0}. Did you '
              'mean here.pth?')}
NO_FILES = {'doctor'}
ANSWERS_ITSELF = {'voc_to_coco': (['gone', '--out', 'out'], 'is missing')}


def answer(repository, folder, name, words
           ) -> tuple[subprocess.CompletedProcess[str], str]:
    """A tool in an interpreter of its own, and what it says, if it imports
    neither torch nor mmdet nor the package."""
    done = subprocess.run(
        [sys.executable, '-X', 'importtime',
         str(repository / 'tools' / f'{name.split()[0]}.py'), *words],
        cwd=folder, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    imports = [line for line in lines if line.startswith('import time:')]
    imported = {line.rpartition('|')[2].strip() for line in imports}
    assert 'argparse' in imported
    assert not imported & {'torch', 'mmdet', 'mtpd'}
    return done, '\n'.join(line for line in lines if line not in imports)


@pytest.fixture
def folder(tmp_path):
    for name in ('here.py', 'here.pth'):
        (tmp_path / name).touch()
    (tmp_path / 'work').mkdir()
    return tmp_path


def test_every_tool_is_tried(repository):
    tools = {path.stem for path in (repository / 'tools').glob('*.py')}
    assert tools == {name.split()[0] for name in MISSING} | NO_FILES \
        | ANSWERS_ITSELF.keys()


@pytest.mark.parametrize('name', [
    *(name for name in MISSING if ' ' not in name), *NO_FILES,
    *ANSWERS_ITSELF])
def test_help_needs_no_torch(name, repository, folder):
    done, said = answer(repository, folder, name, ['--help'])
    assert done.returncode == 0 and not said
    assert done.stdout.startswith(f'usage: {name}.py ')


@pytest.mark.parametrize('name', [*MISSING, *ANSWERS_ITSELF])
def test_what_is_not_there_needs_no_torch(name, repository, folder):
    words, text = {**MISSING, **ANSWERS_ITSELF}[name]
    done, said = answer(repository, folder, name, words)
    assert done.returncode == 1 and not done.stdout
    if name in MISSING:
        assert said == text.format(os.path.realpath(folder))
    else:
        assert text in said and 'Traceback' not in said
    assert not list(folder.glob('out*'))


def test_wrong_flags_need_no_torch(repository, folder):
    done, said = answer(repository, folder, 'bgs_order',
                        ['gone.py', '--out', 'out', '--strides', '8'])
    assert done.returncode == 1
    assert [line.split(':')[0] for line in said.splitlines()] == [
        '--strides has no effect here', '--out has no effect here']
    done, said = answer(repository, folder, 'compress',
                        ['here.py', 'here.pth', '--conv-cfg', 'LowRank'])
    assert done.returncode == 2 and "invalid choice: 'LowRank'" in said


def test_an_order_from_saved_costs_needs_a_folder(repository):
    wrong = runpy.run_path(str(repository / 'tools/bgs_order.py'))[
        'wrong_flags']
    given = dict.fromkeys(('config', 'saved', 'images', 'split', 'sequential',
                           'teachers', 'student', 'strides', 'out'))
    for flags, text in (
            ({}, 'Name a config, or a saved order with --from.'),
            (dict(config='a.py', saved='b.json'), 'Name a config, or'),
            (dict(saved='b.json'), '--from needs --out FOLDER'),
            (dict(saved='b.json', out='new', split='val'),
             '--split has no effect here: --from measures nothing')):
        problem, = wrong(argparse.Namespace(**{**given, **flags}))
        assert problem.startswith(text)
    assert wrong(argparse.Namespace(**{**given, 'config': 'a.py'})) == []


@pytest.mark.parametrize('name', ['here.pth', 'a.onnx', 'b.pth.xz'])
def test_weights_in_a_configs_place(folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    said = f'{name} has the ending of weights, and a config is expected here.'
    assert missing_config(name) == said
    assert missing_config(name, '--config') == f'--config: {said}'


def test_what_is_there_and_what_is_elsewhere(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv('HOME', str(folder))
    for path in (None, 'here.py', folder / 'here.py', '~/here.py',
                 'mmdet::retinanet/x.py'):
        assert missing_config(path and str(path)) == ''
    for path in (None, 'here.pth', folder / 'here.pth', '~/here.pth',
                 'https://example.org/x.pth', 'torchvision://resnet50',
                 'mmdet::x.pth', os.devnull):
        assert missing_file(path and str(path)) == ''
    assert missing_file('work', or_folder=True) == ''
    assert missing_file('~/her.pth') == (
        f'There is no file her.pth in {folder}. Did you mean ~/here.pth?')
    assert missing_file('/no such/x.pth') == (
        'There is no file /no such/x.pth: there is no folder /no such.')
    (folder / 'link.pth').symlink_to('gone.pth')
    assert missing_file('link.pth') == (
        'link.pth is a link to gone.pth, which is not there. Correct the '
        'path.')
    for path in (None, 'work', str(folder), 'work/'):
        assert missing_work_dir(path) == ''
    assert missing_work_dir('wrk/') == (
        f'There is no folder wrk in {folder}. Did you mean work?')
    monkeypatch.setattr(os, 'listdir', lambda _: (_ for _ in ()).throw(
        PermissionError))
    assert missing_file('her.pth').endswith('Correct the path.')


def test_one_message_for_each_thing_that_is_missing():
    stop_if('', '')
    with pytest.raises(SystemExit) as stop:
        stop_if('a', '', 'b', 'a')
    assert stop.value.code == 'a\nb'


def test_the_tools_name_what_the_package_has(repository):
    """Choices and defaults stand in the tools again, as they import nothing.
    """
    compress, pack, get_weights = (
        runpy.run_path(str(repository / 'tools' / f'{name}.py'))
        for name in ('compress', 'pack', 'get_weights'))
    assert compress['LAYERS'] == tuple(LAYERS)
    assert compress['SCHEMES'] == SCHEMES
    assert compress['IMAGES'] == IMAGES
    assert compress['BUDGETS'] == tuple(BUDGETS)
    defaults = {field.name: field.default for field in fields(Request)}
    assert [pack[name] for name in ('BITS', 'PRUNE', 'LR', 'IMAGES')] == [
        defaults[name] for name in ('bits', 'prune', 'lr', 'images')]
    assert pack['XZ'] == XZ
    assert get_weights['NAMES'] == tuple(PACKAGES)
