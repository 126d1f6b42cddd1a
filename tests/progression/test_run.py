"""A whole progression, small: what it writes, resumes and refuses."""
import errno
import gc
import json
import os
import subprocess
import sys
import weakref
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmdet.evaluation import CocoMetric
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from mtpd.compat import atomic_files
from mtpd.compat.checkpoints import checkpoint_hash
from mtpd.distill.branch import NotFinite
from mtpd.distill.distiller import FeatureDistiller
from mtpd.distill.frozen import FrozenDetector
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.plan.describe import describe_plan
from mtpd.plan.pool import build_pool
from mtpd.progression import (PlanError, make_plan, run_progression,
                              stage_sequence as stages_module)
from mtpd.progression.prepare import DiskFull
from mtpd.search import measure
from mtpd.search.find_order import find_order
from mtpd.search.moment_store import MomentStore
from mtpd.stage.resume import newest_checkpoint
from mtpd.stage.runner import StageRunner


def scalars(folder) -> list[dict]:
    """All logged training lines of a stage."""
    lines = []
    for path in sorted(Path(folder).glob('*/vis_data/scalars.json')):
        lines += [json.loads(line) for line in open(path)]
    return [line for line in lines if 'lr' in line]


def go(cfg, **options):
    return run_progression(cfg, with_probe=False, **options)


def stop_before(monkeypatch, cfg, step: int, look) -> list:
    """Run until its nth step begins; what ``look(model)`` sees at the start of
    each step, also of those of a resumed run, is added to what is returned."""
    whole = FeatureDistiller.loss
    seen = []

    def dies(self, *args):
        seen.append(look(self))
        if len(seen) == step:
            raise KeyboardInterrupt
        return whole(self, *args)

    monkeypatch.setattr(FeatureDistiller, 'loss', dies)
    with pytest.raises(KeyboardInterrupt):
        go(cfg)
    return seen


@pytest.fixture(scope='module')
def finished(toy_in, tmp_path_factory):
    """A finished progression, to look at and not to change."""
    cfg = toy_in(tmp_path_factory.mktemp('finished') / 'work')
    return cfg, go(cfg)


def test_stages_restart_the_schedule_and_hand_the_student_on(finished,
                                                              retinanet):
    cfg, result = finished
    work = Path(cfg.work_dir)
    assert [s.teacher for s in result.stages] == ['wide', 'swin']
    first, second = work / 'stage1_wide', work / 'stage2_swin'
    # Warm-up and decay, the same numbers in both stages.
    rates = [line['lr'] for line in scalars(first)]
    assert rates == [line['lr'] for line in scalars(second)]
    assert rates == pytest.approx([.001, .0025, .004, .002, .002, .002])
    # Each stage's own terms: levels 8 to 128 with the RetinaNet, 8 to 64 with
    # the Mask R-CNN.
    terms = [{k for k in scalars(f)[0] if 'loss_distill' in k}
             for f in (first, second)]
    assert terms == [{f'loss_distill_s{s}' for s in (8, 16, 32, 64, 128)},
                     {f'loss_distill_s{s}' for s in (8, 16, 32, 64)}]
    line = scalars(second)[0]
    distill = sum(line[k] for k in terms[1])
    assert line['distill_ratio'] == pytest.approx(
        distill / (line['loss'] - distill), rel=1e-3)
    # The second starts from the first's last epoch.
    handed = torch.load(first / 'student.pth')['state_dict']
    last = torch.load(first / 'epoch_2.pth', weights_only=True)['state_dict']
    assert all(torch.equal(handed[k], last[k]) for k in handed)
    config = Config.fromfile(str(next(second.glob('*.py'))))
    assert config.model.student_checkpoint == str(first / 'student.pth')
    assert result.stages[1].start_ap == result.stages[0].end_ap
    # The result is the last stage's student, under plain keys.
    final = torch.load(result.student)
    assert set(final['state_dict']) == set(
        MODELS.build(retinanet).state_dict())
    assert all(torch.equal(
        final['state_dict'][k],
        torch.load(second / 'student.pth')['state_dict'][k])
        for k in final['state_dict'])


def test_every_file_of_a_stage_has_the_student_under_plain_keys(finished,
                                                                 retinanet):
    cfg, _ = finished
    keys = set(MODELS.build(retinanet).state_dict())
    files = sorted(Path(cfg.work_dir).rglob('*.pth'))
    assert len(files) == 2 * 3 + 1
    for path in files:
        assert set(torch.load(path, weights_only=True)['state_dict']) == keys


