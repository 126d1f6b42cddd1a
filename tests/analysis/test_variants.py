"""A detector beside what was made of it."""
import os
import shutil
from dataclasses import replace

import pytest
import torch
from mmengine.registry import init_default_scope

from mtpd.analysis import variants
from mtpd.analysis.sizes import parameters
from mtpd.analysis.variants import find_variants, measure_variants
from mtpd.analysis.variants_table import (read_variants, variants_table,
                                          write_variants)
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.work_dir import UnreadableHistory
from mtpd.predict import UnusableInput
from mtpd.progression.history import read_history, read_plan


@pytest.fixture
def history(two_runs, tmp_path):
    """Of a finished progression with its control, which may be changed."""
    work = tmp_path / 'work'
    shutil.copytree(two_runs[0], work)
    init_default_scope('mmdet')
    return read_history(read_plan(str(work)))


def test_every_detector_of_a_progression_is_found(history, tmp_path):
    work = history.plan.work_dir
    found, missing = find_variants(history, [])
    assert [one.name for one in found] == [
        'teacher swin', 'teacher wide', 'not trained',
        'trained on alone, as long', 'taught by wide',
        'taught by wide, then swin']
    assert [one.file for one in found[-3:]] == [
        os.path.join(work, name, 'student.pth')
        for name in ('alone', 'stage1_wide', 'stage2_swin')]
    train = f'python tools/train.py {work}/config.py --work-dir {work}'
    assert missing == [
        f'from random weights, as long: {train} --scratch',
        f'in onnxruntime: python tools/export_onnx.py {work}/student.py '
        f'{work}/student.pth --out {work}/student.onnx',
        f'packed: python tools/pack.py {work}/student.pth --bits 6 '
        f'--config {work}/student.py']
    # Files in the work dir need not be named, and are taken once.
    packed = shutil.copy(f'{work}/student.pth', f'{work}/student_packed.pth')
    (tmp_path / 'b.onnx').touch()
    for files in ([], [os.path.relpath(packed)], [str(tmp_path / 'b.onnx')]):
        found, missing = find_variants(history, files)
        assert [one.name for one in found[6:]] == [
            *(['b.onnx'] if 'onnx' in ''.join(files) else []),
            'student_packed.pth']
        assert not any(line.startswith('packed') for line in missing)
        assert any(line.startswith('in onnx') for line in missing) == (
            len(found) == 7)
    # Two of one name are told apart by their paths.
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'b.onnx').touch()
    both = [str(tmp_path / 'b.onnx'), str(tmp_path / 'other' / 'b.onnx')]
    assert [one.name for one in find_variants(history, both)[0][6:]] == [
        *both, 'student_packed.pth']
    os.remove(packed)

    # The detector that the student was cut out of comes first.
    plan = history.plan
    teachers = dict(swin=plan.teachers['swin'], original=replace(
        plan.teachers['wide'], name='original'))
    cut = replace(history, plan=replace(plan, teachers=teachers))
    found, _ = find_variants(cut, [])
    assert [one.name for one in found[:2]] == ['original', 'teacher swin']
    by_line = replace(history, plan=replace(plan, student=replace(
        plan.student, sliced_from=plan.teachers['swin'])))
    found, _ = find_variants(by_line, [])
    assert found[0].spec is plan.teachers['swin']

    shutil.rmtree(os.path.join(work, 'alone'))
    shutil.rmtree(os.path.join(work, 'stage2_swin'))
    begun = read_history(read_plan(work))
    found, missing = find_variants(begun, [])
    assert found[-1].name == 'taught by wide'
    assert f'trained on alone, as long: {train} --control' in missing
    assert f'taught by wide, then swin: {train}' in missing
    with pytest.raises(UnusableInput, match='no file .*gone.onnx'):
        find_variants(begun, [str(tmp_path / 'gone.onnx')])


def test_a_checkpoint_of_another_model_is_refused(history, tmp_path):
    weights = torch.load(history.start, weights_only=True)
    weights['state_dict']['bbox_head.retina_cls.bias'] = torch.zeros(3)
    torch.save(weights, tmp_path / 'other.pth')
    found, _ = find_variants(history, [str(tmp_path / 'other.pth')])
    with pytest.raises(UnusableInput, match='other.pth is not a checkpoint of '
                       'this RetinaNet.*') as error:
        measure_variants(found[-1:], history, [1])
    assert f'--compare takes checkpoints of the student of ' \
        f'{history.plan.work_dir}, named' in str(error.value)
    assert 'mtpd.student' not in str(error.value)


def test_they_are_measured_beside_each_other(history, monkeypatch, tmp_path):
    monkeypatch.setattr(variants, 'ROUNDS', 3)
    # A pass takes as many seconds as its turn says: 4, 2, 1, 4, 2, 1, ...
    turns = [4., 2., 1.]
    calls = []

    def timed(run):
        run()
        calls.append(torch.get_num_threads())
        return turns[(len(calls) - 1) % 3] * len(set(calls))

    monkeypatch.setattr(variants, 'timed', timed)
    found = [one for one in find_variants(history, [])[0] if one.name in (
        'teacher wide', 'not trained', 'taught by wide')]
    threads = torch.get_num_threads()
    measured = measure_variants(found, history, [1, 2])
    assert torch.get_num_threads() == threads
    assert calls == [1] * 3 * 5 + [2] * 3 * 5
    assert [one.milliseconds for one in measured] == [
        {1: 4000., 2: 8000.}, {1: 2000., 2: 4000.}, {1: 1000., 2: 2000.}]
    assert [one.speed for one in measured] == [
        (1., 1., 1.), (2., 2., 2.), (4., 4., 4.)]
    # All images are of one size: a batch is padded nowhere.
    assert measured[2].ap == pytest.approx(history.stages[0].end_ap)
    student = DetectorSpec('student', history.plan.student.config, None)
    assert measured[1].parameters == parameters(student.build())
    assert measured[1].multiply_adds == measured[2].multiply_adds
    assert measured[0].multiply_adds > measured[1].multiply_adds > 1e6
    assert [one.bytes for one in measured] == [
        os.path.getsize(one.file) for one in found]

    path = str(tmp_path / 'variants.json')
    assert read_variants(path) == []
    write_variants(path, measured)
    assert read_variants(path) == measured
    row = variants_table(measured).rows[1]
    assert row[0] == 'not trained' and row[-3:] == [
        '2000.0', '4000.0', '2.00 (2.00 to 2.00)']


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / 'variants.json'
    for damaged in ('{', '[]', '{}', '{"variants": [3]}',
                    '{"variants": [{"speed": 3}]}'):
        path.write_text(damaged)
        with pytest.raises(UnreadableHistory, match='variants.json is .*'
                           'Remove it, and make it anew with tools/compress'):
            read_variants(str(path))
