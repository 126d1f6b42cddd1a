"""Costs and order: from disk where they belong to the config, else
measured."""
import hashlib
import json
import os
import re
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from mmdet.registry import MODELS
from PIL import Image

from commands import run_command, run_two

from mtpd.order import AdaptationCosts
from mtpd.plan.pool import build_pool
from mtpd.progression import PlanError, make_plan
from mtpd.search import exact, find_order as search_module, found_order
from mtpd.search.find_order import find_order
from mtpd.search.found_order import FoundOrder, reorder
from mtpd.search.moment_store import MomentStore

def moments_in(work_dir) -> MomentStore:
    folder, = Path(work_dir).glob('order/moments_????????')
    return MomentStore.read(str(folder))


# Of toy maps the coarse levels have fewer positions than coefficients.
pytestmark = pytest.mark.filterwarnings('ignore:At stride')
LEVELS = (8, 16)


class Search:
    """Searches of one work dir, their messages and their passes."""

    def __init__(self, monkeypatch):
        self.messages, self.steps, self.known = [], [], []
        for module in ('exact', 'find_order', 'found_order', 'moment_store'):
            monkeypatch.setattr(
                f'mtpd.search.{module}.print_log',
                lambda text, **_: self.messages.append(text))
        # Half of a toy's search; test_the_file_holds_everything puts it back.
        self.latencies = search_module.measured_latencies
        monkeypatch.setattr(search_module, 'measured_latencies',
                            lambda _, pool, *rest: dict.fromkeys(pool, .01))
        gather = exact.gather
        monkeypatch.setattr(exact, 'gather', lambda *args: (
            self.known.append(args[1].known), gather(*args))[1])

    def __call__(self, cfg) -> FoundOrder:
        for record in (self.messages, self.steps, self.known):
            record.clear()
        plan = make_plan(cfg)
        return find_order(plan, build_pool(plan),
                          lambda *done: self.steps.append(done))

    def printed(self, words: str) -> bool:
        """Whether a message matches."""
        return any(re.search(words, text) for text in self.messages)

    @property
    def measured(self) -> int:
        """The number of images that ran through the detectors."""
        return sum(max(0, b[0] - a[0])
                   for a, b in zip(self.steps, self.steps[1:]))


@pytest.fixture
def search(monkeypatch):
    return Search(monkeypatch)


def with_third(cfg, tmp_path, name='third', spoil=1e-3, ap=29.):
    """Add a slightly disturbed copy of the best teacher."""
    swin = cfg.mtpd.teachers.swin
    copied = torch.load(swin.checkpoint)
    torch.manual_seed(0)
    for value in copied['state_dict'].values():
        if value.is_floating_point():
            value += spoil * value.abs().mean() * torch.randn_like(value)
    path = str(tmp_path / f'{name}.pth')
    torch.save(copied, path)
    cfg.mtpd.teachers[name] = dict(config=swin.config, checkpoint=path, ap=ap)
    return cfg


def assert_same_costs(one, other, tolerance=1e-4):
    assert one.names == other.names and one.strides == other.strides
    for pair in one.pairs:
        assert one.cost(*pair) == pytest.approx(other.cost(*pair),
                                                rel=tolerance)


def test_a_result_on_disk_is_used_again(toy, search):
    first = search(toy(order='bgs', strides=LEVELS))
    assert search.measured == 24
    again = search(toy(order='bgs', strides=LEVELS))
    assert search.measured == 0 and search.printed('Costs taken from')
    assert again.costs == first.costs
    # From the sums without the result, then the other way round.
    path = Path(toy().work_dir) / 'order'
    os.remove(path / 'order.json')
    assert search(toy(order='bgs', strides=LEVELS)).costs == first.costs
    assert search.measured == 0 and not search.printed('again')
    shutil.rmtree(moments_in(toy().work_dir).folder)
    assert search(toy(order='bgs', strides=LEVELS)).costs == first.costs