def test_checkpoints_say_where_they_come_from(finished):
    cfg, result = finished
    said = torch.load(result.student)['meta']['mtpd']
    assert said['stage'] == 2 and said['teacher'] == 'swin'
    assert said['identity']['order'] == ['wide', 'swin']
    for name in ('wide', 'swin'):
        assert said['identity']['teachers'][name] == checkpoint_hash(
            cfg.mtpd.teachers[name].checkpoint)
    assert said['teacher_hash'] == said['identity']['teachers']['swin']
    assert said['identity']['student'] == checkpoint_hash(
        cfg.mtpd.student.checkpoint)
    assert said['versions']['torch'] == str(torch.__version__)
    assert said['end_ap'] == result.stages[-1].end_ap


def test_finished_stages_are_not_repeated_and_others_refused(finished, toy_in):
    cfg, result = finished
    toy = partial(toy_in, cfg.work_dir)
    times = {p: p.stat().st_mtime_ns
             for p in Path(cfg.work_dir).rglob('epoch_*.pth')}
    again = go(toy(), resume=True)
    assert again.stages == result.stages
    assert times == {p: p.stat().st_mtime_ns
                     for p in Path(cfg.work_dir).rglob('epoch_*.pth')}
    with pytest.raises(PlanError, match='holds a progression already.*--res'):
        go(toy())
    other = toy(order=['swin', 'wide'])
    with pytest.raises(OtherTeacher, match=r"order: \['wide', 'swin'\] there, "
                                           r"\['swin', 'wide'\] here"):
        go(other, resume=True)
    changed = toy()
    changed.mtpd.teachers.swin.checkpoint = _retrained(
        cfg.mtpd.teachers.swin.checkpoint)
    with pytest.raises(OtherTeacher, match='teachers.swin'):
        go(changed, resume=True)
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages_module, 'print_log',
                      lambda text, **_: said.append(text))
        longer = toy()
        longer.train_cfg.update(max_epochs=3)
        assert go(longer, resume=True).stages == result.stages
    assert said[0].startswith("Stage 1 is finished, with {'max_epochs': 2}, "
                              "and train_cfg now has {'max_epochs': 3}. It is "
                              'not trained again')


def _retrained(path: str) -> str:
    content = torch.load(path)
    content['state_dict'] = {
        k: v + 1 if v.is_floating_point() else v
        for k, v in content['state_dict'].items()}
    torch.save(content, path + '.new')
    return path + '.new'


def test_resume_goes_on_in_the_stage_and_epoch_where_it_stopped(
        toy, monkeypatch):
    cfg = toy()
    # In the first step of stage 2, epoch 2.
    steps = stop_before(monkeypatch, cfg, 6 + 4, lambda model: tuple(
        model.guidances[0].adapter.strides))
    work = Path(cfg.work_dir)
    first = (work / 'stage1_wide' / 'student.pth').stat().st_mtime_ns
    assert not (work / 'stage2_swin' / 'student.pth').exists()
    result = go(toy(), resume=True)
    # One epoch of three steps was left, all of them stage 2's.
    assert steps[6 + 4:] == [(8, 16, 32, 64)] * 3
    assert first == (work / 'stage1_wide' / 'student.pth').stat().st_mtime_ns
    assert len(result.stages) == 2
    rates = [line['lr'] for line in scalars(work / 'stage2_swin')]
    assert rates == pytest.approx([.001, .0025, .004, .002, .002, .002])


def test_adapters_survive_a_resume(toy, monkeypatch):
    """The resumed run trains on the saved adapters, not on fresh ones."""
    cfg = toy(order=['swin'])
    go(cfg)
    work = Path(cfg.work_dir) / 'stage1_swin'
    saved = torch.load(work / 'epoch_1.pth', weights_only=True)
    os.remove(work / 'epoch_2.pth')
    os.remove(work / 'student.pth')
    seen = []
    whole = FeatureDistiller.loss

    def look(self, *args):
        seen.append({k: v.clone() for k, v in
                     self.training_parts().state_dict().items()})
        return whole(self, *args)

    monkeypatch.setattr(FeatureDistiller, 'loss', look)
    go(toy(order=['swin']), resume=True)
    parts = saved['mtpd']['training_parts']
    assert parts and parts.keys() == seen[0].keys()
    assert all(torch.equal(parts[k], seen[0][k]) for k in parts)
    assert len(seen) == 3


