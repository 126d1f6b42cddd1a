"""Moments on disk are complete, whenever a run was killed."""
import errno
import os
import re
import shutil
from fractions import Fraction

import pytest
import torch

from mtpd.order import FeatureMoments
from mtpd.search import moment_store as module
from mtpd.search.moment_store import LIST, MomentStore, open_store

from commands import run_command

ONE, TWO = Fraction(1), Fraction(2)
CHANNELS = dict(student=3, a=2, b=4, c=2)
DATA = dict(split='train', strides=[8, 16], grids=['1', '2'])
IMAGES = {0: [0, 1], 1: [2, 3], 3: [4]}  # fold -> images


def image_maps(index, names, grid):
    """An image's maps, which do not depend on the other arguments."""
    maps = {}
    for name in names:
        generator = torch.Generator().manual_seed(
            100 * index + 10 * list(CHANNELS).index(name) + int(grid))
        maps[name] = {s: torch.randn((1, CHANNELS[name], 4, 4),
                                     generator=generator)
                      for s in (8, 16)}
    return maps


def sums_of(images, fold, names, known=(), shift=None):
    result = {}
    for grid in (ONE, TWO):
        layout = {s: {n: CHANNELS[n] for n in names} for s in (8, 16)}
        sums = FeatureMoments(layout, 10, known=known,
                              shift=shift and shift[grid])
        for index in images:
            sums.add(image_maps(index, names, grid), [fold])
        result[grid] = sums
    return result


def detectors(*names, changed=()):
    return {n: dict(checkpoint=f'{n}{"2" if n in changed else ""}',
                    scale='1') for n in names}


def measure(folder, *names, changed=(), data=DATA, images=IMAGES,
            device='cpu'):
    """Measure as the search does, with random maps; the store and the number
    of images that were measured."""
    wanted = {i for of in images.values() for i in of}
    store, base = open_store(str(folder), data,
                             detectors(*names, changed=changed),
                             sorted(wanted), dict(device=device))
    measured = 0

    def add(to, of):
        nonlocal measured
        for fold, own in of.items():
            for index in own:  # saved after every image
                if index not in to.done:
                    to.add(fold, sums_of([index], fold, list(to.detectors),
                                         to.known, to.shift), [index])
                    measured += 1

    if base is not None:
        if set(store.known) != set(store.detectors):
            add(store, {fold: base._folds[fold]['pictures']
                        for fold in base._folds})
        store.complete_from(base)
    add(store, images)
    return store, measured


def assert_right(store, names, images=IMAGES):
    """Compare with sums that were never saved."""
    for grid in (ONE, TWO):
        moments = store.moments(grid)
        for stride in moments.strides:
            assert moments.filled_folds(stride) == tuple(images)
            for fold, own in images.items():
                got = moments.over(stride, [fold], names)
                direct = sums_of(own, fold, names)[grid].over(stride, [fold])
                direct = direct.about(got.shift)
                assert got.count == direct.count == 16 * len(own)
                torch.testing.assert_close(got.total, direct.total,
                                           rtol=1e-5, atol=1e-4)
                torch.testing.assert_close(got.outer, direct.outer,
                                           rtol=1e-5, atol=1e-4)


@pytest.fixture
def messages(monkeypatch):
    texts = []
    monkeypatch.setattr(module, 'print_log',
                        lambda text, **_: texts.append(text))
    return texts


def test_saved_sums_are_read_again(tmp_path):
    folder = tmp_path / 'moments'
    store, measured = measure(folder, 'student', 'a')
    assert measured == 5
    assert_right(store, ['student', 'a'])
    assert sorted(MomentStore.read(str(folder)).done) == [0, 1, 2, 3, 4]
    again, measured = measure(folder, 'student', 'a')
    assert measured == 0
    assert_right(again, ['a', 'student'])
    # One file per fold and the list; no older file is left.
    assert sorted(os.listdir(folder)) == [
        'fold0.2.pt', 'fold1.2.pt', 'fold3.1.pt', LIST]


def test_more_images_are_added_to_saved_sums(tmp_path):
    store, measured = measure(tmp_path / 'm', 'student', 'a',
                            images={0: [0], 1: [2]})
    assert measured == 2
    store, measured = measure(tmp_path / 'm', 'student', 'a')
    assert measured == 3
    assert_right(store, ['student', 'a'])


