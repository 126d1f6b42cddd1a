"""What a command prints when it fails, on errors that libraries really make.
"""
import errno
import json
import os
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import HOOKS, MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from commands import run_two

from mtpd.command_line import plain_errors, read_config, parser
from mtpd.plan.errors import PlanError
from mtpd.progression import export_student
from mtpd.stage.preemption import Preempted

PNG = cv2.imencode('.png', np.random.default_rng(0).integers(
    0, 255, (64, 64, 3), dtype=np.uint8))[1].tobytes()


def message_of(fails, config=None) -> str:
    with pytest.raises(SystemExit) as end, plain_errors() as command:
        command.config = None if config is None else Config(config)
        fails()
    return end.value.code


def saved_by(message: str) -> str:
    path = re.search(r'The traceback is in (\S+)\.(\n|$)', message)[1]
    with open(path) as file:
        return file.read()


def loader(folder, content: bytes, workers=0, with_mask=False, **changes):
    (folder / 'one.png').write_bytes(content)
    (folder / 'one.json').write_text(json.dumps(dict(
        images=[dict(id=1, file_name='one.png', width=64, height=64)],
        annotations=[dict(id=1, image_id=1, category_id=1, iscrowd=0,
                          bbox=[1, 1, 9, 9], area=81)],
        categories=[dict(id=1, name='disc')])))
    return Runner.build_dataloader(dict(
        batch_size=1, num_workers=workers,
        sampler=dict(type='DefaultSampler', shuffle=False, seed=0),
        dataset=dict(
            type='CocoDataset', data_root=str(folder), ann_file='one.json',
            data_prefix=dict(img=''), metainfo=dict(classes=('disc',)),
            pipeline=[dict(type='LoadImageFromFile'),
                      dict(type='LoadAnnotations', with_bbox=True,
                           with_mask=with_mask),
                      dict(type='PackDetInputs')]), **changes))


@pytest.mark.parametrize('content, workers', [
    (b'', 0), (b'', 1), (b'no image', 0), (PNG[:500], 0), (PNG[:500], 1)])
@pytest.mark.skipif(sys.version_info < (3, 11), reason='errors have no notes')
def test_an_image_that_cannot_be_read_is_named(tmp_path, content, workers):
    message = message_of(lambda: list(loader(tmp_path, content, workers)))
    assert message.startswith(
        f'The image {tmp_path}/one.png cannot be used: the step '
        'LoadImageFromFile of the pipeline ends with ')
    assert 'Replace the file' in message
    assert 'LoadImageFromFile' in saved_by(message)


@pytest.mark.skipif(sys.version_info < (3, 11), reason='errors have no notes')
def test_annotations_without_masks_are_named(tmp_path):
    for workers in (0, 1):
        message = message_of(lambda: list(loader(
            tmp_path, PNG, workers, with_mask=True)))
        assert f"{tmp_path}/one.png" in message
        assert "KeyError: 'mask'. Its annotations have no mask" in message


def raised(error):
    def fails():
        raise error
    return fails


@pytest.mark.parametrize('error, words', [
    (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.'),
     'memory of the GPU is full. Reduce train_dataloader.batch_size .*Tried'),
    (RuntimeError('[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: '
                  "can't allocate memory"), "computer's memory is full"),
    (MemoryError(), "computer's memory is full"),
    (RuntimeError('DataLoader worker (pid 5) is killed by signal: Bus error. '
                  'It is possible that'), 'shared memory. Set num_workers=0'),
    (RuntimeError('DataLoader worker (pid 5) is killed by signal: Killed. '),
     'ended by the signal Killed'),
    (OSError(errno.ENOSPC, 'No space left on device', 'a.json'),
     'OSError: a.json: No space left on device. Free some space'),
    (PermissionError(errno.EACCES, 'Permission denied', 'a.json'),
     'PermissionError: a.json: Permission denied. Change its permissions'),
    (FileNotFoundError(errno.ENOENT, 'No such file or directory', 'a.json'),
     'a.json: No such file or directory'),
    (OSError(errno.EMFILE, 'Too many open files'),
     'OSError: Too many open files. Raise the limit'),
    (KeyError('RANK'), 'The variable RANK is not set, which --launcher needs'),
    (ModuleNotFoundError("No module named 'wandb'"),
     "No module named 'wandb'. Install the package"),
    (ImportError('Please run "pip install sklearn" to install sklearn first.'),
     'needs the package scikit-learn.*Install it: pip install scikit-learn'),
    (AttributeError("'ConfigDict' object has no attribute 'val_cfg'"),
     "has no key 'val_cfg'"),
    (AttributeError("'InstanceData' object has no attribute 'masks'"),
     'Set with_mask=True')])
