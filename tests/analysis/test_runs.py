"""Runs read from disk, and pairs of runs that cannot be compared."""
import json
import shutil
from pathlib import Path

import pytest
import torch

from mtpd.analysis.runs import (NotComparable, check_comparable, read_run,
                                stage_validations)
from mtpd.plan.work_dir import UnreadableHistory


def lines_of(folder: Path) -> list[dict]:
    path, = folder.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_validations_have_the_values_of_the_logs(two_runs):
    run, alone = (read_run(str(folder)) for folder in two_runs)
    assert run.name == 'distilled (wide > swin)' and run.taught
    assert alone.name == 'trained on alone' and not alone.taught
    assert run.iterations == alone.iterations == 2 * 2 * 3
    assert check_comparable(run, alone) == []
    for read, folder in ((run, two_runs[0]), (alone, two_runs[1])):
        assert [v.label for v in read.validations] == [
            '1.1', '1.2', '2.1', '2.2']
        assert [v.teacher for v in read.validations] == [
            'wide', 'wide', 'swin', 'swin']
        for v in read.validations:
            stage = folder / (f'stage{v.stage}_'
                              + (v.teacher if read.taught else 'alone'))
            lines = lines_of(stage)
            # Detection losses by their own names, epoch by epoch.
            own = [line['loss_cls'] + line['loss_bbox'] for line in lines
                   if line.get('epoch') == v.at and 'loss' in line]
            assert len(own) == 3
            assert v.logged == pytest.approx(sum(own) / 3, rel=1e-5)
            ap, = [line.get('coco/bbox_mAP', 0.) for line in lines
                   if 'loss' not in line and line['step'] == v.at]
            assert v.ap == 100 * ap
            assert v.checkpoint == str(stage / f'epoch_{v.at}.pth')
        end = torch.load(folder / 'student.pth')['meta']['mtpd']
        assert read.student.ap == end['end_ap'] == read.validations[-1].ap
    assert any('loss_distill_s8' in line
               for line in lines_of(two_runs[0] / 'stage1_wide'))


def write(stage: Path, began: str, lines: list) -> None:
    path = stage / began / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(
        line if isinstance(line, str) else json.dumps(line)
        for line in lines))


def step(at: int, loss: float, **more) -> dict:
    return dict(lr=.1, loss=loss, step=at, iter=at, **more)


def validated(stage: Path, aps: dict[int, float | None]) -> None:
    (stage / 'validations.json').write_text(json.dumps({
        at: {} if ap is None else {'coco/bbox_mAP': ap}
        for at, ap in aps.items()}))


def test_what_a_resumed_run_repeats_replaces_what_was_lost(tmp_path):
    write(tmp_path, '20260101_000000', [
        step(1, 5., epoch=1), step(2, 4., epoch=1),
        step(3, 9., epoch=2), step(4, 9., epoch=2),
        '{"lr": 0.1, "loss": 9'])  # killed while it wrote
    write(tmp_path, '20260101_000100', [
        step(3, 3., epoch=2, loss_distill_s8=1., loss_distill_s16=.5),
        step(4, 2., epoch=2, loss_distill_s8=.5, distill_ratio=7.),
        step(6, 1., epoch=3)])
    validated(tmp_path, {2: .1, 4: None})  # nothing was detected
    (tmp_path / 'epoch_2.pth').touch()
    (tmp_path / 'epoch_1_batch_2.pth').touch()
    found = stage_validations(str(tmp_path), 1, 't', by_epoch=True)
    assert [(v.at, v.ap, v.logged, v.checkpoint) for v in found] == [
        (1, 10., 4.5, None),
        (2, 0., 1.5, str(tmp_path / 'epoch_2.pth'))]


def test_iterations_are_counted_where_there_are_no_epochs(tmp_path):
    write(tmp_path, '20260101_000000', [
        step(50, 5.), step(100, 4.), step(150, 3.), step(200, 2.)])
    validated(tmp_path, {100: .1, 200: .2})
    (tmp_path / 'iter_200.pth').touch()
    found = stage_validations(str(tmp_path), 1, 't', by_epoch=False)
    assert [(v.at, v.logged) for v in found] == [(100, 4.5), (200, 2.5)]
    assert found[0].checkpoint is None
    assert found[1].checkpoint == str(tmp_path / 'iter_200.pth')


@pytest.fixture
def copied(two_runs, tmp_path) -> Path:
    return Path(shutil.copytree(two_runs[0], tmp_path / 'copy'))


def changed(folder: Path, look: str, instead: str) -> None:
    text = (folder / look).read_text()
    assert instead.split('|')[0] in text
    (folder / look).write_text(text.replace(*instead.split('|')))


def test_other_students_are_refused(two_runs, copied):
    run = read_run(str(two_runs[0]))
    changed(copied, 'student.py', 'alpha=0.25|alpha=0.5')
    with pytest.raises(NotComparable, match='different students.*"model" in'):
        check_comparable(run, read_run(str(copied)))
    content = torch.load(copied / 'student.pth')
    del content['state_dict']['bbox_head.retina_cls.bias']
    torch.save(content, copied / 'student.pth')
    with pytest.raises(NotComparable, match=(
            r'different students: 1 of their tensors differ, such as '
            r'bbox_head.retina_cls.bias: \(45,\) and None')):
        check_comparable(run, read_run(str(copied)))


def test_another_start_is_refused_and_another_length_remarked(two_runs,
                                                               copied):
    run = read_run(str(two_runs[0]))
    same = read_run(str(copied))
    assert check_comparable(run, same) == [
        'Both runs are distilled, so this comparison shows nothing about '
        'distillation itself.']
    end = copied / 'stage2_swin' / 'student.pth'
    content = torch.load(end)
    content['meta']['iter'] = 3
    torch.save(content, end)
    changed(copied, 'student.py', 'instances_train.json|other.json')
    remarks = check_comparable(run, read_run(str(copied)))
    assert 'The runs differ in length: 12 and 9 iterations.' in remarks
    assert any('different training data' in remark for remark in remarks)
    state = json.loads((copied / 'progression.json').read_text())
    state['identity']['student'] = 'another'
    (copied / 'progression.json').write_text(json.dumps(state))
    with pytest.raises(NotComparable, match='different weights'):
        check_comparable(run, read_run(str(copied)))


def test_a_config_can_be_named_and_unfinished_runs_are_refused(
        two_runs, copied, toy_in, tmp_path):
    cfg = toy_in(tmp_path / 'elsewhere')
    cfg.train_dataloader.batch_size = 4
    cfg.dump(str(tmp_path / 'own.py'))
    (copied / 'student.py').unlink()
    with pytest.raises(NotComparable, match='student.py.*with --config'):
        read_run(str(copied))
    read = read_run(str(copied), str(tmp_path / 'own.py'))
    assert read.student.config.train_dataloader.batch_size == 4
    assert 'mtpd' not in read.student.config
    (copied / 'stage2_swin' / 'student.pth').unlink()
    with pytest.raises(NotComparable, match='unfinished.*stage2_swin.*--res'):
        read_run(str(copied), str(tmp_path / 'own.py'))
    with pytest.raises(NotComparable, match='no progression'):
        read_run(str(tmp_path))


def test_a_damaged_record_is_named(tmp_path):
    for damaged in (b'{"identity"', b'\xff', b'[]', b'{}', b'{"identity": 3}',
                    b'{"identity": {"order": []}}'):
        (tmp_path / 'progression.json').write_bytes(damaged)
        with pytest.raises(UnreadableHistory,
                           match='progression.json .*Restore it'):
            read_run(str(tmp_path))