def test_runner_and_teacher_are_gone_after_their_stage(toy, monkeypatch):
    alive = []
    train = StageRunner.train

    def remember(self):
        gc.collect()
        assert not [r for r in alive if r() is not None]
        alive.extend([weakref.ref(self), weakref.ref(self.model),
                      weakref.ref(self.model.guidances[0].teacher)])
        return train(self)

    monkeypatch.setattr(StageRunner, 'train', remember)
    go(toy())
    gc.collect()
    assert len(alive) == 6
    assert not [r for r in alive if r() is not None]


def test_two_stages_within_a_second_keep_to_themselves(toy, monkeypatch):
    """Same time stamp; logs, scores and files are each stage's own."""
    import mmengine.runner.runner as module
    clock = module.time.strftime
    monkeypatch.setattr(module.time, 'strftime', lambda fmt, *args: (
        '20300101_000000' if fmt.startswith('%Y%m%d_') else clock(fmt, *args)))
    cfg = toy()
    go(cfg)
    work = Path(cfg.work_dir)
    for folder, strides in (('stage1_wide', 'loss_distill_s128'),
                            ('stage2_swin', None)):
        logs = list((work / folder).glob('*/*.log'))
        assert [p.name for p in logs] == ['20300101_000000.log']
        text = logs[0].read_text()
        assert ('loss_distill_s128' in text) == (strides is not None)
        lines = scalars(work / folder)
        assert len(lines) == 6
    for folder in ('stage1_wide', 'stage2_swin'):
        hub = torch.load(work / folder / 'epoch_2.pth',
                         weights_only=True)['message_hub']
        history = hub['log_scalars']['train/loss'].data[0]
        assert len(history) == 6, 'scores of another stage are in this one'


def test_the_best_validated_weights_are_handed_on(toy, monkeypatch):
    # Before; epochs 1 and 2 of stage 1; of stage 2.
    said = iter([.1, .5, .2, .6, .3])
    monkeypatch.setattr(CocoMetric, 'compute_metrics',
                        lambda *_: {'bbox_mAP': next(said)})
    cfg = toy(handover='best')
    cfg.train_cfg.val_interval = 1
    result = go(cfg)
    assert [(s.start_ap, s.end_ap) for s in result.stages] == [
        (10, 50), (50, 60)]
    for stage in result.stages:
        folder = Path(stage.checkpoint).parent
        handed, first, last = (torch.load(path, weights_only=True)[
            'state_dict'] for path in (
            stage.checkpoint, folder / 'epoch_1.pth', folder / 'epoch_2.pth'))
        assert all(torch.equal(handed[k], first[k]) for k in handed)
        assert any(not torch.equal(handed[k], last[k]) for k in handed)


def test_ema_weights_are_handed_on(toy):
    cfg = toy(order=['swin'])
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.3)]
    result = go(cfg)
    raw = torch.load(Path(cfg.work_dir) / 'stage1_swin' / 'epoch_2.pth',
                     weights_only=True)
    handed = torch.load(result.stages[0].checkpoint)['state_dict']
    ema = {k.removeprefix('module.'): v
           for k, v in raw['ema_state_dict'].items() if k != 'steps'}
    # mmengine swaps: state_dict holds the averages, ema_state_dict the raw.
    assert handed.keys() == ema.keys()
    key = 'bbox_head.retina_cls.weight'
    assert torch.equal(handed[key], raw['state_dict'][key])
    assert not torch.equal(handed[key], ema[key])
    assert result.stages[0].end_ap >= 0


def test_a_full_disk_stops_with_a_word_and_loses_nothing(toy, monkeypatch):
    cfg = toy()
    write = atomic_files.atomic_write
    count = []

    def full(path, data):
        if str(path).endswith('epoch_1.pth'):
            count.append(path)
            if len(count) == 2:
                raise OSError(errno.ENOSPC, 'No space left on device')
        return write(path, data)

    monkeypatch.setattr(atomic_files, 'atomic_write', full)
    with pytest.raises(DiskFull,
                       match='No space left.*written before is whole.*--resu'):
        go(cfg)
    work = Path(cfg.work_dir)
    torch.load(work / 'stage1_wide' / 'student.pth')
    assert not list((work / 'stage2_swin').glob('*.pth'))
    monkeypatch.setattr(atomic_files, 'atomic_write', write)
    assert len(go(toy(), resume=True).stages) == 2