def test_errors_are_known_also_through_others(error, words):
    def around():
        try:
            raise error
        except type(error):
            raise SyntaxError('Failed to format')  # noqa: B904  as mmengine

    for fails in (raised(error), around):
        message = message_of(fails)
        assert re.search(words, message), message
        assert 'Traceback' not in message and 'Traceback' in saved_by(message)


def test_wrong_types_and_settings_are_found_in_the_config(tmp_path):
    teacher = tmp_path / 'teacher.py'
    teacher.write_text("model = dict(neck=dict(type='ChannelMaper'))\n")
    config = dict(
        model=dict(neck=dict(type='FPN', in_chanels=[8]),
                   heads=[dict(type='RetinaHed')]),
        mtpd=dict(teachers=dict(one=dict(config=str(teacher)))))
    for part, words in (
            (dict(type='RetinaHed'), "'RetinaHed' of model.heads.0 is no "
             "registered model; did you mean 'RetinaHead'?"),
            (dict(type='ChannelMaper'), "'ChannelMaper' of mtpd.teachers.one"
             '.config: model.neck '
             "is no registered model; did you mean 'ChannelMapper'?"),
            (dict(type='FPN', in_chanels=[8]), 'model.neck: FPN cannot be '
             'made with these settings: TypeError: ')):
        assert words in message_of(lambda: MODELS.build(part), config)
    assert 'no registered hook; did you mean' in message_of(
        lambda: HOOKS.build(dict(type='EMAHok')))
    # Not the config's: a mistake of a program.
    message = message_of(lambda: MODELS.build(dict(type='FPN', x=1)), {})
    assert message.startswith('Unexpected error.')
    assert message.splitlines()[-1].startswith('TypeError: FPN')


def test_loaders_that_pytorch_refuses(tmp_path):
    message = message_of(
        lambda: loader(tmp_path, PNG, persistent_workers=True))
    assert 'persistent_workers option needs num_workers > 0' in message
    assert 'Check num_workers' in message


def test_an_export_onto_a_folder(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict={'backbone.a': torch.ones(1)}), path)
    (tmp_path / 'out').mkdir()
    message = message_of(lambda: export_student(str(path),
                                                str(tmp_path / 'out')))
    assert f'{tmp_path}/out: Is a directory. This is a folder' in message
    assert sorted(os.listdir(tmp_path)) == ['a.pth', 'out']


def test_what_is_not_known_names_a_file_in_the_work_dir(tmp_path):
    message = message_of(lambda: 1 / 0, dict(work_dir=str(tmp_path)))
    assert message.splitlines()[-1] == 'ZeroDivisionError: division by zero'
    assert str(tmp_path) in message
    assert 'Traceback (most recent call last)' in saved_by(message)
    # No folder is made for it.
    message = message_of(lambda: 1 / 0, dict(work_dir=str(tmp_path / 'no')))
    assert not (tmp_path / 'no').exists() and saved_by(message)


def test_codes_of_other_ends_stay():
    for end, code in ((Preempted(), 75), (SystemExit(3), 3)):
        with pytest.raises(SystemExit) as stop, plain_errors():
            raise end
        assert stop.value.code == code
    own = message_of(raised(PlanError(['a is 1.'])))
    assert own == 'PlanError: Cannot start:\n  - a is 1.'