def test_a_new_detector_is_added_to_known_ones(tmp_path, monkeypatch):
    measure(tmp_path / 'm', 'student', 'a')
    asked = []
    whole = FeatureMoments.add
    monkeypatch.setattr(FeatureMoments, 'add', lambda self, *args: (
        asked.append(self.known), whole(self, *args))[1])
    store, measured = measure(tmp_path / 'm', 'student', 'b', 'a')
    assert measured == 5 and set(asked) == {('student', 'a')}
    assert store.folder == str(tmp_path / 'm')
    assert os.listdir(tmp_path) == ['m']
    assert_right(store, ['student', 'b', 'a'])


def test_a_detector_that_left_the_pool_is_kept(tmp_path):
    measure(tmp_path / 'm', 'student', 'a', 'b')
    store, measured = measure(tmp_path / 'm', 'student', 'b')
    assert measured == 0 and set(store.detectors) == {'student', 'a', 'b'}
    store, measured = measure(tmp_path / 'm', 'student', 'a', 'b')
    assert measured == 0
    # Until images are added that it does not see.
    store, measured = measure(tmp_path / 'm', 'student', 'b',
                            images={**IMAGES, 3: [4, 5]})
    assert measured == 1 and set(store.detectors) == {'student', 'b'}
    assert_right(store, ['student', 'b'], {**IMAGES, 3: [4, 5]})


def test_a_changed_detector_is_measured_again_and_reported(tmp_path, messages):
    measure(tmp_path / 'm', 'student', 'a', 'b')
    assert not messages
    store, measured = measure(tmp_path / 'm', 'student', 'a', 'b',
                            changed=['a'])
    assert measured == 5 and list(store.detectors) == ['student', 'b', 'a']
    assert "a.checkpoint: 'a' there, 'a2' here" in messages[0]
    assert_right(store, ['student', 'a', 'b'])


@pytest.mark.parametrize('change, words', [
    (dict(split='val'), "split: 'train' there, 'val' here"),
    (dict(strides=[4, 8]), r'strides: \[8, 16\] there, \[4, 8\] here'),
    (dict(grids=['1', '3']), r"grids: \['1', '2'\] there"),
])
def test_other_data_is_refused_with_what_differs(tmp_path, messages, change,
                                                 words):
    measure(tmp_path / 'm', 'student', 'a')
    store, base = open_store(str(tmp_path / 'm'), {**DATA, **change},
                             detectors('student', 'a'), [], dict(device='cpu'))
    assert store.done == [] and base is None
    assert re.search(words, messages[0])


def test_fewer_levels_are_among_the_saved_ones(tmp_path):
    measure(tmp_path / 'm', 'student', 'a')
    few = {**DATA, 'strides': [16]}
    store, measured = measure(tmp_path / 'm', 'student', 'a', data=few)
    assert measured == 0 and store.strides == [8, 16]


@pytest.mark.parametrize('spoil, anew', [
    (lambda folder: (folder / LIST).write_text('{'), 5),
    (lambda folder: (folder / LIST).write_text('[]'), 5),
    (lambda folder: (folder / LIST).write_text('{"schema": 99}'), 5),
    (lambda folder: (folder / 'fold1.2.pt').write_bytes(b'PK torn'), 2),
    (lambda folder: (folder / 'fold1.2.pt').unlink(), 2)])
def test_unreadable_files_are_reported_and_measured_again(
        tmp_path, messages, spoil, anew):
    measure(tmp_path / 'm', 'student', 'a')
    spoil(tmp_path / 'm')
    store, measured = measure(tmp_path / 'm', 'student', 'a')
    assert measured == anew and 'cannot be used' in messages[0]
    assert_right(store, ['student', 'a'])


