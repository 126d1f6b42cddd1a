"""benchmarks/many_widths.py: widths that share weights, a step of several, and
the files."""
import copy
import json
import sys

import evidence.store
import many_widths as benchmark
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper

from mtpd.compress import narrowed, sliced_detector
from mtpd.compress.calibrate import IMAGES, recalibrate
from mtpd.compress.errors import CannotSlice
from mtpd.compress.trace import raw_outputs
from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import load_config

SHARES = (1, .5, .25)


@pytest.fixture(scope='module', params=['retinanet', 'caffe_fcos'])
def network(request, toy_in, checkpoint_of, tmp_path_factory):
    """A network that is not trained, its config and checkpoint; FCOS has group
    norms, of which a width of .25 leaves one channel a group."""
    cfg = toy_in(tmp_path_factory.mktemp('network'))
    cfg.model = copy.deepcopy(request.getfixturevalue(request.param))
    checkpoint = checkpoint_of(cfg.model, 5, request.param)
    return benchmark.many_widths(cfg, checkpoint, SHARES), cfg, checkpoint


def raw(detector):
    torch.manual_seed(1)
    with torch.no_grad():
        return raw_outputs(detector.eval(), detector.backbone(
            torch.randn(2, 3, 64, 96)))


def test_without_training_each_width_is_its_slice(network):
    network, cfg, checkpoint = network
    whole = network.widths[0].detector
    original = build_detector(cfg.model, checkpoint)
    for one, other in zip(raw(whole), raw(original), strict=True):
        assert torch.equal(one, other)
    for width in network.widths:
        result = narrowed(cfg.model, width.share)
        expected = sliced_detector(original, result.model)
        if width.share < 1:
            recalibrate(expected, cfg, IMAGES)
        found = width.detector.state_dict()
        assert found.keys() == expected.state_dict().keys()
        for key, value in expected.state_dict().items():
            assert torch.equal(found[key], value), key


def test_batch_norms_of_one_position_need_two_images(toy, retinanet):
    """In the neck; P7 of a 96x64 image is one position."""
    cfg = toy()
    model = copy.deepcopy(retinanet)
    model.neck.norm_cfg = dict(type='SyncBN')
    detector = build_detector(model)
    assert recalibrate(detector, cfg, 2) == 2
    with pytest.raises(CannotSlice, match='cannot be measured on one image'):
        recalibrate(detector, cfg, 1)


def test_each_width_is_a_part_of_the_wider_one(network):
    network, *_ = network
    for wide, small in zip(network.widths, network.widths[1:]):
        for name, place in small.places.items():
            assert place.unique().numel() == place.numel()
            assert torch.isin(place, wide.places[name]).all(), name
    counts = [sum(place.numel() for place in width.places.values())
              for width in network.widths]
    assert counts[0] > counts[1] > counts[2]


def test_equal_channels_are_in_the_order_of_their_places(network):
    """As channels are that training has made zero."""
    _, cfg, checkpoint = network
    original = build_detector(cfg.model, checkpoint)
    for parameter in original.parameters():
        parameter.data.fill_(.5)
    scores = benchmark.scores_of(original, narrowed(cfg.model, .25))
    for score in scores.values():
        order = score.argsort(descending=True).tolist()
        assert order == list(range(len(score)))


def test_a_step_sums_the_gradients_of_its_widths(network):
    network, *_ = network
    network = copy.deepcopy(network).train()
    batch = demo_mm_inputs(2, [[3, 96, 64], [3, 64, 96]], num_classes=5)
    expected = {name: torch.zeros_like(value)
                for name, value in network.shared.items()}
    before = copy.deepcopy(network.shared)
    taught_by = None
    for width in network.widths:
        plain = build_detector(width.model)
        plain.load_state_dict(width.detector.state_dict())
        plain.train()
        data = plain.data_preprocessor(copy.deepcopy(batch), True)
        loss, _ = plain.parse_losses(plain(**data, mode='loss'))
        outputs = raw_outputs(plain, plain.backbone(data['inputs']))
        if taught_by is None:
            taught_by = [one.detach() for one in outputs]
        else:
            for one, other in zip(outputs, taught_by, strict=True):
                loss = loss + .1 * (one - other).square().mean()
        loss.backward()
        for name, value in plain.named_parameters():
            if value.grad is not None:
                expected[name].view(-1).index_add_(
                    0, width.places[name].flatten(), value.grad.flatten())
    optimizer = torch.optim.SGD(network.parameters(), lr=1.)
    log = network.train_step(batch, OptimWrapper(optimizer))
    assert log['loss'] == sum(
        log[f'loss_{name}'] for name in ('whole', 'between', 'smallest'))
    for name, value in network.shared.items():
        found = before[name] - value
        limit = 1e-4 * expected[name].abs().max() + 1e-6
        assert (found - expected[name]).abs().max() <= limit, name
    trained = {name for name, value in network.shared.items()
               if value.requires_grad}
    assert trained == {name for name, value in expected.items()
                       if value.any()}