def test_the_file_holds_everything(toy, search, monkeypatch):
    monkeypatch.setattr(search_module, 'measured_latencies', search.latencies)
    found = search(toy(order='bgs', strides=LEVELS, max_teachers=1))
    content = json.load(open(Path(toy().work_dir) / 'order/order.json'))
    assert FoundOrder.from_json(content) == FoundOrder.from_json(
        json.loads(json.dumps(found.to_json())))
    assert content['schema'] == 3
    made = content['made_with']
    assert made['detectors']['swin']['checkpoint'] == \
        toy().mtpd.teachers.swin.checkpoint
    assert made['costs']['images'] is None and made['pictures'] == 24
    assert made['command'] == sys.argv
    assert made['versions']['torch'] == torch.__version__
    assert set(content['latencies']) == {'student', 'wide', 'swin'}
    assert all(0 < s < 10 for s in content['latencies'].values())
    assert content['costs']['positions'] == {'8': 24 * 96, '16': 24 * 24}
    errors = content['costs']['folds']
    for source, target in (('student', 'swin'), ('swin', 'wide')):
        for stride in ('8', '16'):
            counts = errors['positions'][target][stride]
            assert sum(counts) == content['costs']['positions'][stride]
            assert sum(errors['errors'][source][target][stride]) / sum(
                counts) == pytest.approx(
                content['costs']['mse'][source][target][stride])
    for broken in (dict(certainty=None), dict(certainty=2),
                   dict(student_ap='x'), dict(latencies=None),
                   dict(latencies=dict(student='x')),
                   dict(costs={**content['costs'], 'mse': None}),
                   dict(costs={**content['costs'], 'variance': []}),
                   dict(costs={**content['costs'], 'folds': dict(
                       errors, positions=None)})):
        with pytest.raises(ValueError):
            FoundOrder.from_json({**content, **broken})


@pytest.mark.parametrize('spoil', [
    '{', '{"schema": 99}', '{"schema": 3}'])
def test_a_result_that_cannot_be_read_is_reported(toy, search, spoil):
    first = search(toy(order='bgs', strides=LEVELS))
    (Path(toy().work_dir) / 'order/order.json').write_text(spoil)
    assert search(toy(order='bgs', strides=LEVELS)).costs == first.costs
    assert search.printed('cannot be used') and search.measured == 0


def test_a_new_teacher_is_added_to_the_known_ones(toy, search, tmp_path):
    before = search(toy(order='bgs', strides=LEVELS))
    added = search(with_third(toy(order='bgs', strides=LEVELS), tmp_path))
    assert search.measured == 24
    assert search.known[0] == ('student', 'swin', 'wide')
    assert search.printed('only products with third are added')
    assert added.costs.names == ('student', 'swin', 'wide', 'third')
    for pair in before.costs.pairs:
        assert added.costs.cost(*pair) == pytest.approx(
            before.costs.cost(*pair), rel=1e-9)
    cfg = with_third(toy(order='bgs', strides=LEVELS), tmp_path)
    cfg.work_dir = str(tmp_path / 'fresh')
    assert_same_costs(added.costs, search(cfg).costs)
    # Without it nothing is measured, and its sums are kept.
    assert search(toy(order='bgs', strides=LEVELS)).costs.names == (
        'student', 'swin', 'wide')
    assert search.measured == 0
    search(with_third(toy(order='bgs', strides=LEVELS), tmp_path))
    assert search.measured == 0


def test_a_changed_checkpoint_is_reported_and_measured_again(
        toy, search, tmp_path):
    cfg = with_third(toy(order='bgs', strides=LEVELS), tmp_path)
    search(cfg)
    # A head does not change the maps.
    cfg.model.test_cfg.score_thr = 0.5
    search(cfg)
    assert search.measured == 0
    changed = with_third(toy(order='bgs', strides=LEVELS), tmp_path,
                         spoil=1e-1)
    found = search(changed)
    assert search.printed(r"detectors\.third\.checkpoint: '\w{64}' there, "
                       r"'\w{64}' here")
    assert search.known[0] == ('student', 'swin', 'wide')
    changed.work_dir = str(tmp_path / 'fresh')
    assert_same_costs(found.costs, search(changed).costs)


def test_other_data_is_not_mixed(toy, search):
    search(toy(order='bgs', strides=LEVELS))
    found = search(toy(order='bgs', strides=LEVELS, costs=dict(split='val')))
    assert search.printed("data.split: 'train' there, 'val' here")
    assert search.measured == 8
    assert found.costs.positions[found.costs.at(8)] == 96 * 8


def test_moments_of_another_precision_are_not_used(toy, search, monkeypatch):
    rounded = search(toy(order='bgs', strides=LEVELS))
    for module in ('find_order', 'gather'):
        monkeypatch.setattr(f'mtpd.search.{module}.PRECISION', 'float64')
    exactly = search(toy(order='bgs', strides=LEVELS))
    assert search.printed("precision: 'float32' there, 'float64' here")
    assert search.measured == 24
    for found in (rounded, exactly):
        costs = found.costs
        limit = costs.resolution[costs.at(8, 'student', 'swin')] \
            / costs.variance[costs.at(8, 'swin')]
        assert (limit < 1e-8) == (found is exactly)


