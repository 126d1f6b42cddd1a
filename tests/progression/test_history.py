"""What is read of a folder, against what was written there."""
import json
import shutil
from dataclasses import replace

import pytest
import torch

from mtpd.plan.errors import PlanError
from mtpd.plan.plan import stage_teachers
from mtpd.plan.work_dir import UnreadableHistory
from mtpd.progression.control import describe_gain, gain_of
from mtpd.progression.history import read_history, read_plan
from mtpd.stage.log import StageHistory, read_log


def logged(folder, run: str, lines) -> None:
    """A start of a stage as mmengine logs it."""
    (folder / run / 'vis_data').mkdir(parents=True)
    (folder / run / 'vis_data' / 'scalars.json').write_text(
        ''.join(json.dumps(line) + '\n' for line in lines))


def validated(folder, **metrics) -> None:
    """``i20=...`` are the metrics after 20 iterations."""
    (folder / 'validations.json').write_text(json.dumps(
        {key[1:]: value for key, value in metrics.items()}))


def train(step: int, loss: float) -> dict:
    return dict(lr=.01, loss=loss, loss_cls=loss, step=step)


def coco(ap: float) -> dict:
    return {'coco/bbox_mAP': ap, 'coco/bbox_mAP_50': 2 * ap,
            'coco/bbox_mAP_75': ap / 2, 'coco/bbox_mAP_s': ap / 4,
            'coco/bbox_mAP_m': 3 * ap, 'coco/bbox_mAP_l': -1.,
            'coco/segm_mAP': .99}


@pytest.fixture
def stage() -> StageHistory:
    return StageHistory(1, 'swin')


def test_a_later_run_replaces_what_it_repeats(tmp_path, stage):
    in_validation = {**coco(.1), 'step': 1}
    logged(tmp_path, '20260101_000000', [
        train(5, 1.), train(10, 2.), in_validation, train(15, 3.),
        train(20, 4.), train(25, 5.)])
    # Went on from iteration 10, and another stop before its second epoch.
    logged(tmp_path, '20260101_000100', [train(15, 30.)])
    read = read_log(str(tmp_path), stage)
    assert [(li['step'], li['loss']) for li in read.lines] == [
        (5, 1.), (10, 2.), (15, 30.)]
    assert read.length == 15

    logged(tmp_path, '20260101_000200', [train(15, 31.), train(20, 41.)])
    read = read_log(str(tmp_path), stage)
    assert [li['loss'] for li in read.lines] == [1., 2., 31., 41.]
    # A start that died before its first log line changes nothing.
    logged(tmp_path, '20260101_000300', [])
    assert read_log(str(tmp_path), stage) == read


def test_aps_are_percent_by_kind(tmp_path, stage):
    logged(tmp_path, 'run', [train(8, 1.)])
    validated(tmp_path, i10=coco(.2), i20={}, i30={
        'pascal_voc/mAP': .5, 'pascal_voc/AP50': .6})
    read = read_log(str(tmp_path), stage)
    one, silent, voc = read.validations
    assert [v.iteration for v in read.validations] == [10, 20, 30]
    assert read.length == 30
    assert one.aps == pytest.approx({
        'AP': 20., 'AP50': 40., 'AP75': 10., 'small': 5., 'medium': 60.})
    assert silent.aps == {'AP': 0.}  # where nothing was detected
    assert voc.aps == {'AP': 50., 'AP50': 60.}


def test_a_torn_line_and_a_missing_log_are_passed_over(tmp_path, stage):
    logged(tmp_path, 'run', [train(5, 1.)])
    with open(tmp_path / 'run/vis_data/scalars.json', 'a') as file:
        file.write('5\n["lr"]\n{"lr": 0.01}\n{"lr": 0.01, "lo')
    with open(tmp_path / 'run/vis_data/scalars.json', 'ab') as file:
        file.write(b'\xff\n')
    assert [li['step'] for li in read_log(str(tmp_path), stage).lines] == [5]
    for torn in ('{"3"', '[1]', '{"3": 5}', '{"three": {}}'):
        (tmp_path / 'validations.json').write_text(torn)
        with pytest.raises(PlanError, match='validations.json is damaged'):
            read_log(str(tmp_path), stage)
    (tmp_path / 'validations.json').unlink()
    assert read_log(str(tmp_path / 'run'), stage) == stage


def test_a_finished_progression(found_run):
    history = read_history(read_plan(str(found_run)))
    assert history.finished
    order = json.load(open(found_run / 'order/order.json'))
    assert list(history.order) == order['order']['teachers'] == ['swin']
    assert json.loads(json.dumps(history.found.to_json())) == order
    stage, = history.stages
    student = found_run / 'stage1_swin' / 'student.pth'
    said = torch.load(student)['meta']['mtpd']
    assert (stage.start_ap, stage.end_ap, stage.seconds) == (
        said['start_ap'], said['end_ap'], said['seconds'])
    assert stage.weights == history.newest == str(student)
    assert [li['step'] for li in stage.lines] == [1, 2, 3, 4, 5, 6]
    assert [v.iteration for v in stage.validations] == [6]
    assert history.start_ap == said['start_ap']