STOCK = '''
import importlib.util, sys
spec = importlib.util.spec_from_file_location('operators', sys.argv[1])
operators = importlib.util.module_from_spec(spec)
spec.loader.exec_module(operators)
operators.install_operators()
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmdet.evaluation import CocoMetric
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
init_default_scope('mmdet')
cfg = Config.fromfile(sys.argv[2])
model = MODELS.build(cfg.model).eval()
saved = torch.load(sys.argv[3])        # plain: no allow-list in this process
model.load_state_dict(saved['state_dict'], strict=True)
predictions = []
with torch.no_grad():
    for batch in Runner.build_dataloader(cfg.val_dataloader):
        predictions += [(s.pred_instances.bboxes, s.pred_instances.scores,
                         s.pred_instances.labels)
                        for s in model.val_step(batch)]
assert not [m for m in sys.modules if m.split('.')[0] == 'mtpd']
torch.save(predictions, sys.argv[4])
'''


def test_stock_mmdet_takes_the_export_and_predicts_the_same(
        finished, tmp_path, repository):
    cfg, result = finished
    script = tmp_path / 'stock.py'
    script.write_text(STOCK)
    out = tmp_path / 'predictions.pth'
    subprocess.run(
        [sys.executable, str(script),
         str(repository / 'mtpd/compat/operators.py'),
         str(Path(cfg.work_dir) / 'student.py'), result.student, str(out)],
        check=True, cwd=tmp_path, env={**os.environ, 'OMP_NUM_THREADS': str(
            torch.get_num_threads())})
    stock = torch.load(out)

    stage = Path(cfg.work_dir) / 'stage2_swin'
    distilled = MODELS.build(Config.fromfile(str(next(
        stage.glob('*.py')))).model).eval()
    distilled.load_state_dict(torch.load(
        stage / 'epoch_2.pth', weights_only=True)['state_dict'], strict=True)
    ours = []
    with torch.no_grad():
        for batch in Runner.build_dataloader(cfg.val_dataloader):
            ours += [(s.pred_instances.bboxes, s.pred_instances.scores,
                      s.pred_instances.labels)
                     for s in distilled.val_step(batch)]
    assert len(stock) == len(ours) == 8
    assert sum(len(boxes) for boxes, _, _ in ours) > 0
    for one, other in zip(stock, ours):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


def test_a_stage_config_runs_alone(finished, tmp_path):
    """What a stage dumped is an ordinary config."""
    cfg, _ = finished
    stage = Path(cfg.work_dir) / 'stage2_swin'
    alone = Config.fromfile(str(next(stage.glob('*.py'))))
    alone.work_dir = str(tmp_path / 'alone')
    alone.experiment_name = 'alone'
    alone.visualizer.name = 'alone'
    runner = Runner.from_cfg(alone)
    runner.train()
    ours = torch.load(stage / 'epoch_2.pth', weights_only=True)['state_dict']
    again = torch.load(tmp_path / 'alone' / 'epoch_2.pth',
                       weights_only=True)['state_dict']
    key = 'backbone.layer4.1.conv2.weight'
    torch.testing.assert_close(ours[key], again[key], rtol=1e-3, atol=1e-4)


def test_order_is_found_and_used_again(toy, capsys, monkeypatch):
    cfg = toy(order='bgs')
    result = go(cfg)
    said = capsys.readouterr().out
    assert 'final teacher swin: highest AP 30' in said
    assert result.found.order.teachers[-1] == 'swin'
    folder = Path(cfg.work_dir) / 'order'
    content = json.load(open(folder / 'order.json'))
    assert content['order']['teachers'] == [s.teacher for s in result.stages]
    for name in ('adaptation_cost.png', 'teacher_order.png'):
        assert (folder / name).stat().st_size > 5000
    provenance = torch.load(result.student)['meta']['mtpd']
    assert provenance['costs']['student>swin'] == pytest.approx(
        result.found.costs.cost('student', 'swin'))

    # APs are not taken from there: they may since have been withdrawn.
    measured = toy(order='bgs')
    for teacher in measured.mtpd.teachers.values():
        teacher.ap = None
    plan = make_plan(measured)
    monkeypatch.setattr(measure, 'measured_aps',
                        lambda *_: {'wide': 9., 'swin': 5.})
    assert find_order(plan, build_pool(plan)).order.teachers[-1] == 'wide'

    # Another k needs no new pass over the images.
    plan = make_plan(toy(order='bgs', max_teachers=1))
    found = find_order(plan, build_pool(plan),
                       lambda *_: pytest.fail('measured anew'))
    assert found.order.teachers == ('swin',)