def test_results_and_moments_of_the_version_before_are_used(toy, search):
    """Its order.json held more settings, and its folder of moments is named
    by a hash of five entries."""
    first = search(toy(order='bgs', strides=LEVELS))
    order = Path(toy().work_dir) / 'order'
    content = json.loads((order / 'order.json').read_text())
    data = content['belongs_to']['data']
    assert data == dict(
        split='train', pictures=data['pictures'], padding=32, folds=10,
        precision='float32', stride4_share=None, strides=[8, 16],
        grids=['1'])
    assert set(content['belongs_to']) == {'data', 'detectors', 'estimator'}
    assert content['belongs_to']['estimator'] == 'exact'
    assert all(set(entry) == {'checkpoint', 'maps', 'scale'}
               for entry in content['belongs_to']['detectors'].values())
    text = ('{"folds": 10, "padding": 32, "pictures": "PICTURES", '
            '"precision": "float32", "split": "train"}')
    digest = hashlib.sha256(text.replace(
        'PICTURES', data['pictures']).encode()).hexdigest()
    assert moments_in(toy().work_dir).folder == str(
        order / f'moments_{digest[:8]}')
    content['made_with']['costs'].update(
        estimator='exact', epochs=12, lr=0.01, precision='float32',
        stride4_share=0.25)
    (order / 'order.json').write_text(json.dumps(content))
    again = search(toy(order='bgs', strides=LEVELS))
    assert search.measured == 0 and search.printed('Costs taken from')
    assert again.costs == first.costs
    # Costs by gradient descent, which that version had too, are others.
    content['belongs_to'].update(estimator='sgd', epochs=12, lr=0.01)
    (order / 'order.json').write_text(json.dumps(content))
    again = search(toy(order='bgs', strides=LEVELS))
    assert search.printed("estimator: 'sgd' there, 'exact' here")
    assert search.measured == 0 and again.costs == first.costs


def test_detectors_are_left_as_they_were_found(toy, search):
    plan = make_plan(toy(order='bgs', strides=LEVELS))
    pool = build_pool(plan)
    pool['student'].train().backbone.eval()
    pool['student'].neck.requires_grad_(False)

    def states():
        return {name: ([module.training for module in detector.modules()],
                       [p.requires_grad for p in detector.parameters()])
                for name, detector in pool.items()}

    before = states()
    find_order(plan, pool)
    assert states() == before
    assert pool['student'].training and not pool['student'].backbone.training


def test_no_products_are_put_beside_those_of_convolutions_in_tf32(
        toy, search, monkeypatch, tmp_path):
    """Moments of a GPU and a version that did not turn TF32 off."""
    monkeypatch.setattr(exact, 'versions',
                        lambda: dict(torch='2.11', device='cuda'))
    search(toy(order='bgs', strides=LEVELS))
    store = moments_in(toy().work_dir)
    assert store.made_on == dict(torch='2.11', device='cuda', tf32='off')
    path = Path(store.folder) / 'moments.json'
    content = json.loads(path.read_text())
    del content['made_on']['tf32']
    path.write_text(json.dumps(content))
    search(with_third(toy(order='bgs', strides=LEVELS), tmp_path))
    assert search.printed("tf32: None there, 'off' here")
    assert search.known[0] == () and search.measured == 24


def test_the_order_is_chosen_once_a_sample_and_written_once(toy, search,
                                                          monkeypatch):
    calls = []
    for module, name in ((search_module, 'backward_greedy_selection'),
                         (found_order, 'decision_margins'),
                         (found_order, 'atomic_write')):
        function = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *args, name=name, function=function: (
                calls.append(name), function(*args))[1])
    monkeypatch.setattr(exact, 'FIRST_SAMPLE', 12)
    search(toy(order='bgs', strides=(8,), costs=dict(images='auto')))
    assert search.printed('12 of 24') and search.printed('24 of 24')
    assert calls == ['backward_greedy_selection', 'decision_margins'] * 2 + [
        'decision_margins', 'atomic_write']