def test_an_ap_that_could_not_be_measured_is_none(found_run, tmp_path):
    """Earlier versions wrote -100 percent."""
    folder = shutil.copytree(found_run, tmp_path / 'work')
    path, = folder.glob('stage*/student.pth')
    content = torch.load(path)
    content['meta']['mtpd'].update(start_ap=-100., end_ap=-100.)
    torch.save(content, path)
    history = read_history(read_plan(str(folder)))
    stage, = history.stages
    assert (stage.start_ap, stage.end_ap) == (None, None)
    assert stage.finished and history.finished


def test_a_removed_stage_leaves_the_progression_finished(two_runs, tmp_path):
    work = shutil.copytree(two_runs[0], tmp_path / 'work')
    whole = read_history(read_plan(str(work)))
    (work / 'stage1_wide' / 'student.pth').unlink()
    first, second = read_history(whole.plan).stages
    assert first.is_gone and first.lines == whole.stages[0].lines
    shutil.rmtree(work / 'stage1_wide')
    history = read_history(whole.plan)
    first, second = history.stages
    assert history.finished and second == whole.stages[1]
    # Its length is the control's, its end the next stage's start.
    assert (first.is_gone, first.length, first.end_ap) == (
        True, whole.stages[0].length, whole.stages[0].end_ap)
    assert gain_of(history) == gain_of(whole) and gain_of(whole).last
    assert describe_gain(history) == describe_gain(whole)
    shutil.rmtree(work / 'stage2_swin')
    history = read_history(whole.plan)
    assert history.finished and history.stages[1].is_gone
    assert history.newest == str(work / 'student.pth')
    assert history.present_ap == whole.present_ap
    (work / 'student.pth').unlink()
    assert read_history(whole.plan).stages == ()


def test_an_unfinished_progression(stopped_run):
    history = read_history(read_plan(str(stopped_run)))
    assert not history.finished and history.found is None
    assert history.order == ('wide', 'swin')
    first, second = history.stages
    assert second.end_ap is None and second.seconds is None
    assert second.start_ap == first.end_ap
    assert [li['step'] for li in second.lines] == [1, 2, 3, 4]
    assert second.length == 4 and second.validations == ()
    folder = stopped_run / 'stage2_swin'
    assert history.newest in map(str, folder.glob('epoch_1*.pth'))
    runs = [[json.loads(line) for line in open(path)] for path in sorted(
        folder.glob('*/vis_data/scalars.json'))]
    # The fourth iteration as the second start has logged it.
    assert second.lines[-1] == runs[-1][-1]


def test_a_found_order_and_nothing_else(found_run, tmp_path):
    work = tmp_path / 'moved'
    work.mkdir()
    shutil.copy(found_run / 'config.py', work)
    plan = read_plan(str(work))
    assert plan.work_dir == str(work)
    assert read_history(plan).order is None
    saved = json.load(open(found_run / 'order/order.json'))
    (work / 'order').mkdir()
    (work / 'order/order.json').write_text(json.dumps(
        {**saved, 'student_ap': 17.5}))
    history = read_history(plan)
    assert history.order == ('swin',) and history.stages == ()
    assert not history.finished and history.newest is None
    assert history.start == plan.student.checkpoint
    assert history.start_ap == 17.5
    # An order that the config gives is not explained by costs beside it.
    given = read_history(replace(plan, order=(('swin', 'wide'), ('swin',))))
    assert given.found is None and given.order == ('swin+wide', 'swin')
    assert stage_teachers('swin+wide', plan) == ('swin', 'wide')


def test_what_cannot_be_read_is_named(found_run, tmp_path):
    with pytest.raises(UnreadableHistory, match='no folder .*gone'):
        read_plan(str(tmp_path / 'gone'))
    with pytest.raises(UnreadableHistory, match=r'no file .*config.py\. '
                       r'tools/train.py CONFIG writes .* tools/report.py '
                       'also takes .*--config FILE'):
        read_plan(str(tmp_path))
    (tmp_path / 'plain.py').write_text('model = dict(type="RetinaNet")')
    with pytest.raises(UnreadableHistory, match='plain.py has no mtpd part'):
        read_plan(str(tmp_path), str(tmp_path / 'plain.py'))
    plan = read_plan(str(tmp_path), str(found_run / 'config.py'))
    assert plan.work_dir == str(tmp_path)
    (tmp_path / 'order').mkdir()
    (tmp_path / 'order/order.json').write_text('{"schema": 99}')
    with pytest.raises(UnreadableHistory, match='order.json.*schema 99.*Find'):
        read_history(plan)
    record = tmp_path / 'progression.json'
    for damaged, said in (
            (b'{', 'is no JSON'), (b'\xff', 'is no JSON'),
            (b'[]', 'is damaged'), (b'{"identity": 3}', 'is damaged'),
            (b'{"identity": {"order": [1]}}', 'is damaged'),
            (b'{"starts": [3]}', 'is damaged')):
        record.write_bytes(damaged)
        with pytest.raises(UnreadableHistory,
                           match=f'progression.json {said}.*Restore it'):
            read_history(plan)