def test_widths_between_are_drawn(network):
    network, *_ = network
    whole, half, quarter = network.widths
    network = copy.copy(network)
    network.widths = (whole, half, 'another', quarter)
    steps = [dict(network.chosen()) for _ in range(50)]
    assert {step['between'] for step in steps} == {half, 'another'}
    network.widths = (whole, quarter)
    assert dict(network.chosen()) == dict(whole=whole, smallest=quarter)


def test_a_shortened_schedule():
    schedule = [ConfigDict(type='LinearLR', by_epoch=False, begin=0, end=26),
                ConfigDict(type='MultiStepLR', milestones=[8, 11], end=12),
                ConfigDict(type='CosineAnnealingLR', T_max=12)]
    warm_up, steps, cosine = benchmark.shortened(schedule, .5)
    assert warm_up == schedule[0] and cosine.T_max == 6
    assert steps.milestones == [4, 6] and steps.end == 6
    assert schedule[2].T_max == 12
    assert benchmark.shortened(schedule[2], .5) == [cosine]


@pytest.fixture
def command(mine, tmp_path, monkeypatch):
    """The benchmark, run in the folder of my.py; its results are returned."""
    def run(*words):
        monkeypatch.chdir(mine[0])
        monkeypatch.setattr(evidence.store, 'FOLDER', tmp_path)
        monkeypatch.setattr(sys, 'argv', [
            'many_widths.py', 'my.py', 'my.pth', *map(str, words)])
        benchmark.main()
        lines = (tmp_path / 'many_widths.jsonl').read_text().splitlines()
        return [json.loads(line) for line in lines]
    return run


def test_the_command(command, mine, tmp_path, capsys):
    line, = command('--widths', *SHARES, '--epochs', 1, '--out', tmp_path)
    start = torch.load(mine[0] / 'my.pth', weights_only=True)['state_dict']
    said, files = capsys.readouterr().out, {}
    for name, key in (('w100', '1'), ('w50', '0.5'), ('w25', '0.25')):
        path = tmp_path / f'my_{name}.py'
        detector = build_detector(load_config(str(path)).model,
                                  str(path.with_suffix('.pth')))
        files[name] = dict(detector.named_parameters())
        count = sum(value.numel() for value in files[name].values())
        assert line['parameters'][key] == count and f'{count:,}' in said
        assert 0 <= line['AP'][key] <= 100
    # A gradient can be too small for a step of one epoch.
    unchanged = [key for key, value in files['w100'].items()
                 if torch.equal(value, start[key])]
    assert len(unchanged) < len(files['w100']) / 10
    for key, value in files['w100'].items():
        assert torch.isin(files['w50'][key], value).all()
        assert torch.isin(files['w25'][key], files['w50'][key]).all()
    assert line['job'] == 'my.py seed 0' and line['epochs'] == 1
    assert str(tmp_path) not in json.dumps(line)
    assert line['made_with']['torch-pruning']
    assert line['AP'].keys() == {'original', '1', '0.5', '0.25'}


def test_what_cannot_be_run(command, capsys):
    with pytest.raises(SystemExit) as stop:
        command('--widths', .5, .25)
    assert '--widths needs 1 and at least one smaller' in ' '.join(
        f'{stop.value} {capsys.readouterr().err}'.split())