def test_more_images_are_added_to_fewer(toy, search):
    few = search(toy(order='bgs', strides=LEVELS, costs=dict(images=12)))
    assert search.measured == 12
    assert few.costs.positions[few.costs.at(8)] == 12 * 96
    whole = search(toy(order='bgs', strides=LEVELS))
    assert search.measured == 12
    assert whole.costs.positions[whole.costs.at(8)] == 24 * 96
    fewer = search(toy(order='bgs', strides=LEVELS, costs=dict(images=6)))
    assert search.measured == 0
    assert search.printed('Costs taken from .*, of 24 images')
    assert fewer.costs == whole.costs


def test_fewer_levels_need_no_new_pass(toy, search):
    whole = search(toy(order='bgs', strides=(8, 16, 32)))
    few = search(toy(order='bgs', strides=(16,)))
    assert search.measured == 0
    assert few.costs == whole.costs.restricted(strides=[16])


def test_replaced_images_are_noticed(toy, search, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / 'data')
    cfg = toy(order='bgs', strides=LEVELS)
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'data')
    before = search(cfg)
    search(cfg)
    assert search.measured == 0
    for path in (tmp_path / 'data' / 'train').iterdir():
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.ROTATE_180)
        turned.save(path, quality=60)
    after = search(cfg)
    assert search.measured == 24 and search.printed('data.pictures: ')
    assert after.costs != before.costs


def test_a_trial_on_other_images_loses_nothing(toy, search):
    first = search(toy(order='bgs', strides=LEVELS))
    search(toy(order='bgs', strides=LEVELS, costs=dict(split='val')))
    assert search.measured == 8
    assert search(toy(order='bgs', strides=LEVELS)).costs == first.costs
    assert search.measured == 0


def test_a_student_without_a_checkpoint_is_its_own_initialisation(
        toy, search, tmp_path, retinanet):
    torch.manual_seed(0)
    weights = MODELS.build(retinanet).backbone.state_dict()
    for value in weights.values():
        if value.is_floating_point():
            value += 0.01 * torch.rand_like(value)
    torch.save(weights, tmp_path / 'backbone.pth')
    cfg = toy(order='bgs', strides=LEVELS)
    cfg.mtpd.student.checkpoint = None
    plain = search(cfg)
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    pretrained = search(cfg)
    assert search.printed('detectors.student.checkpoint')
    assert pretrained.costs.cost('student', 'swin') != pytest.approx(
        plain.costs.cost('student', 'swin'), rel=1e-3)
    assert pretrained.costs.cost('wide', 'swin') == pytest.approx(
        plain.costs.cost('wide', 'swin'), rel=1e-6)
    torch.save({k: v * 1.01 if v.is_floating_point() else v
                for k, v in weights.items()},
               tmp_path / 'backbone.pth')
    search(cfg)
    assert search.measured == 24


def test_a_reordered_file_is_not_used_for_the_whole_pool(toy, search):
    whole = search(toy(order='bgs', strides=LEVELS))
    path = Path(toy().work_dir) / 'order/order.json'
    path.write_text(json.dumps(reorder(whole, ['swin'],
                                       strides=[16]).to_json()))
    assert search(toy(order='bgs', strides=LEVELS)).costs == whole.costs
    assert search.printed('chosen_anew') and search.measured == 0


def test_a_latency_that_cannot_be_measured_stops_nothing(toy, search,
                                                         monkeypatch):
    def fails(*_):
        raise ImportError('no panopticapi')

    monkeypatch.setattr(search_module, 'measured_latencies', fails)
    assert search(toy(order='bgs', strides=LEVELS)).latencies == {}
    assert search.printed('Latencies were not measured .*no panopticapi')
    assert (Path(toy().work_dir) / 'order/order.json').exists()


def test_two_runs_do_not_write_to_one_place(toy, search):
    search(toy(order='bgs', strides=LEVELS, costs=dict(images=6)))
    lock = FileLock(moments_in(toy().work_dir).folder + '.lock')
    with lock, pytest.raises(PlanError, match='Another run is measuring'):
        search(toy(order='bgs', strides=LEVELS))
    search(toy(order='bgs', strides=LEVELS))
    assert search.measured == 18


def test_a_level_that_auto_cannot_use_is_named_each_time(toy, search,
                                                         monkeypatch):
    monkeypatch.setattr(exact, 'FIRST_SAMPLE', 12)
    for _ in range(2):  # the second time from what was saved
        cfg = toy(order='bgs', strides=(8, 128), costs=dict(images='auto'))
        cfg.mtpd.teachers.pop('swin')  # the others have stride 128
        cfg.train_dataloader.dataset.pipeline[1].scale = (48, 32)
        cfg.val_dataloader.dataset.pipeline[1].scale = (48, 32)
        with pytest.raises(PlanError, match='position at stride 128'):
            search(cfg)