def test_passes_on_two_machines_are_not_mixed(tmp_path, messages):
    """More images from another machine may be added, because they are other
    positions. Products with a new detector's maps may not."""
    few = {0: [0], 1: [2]}
    measure(tmp_path / 'm', 'student', 'a', images=few,
            device='cuda')
    store, measured = measure(tmp_path / 'm', 'student', 'a',
                            device='cpu')
    assert measured == 3 and not messages
    store, measured = measure(tmp_path / 'm', 'student', 'a', 'b',
                            device='cpu')
    assert measured == 5
    assert "device: 'several' there, 'cpu' here" in messages[0]
    assert store.known == () and store.made_on == dict(device='cpu')
    # A changed detector is a new one.
    measure(tmp_path / 'n', 'student', 'a', images=few,
            device='cuda')
    messages.clear()
    store, measured = measure(tmp_path / 'n', 'student', 'a', changed=['a'],
                            images=few, device='cpu')
    assert measured == 2 and "device: 'cuda' there, 'cpu' here" in messages[0]
    assert store.made_on == dict(device='cpu')


def test_the_share_of_fine_positions_matters_only_at_fine_levels(tmp_path):
    fine = {**DATA, 'stride4_share': .25}
    measure(tmp_path / 'm', 'student', 'a', data=fine)
    for share, anew in ((None, 0), (.5, 5)):
        _, measured = measure(tmp_path / 'm', 'student', 'a',
                            data={**DATA, 'stride4_share': share})
        assert measured == anew


def test_other_files_in_the_folder_stay(tmp_path):
    measure(tmp_path / 'm', 'student', 'a')
    (tmp_path / 'm' / '.snapshot').mkdir()
    (tmp_path / 'm' / 'note.txt').write_text('mine')
    (tmp_path / 'm' / 'fold7.3.pt').write_text('left over')
    measure(tmp_path / 'm', 'student', 'a')
    assert {'.snapshot', 'note.txt'} <= set(os.listdir(tmp_path / 'm'))
    assert 'fold7.3.pt' not in os.listdir(tmp_path / 'm')


def test_a_full_disk_is_an_os_error_and_loses_nothing(tmp_path):
    store, _ = measure(tmp_path / 'm', 'student', 'a', images={0: [0]})
    code = (
        'import resource, signal, torch\n'
        'from mtpd.search.moment_store import save_tensors\n'
        'from mtpd.compat.atomic_files import atomic_file\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))\n'
        'try:\n'
        f'    with atomic_file({str(tmp_path / "m" / "x.pt")!r}) as file:\n'
        '        save_tensors(torch.zeros(10**6), file)\n'
        'except OSError as error:\n'
        '    print("errno", error.errno)\n')
    script = tmp_path / 'fill.py'
    script.write_text(code)
    done = run_command(script, cwd=tmp_path)
    assert f'errno {errno.EFBIG}' in done.stdout, done.stderr
    assert MomentStore.read(str(tmp_path / 'm')).done == [0]


class Killed(BaseException):
    """No handler of errors catches it."""


def test_a_run_killed_at_any_change_of_the_disk_is_resumed(tmp_path,
                                                           monkeypatch):
    """A pool, then one more teacher, killed before the nth change of the disk,
    for every n. The next run ends with the same sums."""
    steps = 0
    real = {name: getattr(os, name) for name in ('replace', 'rename',
                                                 'remove')}
    rmtree = shutil.rmtree

    def counted(call):
        def step(*args, **kwargs):
            nonlocal steps
            if killing and steps == kill_at:
                raise Killed
            steps += killing
            return call(*args, **kwargs)
        return step

    for name, call in real.items():
        monkeypatch.setattr(module.os, name, counted(call))
    monkeypatch.setattr(module.shutil, 'rmtree', counted(rmtree))

    first_whole = set()

    def both(folder):
        if folder not in first_whole:
            measure(folder, 'student', 'a')
            first_whole.add(folder)
        return measure(folder, 'student', 'a', 'b')

    killing, kill_at = True, 10**6
    both(tmp_path / 'm')
    changes = steps
    assert changes > 30
    for kill_at in range(changes):
        folder = tmp_path / str(kill_at) / 'm'
        steps, killing = 0, True
        with pytest.raises(Killed):
            both(folder)
        killing = False
        store, _ = both(folder)
        assert_right(store, ['student', 'a', 'b'])
        assert os.listdir(folder.parent) == ['m']
        assert len(os.listdir(folder)) == 1 + len(IMAGES)
