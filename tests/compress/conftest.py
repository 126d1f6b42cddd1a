"""A detector of one's own, and tools/compress.py run on it."""
import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'compress.py'


@pytest.fixture(scope='module')
def mine(toy_in, tmp_path_factory):
    """A folder with my.py and my.pth, and the pool's configs."""
    folder = tmp_path_factory.mktemp('mine')
    cfg = toy_in(folder / 'work' / 'my')
    mtpd = cfg.pop('mtpd')
    cfg.dump(str(folder / 'my.py'))
    (folder / 'my.pth').symlink_to(mtpd.student.checkpoint)
    return folder, mtpd.teachers


@pytest.fixture
def tool(monkeypatch, mine):
    def run(*words):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, words)])
        monkeypatch.chdir(mine[0])
        runpy.run_path(str(TOOL), run_name='__main__')
    return run