def test_one_detector_at_a_time(toy, search, tmp_path):
    together = search(toy(order='bgs', strides=LEVELS))
    cfg = toy(order='bgs', strides=LEVELS, costs=dict(sequential=.001))
    cfg.work_dir = str(tmp_path / 'other')
    assert search(cfg).costs == together.costs
    assert search.printed('up to 0.001 GiB of maps per process are in')
    cfg.mtpd.costs.sequential = 1e9
    cfg.work_dir = str(tmp_path / 'no room')
    with pytest.raises(PlanError, match='sequential is 1e.09 GiB.*has room'):
        search(cfg)


def test_constant_maps_are_named(toy, search, tmp_path):
    cfg = with_third(toy(order='bgs', strides=LEVELS), tmp_path, 'dead')
    content = torch.load(cfg.mtpd.teachers.dead.checkpoint)
    for key, value in content['state_dict'].items():
        if key.startswith('neck.fpn_convs.2') and key.endswith('weight'):
            value.zero_()
    torch.save(content, cfg.mtpd.teachers.dead.checkpoint)
    with pytest.raises(PlanError, match='maps of dead do not vary at stride '
                                        '16: every channel.*mtpd.strides'):
        search(cfg)


def test_maps_that_are_not_finite_are_named(toy, search, tmp_path):
    cfg = with_third(toy(order='bgs', strides=LEVELS), tmp_path, 'broken')
    content = torch.load(cfg.mtpd.teachers.broken.checkpoint)
    content['state_dict']['neck.fpn_convs.1.conv.bias'][0] = torch.nan
    torch.save(content, cfg.mtpd.teachers.broken.checkpoint)
    with pytest.raises(PlanError, match='broken at stride 8 .*not finite'):
        search(cfg)


def test_a_level_that_a_detector_lacks_is_named(toy, search):
    with pytest.raises(PlanError, match=r'strides asks for \[4\]'):
        search(toy(order='bgs', strides=(4,)))


def test_a_saved_order_is_changed_without_a_pass(toy, search, tmp_path):
    found = search(with_third(toy(order='bgs', strides=LEVELS), tmp_path))
    fewer = reorder(found, ['wide', 'swin'], max_teachers=1, strides=[8])
    assert fewer.order.teachers == ('swin',)
    assert fewer.costs == found.costs.restricted(
        ['student', 'wide', 'swin'], [8])
    assert fewer.latencies == found.latencies
    with pytest.raises(ValueError, match='occurs twice'):
        reorder(found, ['swin', 'swin'])
    turned = reorder(replace(found, student_ap=10.), ['student', 'swin'],
                     student='wide')
    assert turned.aps == dict(student=10., swin=30.)
    other = reorder(found, ['third', 'swin'], student='wide')
    assert other.student == 'wide' and other.student_ap == 20.
    with pytest.raises(ValueError, match='3 teachers were asked for, and the '
                                         'pool has 2'):
        reorder(found, ['wide', 'swin'], max_teachers=3)
    with pytest.raises(ValueError, match='No AP of'):
        reorder(found, ['nobody'])


def test_certainty_is_a_setting(toy, search):
    cfg = toy(order='bgs', strides=LEVELS, costs=dict(certainty=1e-9))
    lenient = search(cfg)
    assert all(d.certain for d in lenient.decisions() if d.compared)
    cfg.mtpd.costs.certainty = 1 - 1e-15
    strict = search(cfg)
    assert search.measured == 0  # it does not depend on the images
    assert not any(d.certain for d in strict.decisions() if d.compared)
    content = json.loads(json.dumps(strict.to_json()))
    assert FoundOrder.from_json(content).certainty == 1 - 1e-15