def test_a_teacher_of_twice_the_resolution(toy, monkeypatch):
    """From pipeline to loss: maps meet on the teacher's grid, and an image
    that the student sees at 48x32 is not enlarged for the teacher."""
    cfg = toy(order=['swin'])
    cfg.mtpd.teachers.swin.scale = 2
    cfg.train_dataloader.dataset.pipeline[1].scale = (48, 32)
    cfg.val_dataloader.dataset.pipeline[1].scale = (48, 32)
    seen = []
    whole = FeatureDistiller.loss

    def look(self, inputs, samples, teacher_inputs):
        seen.append((inputs, teacher_inputs['swin']))
        return whole(self, inputs, samples, teacher_inputs)

    monkeypatch.setattr(FeatureDistiller, 'loss', look)
    result = go(cfg)
    assert len(seen) == 6
    for own, theirs in seen:
        assert own.shape == (8, 3, 32, 64)
        assert theirs.shape == (8, 3, 64, 128)
        # Enlarged from the student's image it would be smooth: half of the
        # pixels would follow from the others.
        small = F.interpolate(own, scale_factor=2, mode='bilinear')
        fine = (small - theirs)[:, :, 2:-2, 2:94].abs().mean()
        assert fine > 0.01
        again = F.avg_pool2d(theirs, 2)[:, :, :, :48]
        assert (own[:, :, :, :48] - again).abs().mean() < 0.02
    assert 'sees images at 2 times' in describe_plan(make_plan(cfg))
    assert result.stages[0].teacher == 'swin'


def test_costs_into_a_finer_teacher_are_taken_on_its_grid(toy):
    cfg = toy(order='bgs', strides=(8, 16))
    cfg.mtpd.teachers.swin.scale = 2
    plan = make_plan(cfg)
    pool = build_pool(plan)
    found = find_order(plan, pool)
    # By hand, with one fit over all images, which cross-fitting is near.
    from mtpd.order import fit_linear_map
    folder, = Path(cfg.work_dir).glob('order/moments_????????')
    store = MomentStore.read(str(folder))
    moments = {grid: store.moments(Fraction(grid)) for grid in (1, 2)}
    counts = {grid: sums.over(8, range(10)).count
              for grid, sums in moments.items()}
    assert counts[2] == 4 * counts[1]
    assert found.costs.positions[found.costs.at(8)] == counts[1]
    for grid, target in ((1, 'wide'), (2, 'swin')):
        sums = moments[grid].over(8, range(10), ('student', target))
        weight, bias = fit_linear_map(moments[grid], 8, 'student', target)
        c = weight.shape[1]
        about = sums.about(torch.zeros(len(sums.shift)).double())
        error = (about.outer[c:, c:].trace()
                 - 2 * (weight * about.outer[c:, :c]).sum()
                 - 2 * bias @ about.total[c:]
                 + (weight @ about.outer[:c, :c] * weight).sum()
                 + 2 * bias @ weight @ about.total[:c]
                 + about.count * bias @ bias) / about.count / len(bias)
        cost = found.costs.mse[found.costs.at(8, 'student', target)]
        assert error < cost < 1.6 * error


def test_two_teachers_at_once(toy):
    cfg = toy(order=[['wide', 'swin']])
    cfg.train_cfg.max_epochs = 1
    assert 'Order     wide+swin' in describe_plan(make_plan(cfg))
    result = go(cfg)
    stage, = result.stages
    assert stage.teacher == 'wide+swin'
    first = scalars(Path(cfg.work_dir) / 'stage1_wide+swin')[0]
    names = {k for k in first if k.startswith('loss_distill')}
    assert names == {f'loss_distill_wide_s{s}' for s in (8, 16, 32, 64, 128)} \
        | {f'loss_distill_swin_s{s}' for s in (8, 16, 32, 64)}
    # The mean over teachers: each alone gives twice its share.
    alone = toy(order=['wide'])
    alone.train_cfg.max_epochs = 1
    alone.work_dir += '_alone'
    go(alone)
    other = scalars(Path(alone.work_dir) / 'stage1_wide')[0]
    assert other['loss_distill_s8'] == pytest.approx(
        2 * first['loss_distill_wide_s8'], rel=1e-5)


