"""A path holds the old file or the whole new one, also for checkpoints."""
import errno
import os

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner.checkpoint import save_checkpoint

from mtpd.compat import atomic_files
from mtpd.compat.atomic_files import AtomicLocalBackend, atomic_write

ATOMIC = dict(backend='atomic')


def test_writes_and_replaces(tmp_path):
    path = tmp_path / 'new' / 'file.bin'
    atomic_write(path, b'first')
    atomic_write(str(path), b'second')
    assert path.read_bytes() == b'second'
    assert os.listdir(path.parent) == ['file.bin']


def test_path_without_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atomic_write('file.bin', b'here')
    assert (tmp_path / 'file.bin').read_bytes() == b'here'


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / 'plain').write_bytes(b'')
    atomic_write(tmp_path / 'atomic', b'')
    assert (tmp_path / 'atomic').stat().st_mode == (tmp_path /
                                                    'plain').stat().st_mode


def test_link_stays_a_link(tmp_path):
    (tmp_path / 'file').write_bytes(b'old')
    (tmp_path / 'link').symlink_to(tmp_path / 'file')
    atomic_write(tmp_path / 'link', b'new')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'file').read_bytes() == b'new'


class FullDisk:
    """A file to which only half of the data is written."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.file.close()

    def write(self, data):
        self.file.write(data[:len(data) // 2])
        self.file.flush()
        raise OSError(errno.ENOSPC, 'No space left on device')


def no_space(*args):
    raise OSError(errno.ENOSPC, 'No space left on device')


def fail_in_write(monkeypatch):
    monkeypatch.setattr(
        atomic_files,
        'open',
        lambda *args: FullDisk(open(*args)),
        raising=False)


def fail_in_fsync(monkeypatch):
    monkeypatch.setattr(os, 'fsync', no_space)


def fail_in_replace(monkeypatch):
    monkeypatch.setattr(os, 'replace', no_space)


def fail_by_interrupt(monkeypatch):

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'fsync', interrupt)


@pytest.mark.parametrize('fail', [
    fail_in_write, fail_in_fsync, fail_in_replace, fail_by_interrupt])
def test_failure_leaves_old_file_and_nothing_else(tmp_path, monkeypatch, fail):
    path = tmp_path / 'file.bin'
    path.write_bytes(b'old and whole')
    fail(monkeypatch)
    with pytest.raises((OSError, KeyboardInterrupt)):
        atomic_write(path, b'new' * 1000)
    monkeypatch.undo()
    assert path.read_bytes() == b'old and whole'
    assert os.listdir(tmp_path) == ['file.bin']


def test_backend_is_found_by_name_and_writes_bytes_and_text(tmp_path):
    backend = get_file_backend(tmp_path, backend_args=ATOMIC)
    assert type(backend) is AtomicLocalBackend
    backend.put(b'bytes', tmp_path / 'b')
    backend.put_text('Grüße\n', tmp_path / 't')
    assert backend.get(tmp_path / 'b') == b'bytes'
    assert backend.get_text(tmp_path / 't') == 'Grüße\n'
    backend.put_text('Grüße', tmp_path / 't', encoding='latin-1')
    assert (tmp_path / 't').read_bytes() == b'Gr\xfc\xdfe'


def test_mmengine_saves_checkpoints_by_this_backend(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    save_checkpoint(dict(epoch=1), str(path), backend_args=ATOMIC)
    fail_in_fsync(monkeypatch)
    with pytest.raises(OSError, match='No space left'):
        save_checkpoint(dict(epoch=2), str(path), backend_args=ATOMIC)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == dict(epoch=1)
    assert os.listdir(tmp_path) == ['epoch_1.pth']