def test_ctrl_c_ends_with_one_line(repository):
    """By the signal, so that a loop in the shell ends too."""
    done = subprocess.run(
        [sys.executable, '-c', 'from mtpd.command_line import plain_errors\n'
         'with plain_errors():\n    raise KeyboardInterrupt'],
        cwd=repository, capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.splitlines()[-1] == 'Interrupted.'
    assert 'Traceback' not in done.stderr


def test_a_work_dir_below_home_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    path = tmp_path / 'a.py'
    path.write_text("work_dir = '~/runs/a'")
    cfg = read_config(parser('x').parse_args([str(path)]))
    assert cfg.work_dir == f'{tmp_path}/runs/a'


def test_a_config_that_is_no_config(tmp_path):
    path = tmp_path / 'a.py'
    flags = parser('x')
    for text, words, more in (
            ('a = 1 +', 'a.py cannot be read as a config .SyntaxError', []),
            ('a = 1\n2 / 0', 'cannot be read as a config .ZeroDivisionError: '
             'division by zero, in .*a.py, line 2', []),
            ('a = b', "a.py cannot be read as a config .NameError", []),
            ('a = 1', '--cfg-options does not go with the config',
             ['--cfg-options', 'a.b.c=1'])):
        path.write_text(text)
        with pytest.raises(PlanError, match=words):
            read_config(flags.parse_args([str(path), *more]))


@pytest.mark.parametrize('module, words', [
    ('def scale():\n    return 1 / 0\nSCALE = scale()\n',
     'ZeroDivisionError: division by zero, in {}, line 2). Correct the'),
    ('import json\njson.loads("(")\n', ', in {}, line 2). Correct the'),
    ('import no_such_package\n', "No module named 'no_such_package', in {}, "
     'line 1). Install the package'),
    ('a = (\n', "SyntaxError: '(' was never closed (own_module.py, line 1)"),
    (None, "No module named 'own_module'). Correct its name, or run")])
@pytest.mark.parametrize('head', ['', 'import torch\n'])
def test_a_module_of_the_config_that_fails_is_named(
        tmp_path, monkeypatch, module, words, head):
    """With ``import torch`` it is a pure-Python config, whose modules mmengine
    does not import."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'own_module', raising=False)
    file, path = tmp_path / 'own_module.py', tmp_path / 'a.py'
    if module is not None:
        file.write_text(module)
    path.write_text(f"{head}custom_imports = dict(imports=['own_module'])\n")
    with pytest.raises(PlanError) as error:
        read_config(parser('x').parse_args([str(path)]))
    problem, = error.value.problems
    assert problem.startswith(f'custom_imports of {path}: the module '
                              "'own_module' cannot be imported (")
    assert words.format(file) in problem


@pytest.mark.parametrize('given, meant', [
    ("['mtpd']", "; did you mean dict(imports=['mtpd'])?"),
    ("'mtpd'", "; did you mean dict(imports=['mtpd'])?"),
    ("dict(import_=['mtpd'])", '.'), ("dict(imports=[7])", '.')])
def test_custom_imports_of_another_form(tmp_path, given, meant):
    path = tmp_path / 'a.py'
    for head in ('', 'import torch\n'):
        path.write_text(f'{head}custom_imports = {given}\n')
        with pytest.raises(PlanError) as error:
            read_config(parser('x').parse_args([str(path)]))
        assert error.value.problems == [
            f'custom_imports of {path} is {given}; it has to be '
            "dict(imports=['MODULE', ...], allow_failed_imports=False)"
            f'{meant}']


FAILS = '''
import sys
from mmengine.config import Config
from mmengine.dist import barrier, get_rank
from mtpd.command_line import plain_errors
from mtpd.compat.processes import init_processes
from mtpd.processes import on_main

class Unsendable(Exception):
    def __init__(self, one, two):
        super().__init__(f'{one} and {two}')

def fails():
    raise Unsendable(1, 2)

with plain_errors():
    init_processes(Config(dict(launcher='pytorch')))
    if sys.argv[1] == 'main':
        on_main(fails)
    if get_rank() == 1:
        raise ZeroDivisionError('only here')
    barrier()
'''


def test_of_two_processes_the_failing_one_speaks(tmp_path):
    (tmp_path / 'fails.py').write_text(FAILS)
    first, second = run_two(tmp_path / 'fails.py', 'main', cwd=tmp_path)
    assert (first.returncode, second.returncode) == (1, 1)
    assert first.stderr.splitlines()[-1] == 'Process 0: Unsendable: 1 and 2'
    assert 'Process' not in second.stderr
    first, second = run_two(tmp_path / 'fails.py', 'one', cwd=tmp_path)
    assert (first.returncode, second.returncode) == (1, 1)
    assert second.stderr.splitlines()[-1] == \
        'Process 1: ZeroDivisionError: only here'
    assert 'Process 0: another process of this job has ended.' in first.stderr
    for done in (first, second):
        assert 'Traceback' not in done.stderr