def test_fitted_adapters_start_below_any_other(toy):
    """The exact start is below an untrained adapter's loss from step one."""
    first = {}
    for start in ('zero', 'fitted'):
        cfg = toy(order=['swin'], init_adapters=start, strides=(8, 16, 64))
        cfg.train_cfg.max_epochs = 1
        # The maps are fitted in eval mode; with batch statistics a random
        # student's are others.
        cfg.model.backbone.norm_eval = True
        cfg.work_dir += start
        go(cfg)
        folder = Path(cfg.work_dir) / 'stage1_swin'
        first[start] = scalars(folder)[0]['loss_distill_s8']
        assert (folder / 'fitted_adapters.pth').is_file() \
            == (start == 'fitted')
    assert first['fitted'] < 0.9 * first['zero']
    # 24 positions at stride 64 fit 17 coefficients perfectly and mean nothing.
    fitted = torch.load(folder / 'fitted_adapters.pth')['swin']
    assert {s: fit['weight'].shape for s, fit in fitted.items()} \
        == {8: (24, 16), 16: (24, 16)}


def test_neck_and_head_of_the_first_teacher_are_inherited(
        toy, retinanet, tmp_path):
    cfg = toy(order=['swin'], inherit=('neck', 'head'))
    with pytest.raises(PlanError, match=r'neck of swin makes maps of strides '
                       r'\(4, 8, 16, 32, 64\), the student.s of \(8, 16'):
        go(cfg)
    cfg = toy(order=['swin'], inherit=('head',))
    with pytest.raises(PlanError, match='no tensor of the first teacher'):
        go(cfg)
    # Nothing was begun: the corrected config may start in the same folder.
    assert not (Path(cfg.work_dir) / 'progression.json').exists()
    student = toy().mtpd.student.checkpoint
    own = str(tmp_path / 'own.py')
    Config(dict(model=retinanet)).dump(own)
    cfg = toy(order=['own'], inherit=('neck',), teachers=dict(own=dict(
        config=own, checkpoint=student, ap=20.)))
    cfg.work_dir += '_own'
    cfg.mtpd.student.checkpoint = None
    go(cfg)
    taken = torch.load(Path(cfg.work_dir) / 'start.pth')['state_dict']
    theirs = torch.load(student)['state_dict']
    assert all(torch.equal(taken[k], theirs[k]) == k.startswith('neck')
               for k in taken if k.endswith(('conv.weight', 'conv1.weight')))


def test_fading_is_seen_in_the_log(toy, monkeypatch):
    cfg = toy(order=['swin'], fade=dict(begin=1, end=1))
    cfg.log_processor = dict(type='LogProcessor', window_size=1)
    assert 'Fades     from epoch 1' in describe_plan(make_plan(cfg))
    stop_before(monkeypatch, cfg, 4, lambda model: None)
    go(cfg, resume=True)  # at the very end of the distillation
    lines = scalars(Path(cfg.work_dir) / 'stage1_swin')
    assert ['loss_distill_idle' in line for line in lines] \
        == [False] * 3 + [True] * 3
    for key in ('loss_distill_s8', 'distill_ratio'):
        assert all(line[key] > 0 for line in lines[:3])
        assert [line[key] for line in lines[3:]] == [0, 0, 0]


@pytest.mark.parametrize('iterations', [2, 5])
def test_the_automatic_weight_survives_a_resume(toy, monkeypatch, iterations):
    """Stopped after the fourth step and resumed after the third: with the
    weight found, and in the middle of looking for it."""
    cfg = toy(order=['swin'], distill=dict(
        type='FeatureL2Loss',
        loss_weight=dict(share=0.5, iterations=iterations)))
    cfg.train_cfg.max_epochs = 2 * iterations // 3 + 1  # twice as long
    factors = stop_before(monkeypatch, cfg, 4, lambda model:
                          model.guidances[0].auto.factor.item())
    go(cfg, resume=True)
    if iterations == 2:
        assert [f > 0 for f in factors[:3]] == [False, False, True]
        assert factors[3:] == [factors[2]] * 4
    else:  # 4 calls, and from the third step on those of the other 9
        assert [f > 0 for f in factors] == [False] * 6 + [True] * 7


