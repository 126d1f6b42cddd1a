"""Files are looked up beside the config, then in the working folder."""
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from mtpd.plan.errors import PlanError
from mtpd.plan.identity import identity_of
from mtpd.plan.paths import find_file, looked_in
from mtpd.plan.plan import make_plan, with_found_files
from mtpd.progression import check, run_progression
from mtpd.progression.history import read_plan


def test_the_configs_folder_comes_first(tmp_path, monkeypatch):
    here, beside = tmp_path / 'here', tmp_path / 'a folder'
    for folder in (here, beside / 'sub'):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    config = str(beside / 'x.py')
    for folder, name in ((here, 'both'), (beside, 'both'), (here, 'one'),
                         (beside / 'sub', 'two')):
        (folder / name).write_text('')
    assert find_file('both', config) == str(beside / 'both')
    assert find_file('one', config) == 'one'
    assert find_file('sub/two', config) == str(beside / 'sub/two')
    assert find_file('../here/one', config) == str(beside / '../here/one')
    assert find_file('none', config) == 'none'
    assert find_file('sub', config) == str(beside / 'sub')  # of images
    assert find_file('both', None) == 'both'
    for fixed in (str(here / 'one'), 'https://host/both', 'mmdet::both'):
        assert find_file(fixed, config) == fixed
    assert looked_in('none', config) == (
        f' in {beside}, the folder of the config, or in {here}, the working '
        'folder')
    assert looked_in('none', 'x.py') == f' in {here}, the working folder'
    assert looked_in('/none', config) == ''
    monkeypatch.chdir(beside)
    assert find_file('both', 'x.py') == 'both'


@pytest.fixture
def moved(toy, tmp_path) -> Config:
    """The toy's config in a folder with everything beside it."""
    folder = tmp_path / 'my detectors'
    folder.mkdir()
    cfg = toy(order=['wide'])
    teachers = cfg.mtpd.teachers
    del teachers['swin']
    for holder, key, name in ((teachers.wide, 'config', 'wide.py'),
                              (teachers.wide, 'checkpoint', 'wide.pth'),
                              (cfg.mtpd.student, 'checkpoint', 'student.pth')):
        shutil.copy(holder[key], folder / name)
        holder[key] = name
    cfg.dump(str(folder / 'progression.py'))
    cfg = Config.fromfile(str(folder / 'progression.py'))
    cfg.work_dir = str(tmp_path / 'work')
    return cfg


def test_a_folder_with_everything_runs_from_anywhere(moved, toy, tmp_path):
    """And is the same progression: hashes are of contents."""
    plan, plain = make_plan(moved), make_plan(toy(order=['wide']))
    assert identity_of(plan, plan.order) == identity_of(plain, plain.order)
    assert check(moved).problems == []
    moved.train_cfg.max_epochs = 1
    run_progression(moved, with_probe=False)
    # Its copy in the work dir names what was found, and not student.pth of
    # its own folder, which is the result.
    assert (tmp_path / 'work' / 'student.pth').is_file()
    again = read_plan(str(tmp_path / 'work'))
    assert again.student.checkpoint == plan.student.checkpoint
    assert identity_of(again, again.order)['student'] == plan.student.hash()
    assert again.teachers['wide'].checkpoint == \
        str(tmp_path / 'my detectors' / 'wide.pth')


def test_a_work_dir_of_before_is_read_from_the_working_folder(
        moved, tmp_path, monkeypatch):
    """Its config.py names files of the working folder."""
    work = tmp_path / 'work'
    work.mkdir()
    shutil.copy(Path(moved.filename), work / 'config.py')
    (work / 'student.pth').write_text('the result')
    monkeypatch.chdir(tmp_path / 'my detectors')
    plan = read_plan(str(work))
    assert plan.student.checkpoint == 'student.pth'
    assert plan.student.hash() == make_plan(moved).student.hash()


def test_a_file_of_the_working_folder_is_named_as_before(moved, tmp_path,
                                                         monkeypatch):
    here = tmp_path / 'here'
    here.mkdir()
    shutil.move(tmp_path / 'my detectors' / 'wide.pth', here)
    monkeypatch.chdir(here)
    plan = make_plan(moved)
    assert plan.teachers['wide'].checkpoint == 'wide.pth'
    assert with_found_files(moved, plan).mtpd.teachers.wide.checkpoint == \
        'wide.pth'
    assert check(moved).problems == []


def test_a_missing_file_names_both_folders(moved, tmp_path):
    both = (f'in {tmp_path / "my detectors"}, the folder of the config, or '
            f'in {Path.cwd()}, the working folder')
    moved.mtpd.student.checkpoint = 'gone.pth'
    moved.mtpd.teachers.wide.checkpoint = 'sub/gone.pth'
    problems = check(moved).problems
    assert len(problems) == 2
    assert all(both in problem for problem in problems)
    moved.mtpd.teachers.wide.config = 'gone.py'
    with pytest.raises(PlanError) as error:
        make_plan(moved)
    problem, = error.value.problems
    assert 'wide.config: gone.py cannot be read' in problem and both in problem