def test_auto_images_stop_as_soon_as_every_decision_is_certain(
        toy, search, monkeypatch, tmp_path):
    """The first sample has 12 of 24 images. It is certain there that a
    slightly disturbed copy of the last teacher is nearest to it. Whether the
    student or the other teacher is nearer is not, so more images are
    measured."""
    monkeypatch.setattr(exact, 'FIRST_SAMPLE', 12)
    auto = toy(order='bgs', costs=dict(images='auto'), strides=(8,))
    search(auto)
    assert search.measured == 24
    assert search.printed(
        '12 of 24 .*not certain: stop before swin: the student')
    assert search.printed(
        '24 of 24 .*not certain: .*; there are no more images')

    auto = with_third(auto, tmp_path, 'near')
    auto.mtpd.max_teachers = 2
    auto.work_dir = str(tmp_path / 'auto')
    certain = search(auto)
    assert search.measured == 12
    assert search.printed('12 of 24 .*near > swin, every decision certain')
    search(auto)
    assert search.measured == 0 and search.printed('Costs taken from')
    everything = toy(order='bgs', strides=(8,), max_teachers=2)
    everything.mtpd.teachers = auto.mtpd.teachers
    everything.work_dir = auto.work_dir
    whole = search(everything)
    assert search.measured == 0 and search.printed('Costs taken from')
    everything.mtpd.costs = dict(images='all')  # by name
    whole = search(everything)
    assert search.measured == 12
    assert certain.order.teachers == whole.order.teachers
    decisions = [d for d in certain.decisions() if d.compared]
    assert [d.certain for d in decisions] == [True]
    # One more decision, which is not certain: all images are measured.
    auto.mtpd.max_teachers = 3
    auto.work_dir = str(tmp_path / 'more')
    search(auto)
    assert search.measured == 24


KILLED = """
import os, runpy, signal, sys
import mtpd.search.gather as module
from mtpd.progression import show_order
module.SAVE_SECONDS = 0  # after every batch
find = show_order.find_order

def dies(plan, pool, progress):
    return find(plan, pool, lambda done, total: done < 13 or os.kill(
        os.getpid(), signal.SIGKILL))

show_order.find_order = dies
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_killed_and_started_again(toy, search, repository, tmp_path):
    """kill -9 in the middle of the command; the next one uses its sums."""
    cfg = toy(order='bgs', strides=LEVELS)
    cfg.val_dataloader.batch_size = 2
    cfg.dump(str(tmp_path / 'toy.py'))
    (tmp_path / 'killed.py').write_text(KILLED)
    done = run_command(tmp_path / 'killed.py', 'tools/bgs_order.py',
                       tmp_path / 'toy.py', cwd=repository)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    resumed = search(cfg)
    # Saved after every batch of two; the last one's was on its way.
    assert 0 < 24 - search.measured <= 13
    assert search.steps[0][0] == 24 - search.measured
    cfg.work_dir = str(tmp_path / 'undisturbed')
    assert_same_costs(resumed.costs, search(cfg).costs, 1e-6)
    assert search.measured == 24


def test_two_processes_find_the_same(toy, repository, tmp_path):
    """The whole command: APs, costs and order. The batches are the same, so
    the sums differ only by the order of addition."""
    cfg = toy(order='bgs', strides=LEVELS)
    for teacher in cfg.mtpd.teachers.values():
        teacher.ap = None
    cfg.val_dataloader.batch_size = 2
    cfg.dump(str(tmp_path / 'toy.py'))
    words = 'tools/bgs_order.py', tmp_path / 'toy.py', '--work-dir'
    runs = {'one': [run_command(*words, tmp_path / 'one', cwd=repository)],
            'two': run_two(*words, tmp_path / 'two', '--launcher', 'pytorch',
                           cwd=repository)}
    found = []
    for name, processes in runs.items():
        for done in processes:
            assert done.returncode == 0, done.stderr[-3000:]
        # Only one process prints.
        assert sum(d.stdout.count('Order: ') for d in processes) == 1
        content = json.load(open(tmp_path / name / 'order/order.json'))
        found.append((content, moments_in(tmp_path / name)))
    (one, moments), (two, others) = found
    assert one['aps'] == two['aps'] and max(one['aps'].values()) > 0
    assert one['student_ap'] == two['student_ap']
    assert one['order'] == two['order']
    assert sorted(moments.done) == sorted(others.done) == [*range(24)]
    for stride in LEVELS:
        for fold in moments.moments(1).filled_folds(stride):
            first, second = (store.moments(1).over(stride, [fold])
                             for store in (moments, others))
            assert torch.equal(first.shift, second.shift)
            assert first.count == second.count
            torch.testing.assert_close(first.outer, second.outer, rtol=1e-10,
                                       atol=1e-10)
    costs, others = (AdaptationCosts.from_json(c['costs'])
                     for c in (one, two))
    assert_same_costs(costs, others, 1e-5)