def test_nan_stops_with_stage_iteration_level_and_side(toy, monkeypatch):
    cfg = toy(order=['swin'])
    whole = FrozenDetector.__call__
    calls = []

    def poisoned(self, inputs, strides=None):
        maps = whole(self, inputs, strides)
        calls.append(1)
        if len(calls) == 5:
            maps[16][1, 2, 0, 0] = torch.nan
        return maps

    monkeypatch.setattr(FrozenDetector, '__call__', poisoned)
    # A checkpoint whose weights are spoiled, newer than the last good one.
    spoils = Runner.save_checkpoint

    def spoiled(self, out_dir, filename, *args, **kwargs):
        spoils(self, out_dir, filename, *args, **kwargs)
        if 'epoch_1' in filename:
            path = Path(out_dir) / 'epoch_1.pth'
            content = torch.load(path, weights_only=False)
            content['state_dict']['neck.fpn_convs.0.conv.bias'][0] = torch.nan
            torch.save(content, path.with_name('epoch_2.pth'))

    monkeypatch.setattr(Runner, 'save_checkpoint', spoiled)
    with pytest.raises(NotFinite, match=(
            r'stage1_swin, iteration 5 \(epoch 2\): the map of the teacher '
            r'swin at stride 16 .*last good checkpoint is .*epoch_1.pth')):
        go(cfg)
    folder = Path(cfg.work_dir) / 'stage1_swin'
    newest = newest_checkpoint(str(folder))
    assert newest.endswith('epoch_1.pth')
    assert (folder / 'epoch_2.pth.not_finite').exists()
    assert all(v.isfinite().all() for v in torch.load(
        newest, weights_only=False)['state_dict'].values())


def test_a_mechanisms_own_parts_are_resumed_and_not_exported(
        toy, monkeypatch):
    cfg = toy(order=['swin'], distill=dict(type='WeightedSum', losses=[
        dict(type='MGDLoss'), dict(type='FGDLoss'), dict(type='PKDLoss')]))
    steps = stop_before(monkeypatch, cfg, 4, lambda model: {
        k: v.clone() for k, v in
        model.guidances[0].mechanism.state_dict().items()})
    result = go(cfg, resume=True)
    assert len(steps) == 4 + 3
    for key, value in steps[3].items():  # where the stopped run was
        assert torch.equal(value, steps[4][key])
    assert {k.split('.')[1] for k in steps[0]} == {'0', '1'}  # PKD has none
    for part in ('losses.0.', 'losses.1.'):  # and they had learned by then
        assert any(not torch.equal(v, steps[0][k])
                   for k, v in steps[3].items() if k.startswith(part))
    exported = torch.load(result.student)['state_dict']
    plain = MODELS.build(cfg.model).state_dict()
    assert exported.keys() == plain.keys()


def test_adapters_are_fitted_to_the_student_that_is_trained(toy, monkeypatch):
    """Without a checkpoint, whatever the seed: one file is both."""
    cfg = toy(order=['wide'], init_adapters='fitted', strides=(8,))
    cfg.mtpd.student.checkpoint = None
    cfg.randomness.seed = 5
    cfg.train_cfg.max_epochs = 1
    fitted, trained = [], []
    whole = stages_module.fitted_maps

    def look(plan, student, *others):
        fitted.append({k: v.clone() for k, v in student.state_dict().items()})
        return whole(plan, student, *others)

    train = FeatureDistiller.train_step

    def step(self, data, optim_wrapper):
        trained.append({k: v.clone() for k, v in self.state_dict().items()})
        return train(self, data, optim_wrapper)

    monkeypatch.setattr(stages_module, 'fitted_maps', look)
    monkeypatch.setattr(FeatureDistiller, 'train_step', step)
    go(cfg)
    assert all(torch.equal(trained[0][k], v) for k, v in fitted[0].items())


def test_nothing_is_fitted_where_nothing_is_convolved(toy, monkeypatch):
    cfg = toy(order=['swin'], init_adapters='fitted',
              distill=dict(type='AttentionTransferLoss'))
    cfg.train_cfg.max_epochs = 1
    monkeypatch.setattr('mtpd.search.fitted_adapters.gather', None)
    go(cfg)


def test_a_folder_that_cannot_be_made_is_named_before_any_work(toy, tmp_path):
    (tmp_path / 'file').write_text('')
    for order in ('bgs', ['swin']):
        cfg = toy(order=order)
        cfg.work_dir = str(tmp_path / 'file' / 'work')
        with pytest.raises(PlanError, match='cannot be written.*--work-dir'):
            go(cfg)
